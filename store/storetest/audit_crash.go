package storetest

import (
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/store"
)

// Deeds is the workload of a rendezvous that is killed while accounts grow and
// keys change: a deed and its entries of the journal are there together or not
// at all, and every head that was told is still that of its number.
func Deeds(over func(store.KV) (store.Rendezvous, error)) Crash {
	const writers = 4
	writer := func(w int) string { return fmt.Sprint("writer", w) }
	return Crash{
		Name: "deeds",
		Work: func(kv store.KV, ack func(string, ...any)) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			errs := make(chan error)
			for w := range writers {
				go func() { errs <- act(r, writer(w), ack) }()
			}
			go func() { errs <- rotateKeys(r) }()
			return <-errs
		},
		Check: func(kv store.KV, acks []string) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			all, err := journal(r)
			if err != nil {
				return err
			}
			said, newest := map[string]int{}, map[protocol.AccountID]string{}
			for _, e := range all {
				said[fmt.Sprint(e.Account, e.Kind, e.What)]++
				said[string(e.Kind)]++
				if e.Kind == audit.Prekey {
					newest[e.Account] = e.Name
				}
			}
			for w := range writers {
				if err := didWhatItSays(r, writer(w), said, newest[accountID(writer(w))]); err != nil {
					return err
				}
			}
			_, changes, err := r.SigningKeys(ctx)
			if err != nil || said[string(audit.TokenKey)] != max(0, 2*int(changes)-1) {
				return fmt.Errorf("%d changes of the keys, %d entries, %v", changes, said[string(audit.TokenKey)], err)
			}
			return checkHeads(all, acks)
		},
	}
}

// act adds one statement after the other to an account, and a signed prekey with
// each, and acknowledges each with the head of the journal.
func act(r store.Rendezvous, name string, ack func(string, ...any)) error {
	if err := r.Register(ctx, registration(name, 1)); err != nil {
		return err
	}
	a, err := r.Account(ctx, accountID(name))
	if err != nil {
		return err
	}
	for seq := a.ChainSeq + 1; ; seq++ {
		err := errors.Join(
			r.SetChain(ctx, chain(name, seq, 0, int(seq))),
			r.PutSigned(ctx, deviceID(name, 0), signed(int(seq), 0), start))
		if err != nil {
			return err
		}
		head, err := r.AuditHead(ctx)
		if err != nil {
			return err
		}
		ack("%d %s", head.N, head.Hash)
	}
}

// rotateKeys replaces the signing key again and again: one entry at first, then
// two for each change.
func rotateKeys(r store.Rendezvous) error {
	for {
		keys, number, err := r.SigningKeys(ctx)
		if err != nil {
			return err
		}
		next := []store.SigningKey{tokenKey(int(number), store.KeySigning)}
		if number > 0 {
			old := keys[0]
			old.State = store.KeyGone
			next = append(next, old)
		}
		if err := r.ChangeSigningKeys(ctx, number, next, store.KeyDue, start); err != nil {
			return err
		}
	}
}

// didWhatItSays checks that an account is what the journal says was done to it.
func didWhatItSays(r store.Rendezvous, name string, said map[string]int, prekey string) error {
	id := accountID(name)
	devices, err := r.Devices(ctx, id)
	if err != nil {
		return err
	}
	var statements int
	if a, err := r.Account(ctx, id); err == nil {
		statements = int(a.ChainSeq)
	} // else killed before it was registered
	registered := said[fmt.Sprint(id, audit.Account, audit.Registered)]
	changed := said[fmt.Sprint(id, audit.Account, audit.Changed)]
	added := said[fmt.Sprint(id, audit.Device, audit.Added)]
	if registered+changed != statements || added != len(devices) {
		return fmt.Errorf("%s has %d statements and %d devices; the journal says %d and %d", name, statements, len(devices), registered+changed, added)
	}
	newest, err := r.SignedPrekey(ctx, deviceID(name, 0), start)
	if err != nil && prekey == "" {
		return nil
	}
	if err != nil || newest.ID.String() != prekey {
		return fmt.Errorf("%s published %v, %v; the journal says %q", name, newest.ID, err, prekey)
	}
	return nil
}

func checkHeads(all []audit.Entry, acks []string) error {
	for _, line := range acks {
		var n int
		var hash string
		fmt.Sscan(line, &n, &hash)
		if n > len(all) || all[n-1].Hash.String() != hash {
			return fmt.Errorf("entry %d of %d was told to have the hash %s", n, len(all), hash)
		}
	}
	return nil
}
