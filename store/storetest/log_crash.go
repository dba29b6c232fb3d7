package storetest

import (
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/store"
)

// Entries is the workload of a rendezvous that is killed while accounts grow:
// a chain and its entry of the log are there together or not at all, and every
// root that was told is still that of its size.
func Entries(over func(store.KV) (store.Rendezvous, error)) Crash {
	const writers = 4
	writer := func(w int) string { return fmt.Sprint("writer", w) }
	return Crash{
		Name: "entries",
		Work: func(kv store.KV, ack func(string, ...any)) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			errs := make(chan error)
			for w := range writers {
				go func() { errs <- grow(r, writer(w), ack) }()
			}
			return <-errs
		},
		Check: func(kv store.KV, acks []string) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			leaves, err := wholeLog(r)
			if err != nil {
				return err
			}
			var statements uint64
			for w := range writers {
				a, err := r.Account(ctx, accountID(writer(w)))
				if err != nil {
					continue // killed before it was registered
				}
				statements += a.ChainSeq
				if err := latest(r, leaves, a.Name); err != nil {
					return err
				}
			}
			if statements != uint64(len(leaves)) {
				return fmt.Errorf("%d entries for %d statements", len(leaves), statements)
			}
			return checkRoots(r, acks)
		},
	}
}

// grow adds one statement after the other to an account, and acknowledges each
// with the head of the log after it.
func grow(r store.Rendezvous, name string, ack func(string, ...any)) error {
	if err := r.Register(ctx, registration(name, 1)); err != nil {
		return err
	}
	a, err := r.Account(ctx, accountID(name))
	if err != nil {
		return err
	}
	for seq := a.ChainSeq + 1; ; seq++ {
		if err := r.SetChain(ctx, chain(name, seq, 0)); err != nil {
			return err
		}
		size, err := r.LogSize(ctx)
		if err != nil {
			return err
		}
		root, err := tlog.TreeHash(int64(size), tree(r))
		if err != nil {
			return err
		}
		ack("%s %d %d %s", name, seq, size, root)
	}
}

func checkRoots(r store.Rendezvous, acks []string) error {
	for _, line := range acks {
		var name, want string
		var seq uint64
		var size int64
		fmt.Sscan(line, &name, &seq, &size, &want)
		root, err := tlog.TreeHash(size, tree(r))
		if err != nil || root.String() != want {
			return fmt.Errorf("the root of %d is %v, %w; it was told as %s", size, root, err, want)
		}
		a, err := r.Account(ctx, accountID(name))
		if err != nil || a.ChainSeq < seq || !strings.HasPrefix(string(a.Chain), "chain of "+name) {
			return fmt.Errorf("%s is at %d, %w, after it was told %d", name, a.ChainSeq, err, seq)
		}
	}
	return nil
}
