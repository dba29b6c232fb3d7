package node_test

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
)

// forger knows the log of a rendezvous, from its answers, and its key: it proves
// what it likes.
type forger struct {
	signer directory.Signer

	mu     sync.Mutex
	leaves map[uint64]directory.Leaf
	size   uint64 // of the largest head seen
}

func newForger(net *nodetest.Net) *forger {
	return &forger{signer: net.Home.Signer(), leaves: map[uint64]directory.Leaf{}}
}

// listen takes down what an answer tells of the log.
func (f *forger) listen(q *wire.Request, a *wire.Response) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if page := a.GetLogPage(); page != nil {
		leaves, _ := directory.ParseLeaves(page.GetLeaves())
		for i, leaf := range leaves {
			f.leaves[q.GetReadLog().GetFrom()+uint64(i)] = leaf
		}
	}
	found := a.GetFound()
	if chain, err := account.ParseChain(found.GetChain()); err == nil {
		f.leaves[found.GetLogIndex()] = f.leafOf(found.GetName(), chain)
	}
	for _, l := range []*wire.LogHead{a.GetLogPage().GetLog(), found.GetLog()} {
		if head, err := f.signer.Log().Open(l.GetHead()); err == nil {
			f.size = max(f.size, head.Size)
		}
	}
}

func (f *forger) leafOf(name string, c *account.Chain) directory.Leaf {
	return directory.Leaf{Label: directory.Label(f.signer.Log().Origin(), name), Account: c.Account(), Seq: c.Seq(), Head: c.Head()}
}

// knowsAll tells whether it has seen every entry.
func (f *forger) knowsAll() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.size {
		if _, ok := f.leaves[i]; !ok {
			return false
		}
	}
	return f.size > 0
}

// log is a copy of the log, for changes.
func (f *forger) log() *forgedLog {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := &forgedLog{f: f}
	for i := range f.size {
		l.leaves = append(l.leaves, f.leaves[i])
	}
	return l
}

// forgedLog is entries, and the tree over them.
type forgedLog struct {
	f      *forger
	leaves []directory.Leaf
	hashes []tlog.Hash
}

// ReadHashes implements tlog.HashReader.
func (l *forgedLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		list[i] = l.hashes[at]
	}
	return list, nil
}

// grow makes the tree over the entries.
func (l *forgedLog) grow() error {
	l.hashes = nil
	for i, leaf := range l.leaves {
		more, err := tlog.StoredHashesForRecordHash(int64(i), leaf.Hash(), l)
		if err != nil {
			return err
		}
		l.hashes = append(l.hashes, more...)
	}
	return nil
}

// prove puts a head of a time into an answer to somebody who knows so many
// entries, with every proof that this log has for it.
func (l *forgedLog) prove(t *testing.T, found *wire.Found, known uint64, at time.Time) {
	must := func(err error) {
		if err != nil {
			t.Errorf("forge a proof: %v", err)
		}
	}
	must(l.grow())
	size := uint64(len(l.leaves))
	root, err := tlog.TreeHash(int64(size), l)
	must(err)
	head, err := l.f.signer.Head(size, root, at)
	must(err)
	consistency, err := directory.ProveConsistency(known, size, l)
	must(err)
	found.Log = &wire.LogHead{Head: head.Bytes(), From: known, Consistency: consistency.Proof.Bytes()}
	found.Inclusion = nil
	chain, err := account.ParseChain(found.GetChain())
	if err != nil {
		return
	}
	leaf := l.f.leafOf(found.GetName(), chain)
	index := slices.Index(l.leaves, leaf)
	if index < 0 {
		return
	}
	in, err := directory.ProveInclusion(uint64(index), leaf, size, l)
	must(err)
	found.LogIndex, found.Inclusion = in.Index, in.Proof.Bytes()
}

// damaged is b with one bit changed.
func damaged(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}
