package engine

import (
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// logbook is the log of the rendezvous. It holds whatever was answered, also
// lies.
type logbook struct {
	host   key.HostPrivate
	signer directory.Signer
	leaves []directory.Leaf
	hashes []tlog.Hash
}

func newLogbook() *logbook {
	host := key.NewHost()
	signer, err := directory.NewSigner(host)
	if err != nil {
		panic(err)
	}
	return &logbook{host: host, signer: signer}
}

func (l *logbook) clone() *logbook {
	return &logbook{l.host, l.signer, slices.Clone(l.leaves), slices.Clone(l.hashes)}
}

func (l *logbook) peer() []byte { return l.host.Public().PeerID() }

// ReadHashes implements tlog.HashReader.
func (l *logbook) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	list := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		list[i] = l.hashes[at]
	}
	return list, nil
}

func (l *logbook) size() uint64 { return uint64(len(l.leaves)) }

// enter returns the number of an entry, which it makes unless the newest of the
// label is the same.
func (l *logbook) enter(leaf directory.Leaf) uint64 {
	for i := len(l.leaves) - 1; i >= 0; i-- {
		if l.leaves[i] == leaf {
			return uint64(i)
		}
		if l.leaves[i].Label == leaf.Label {
			break
		}
	}
	more, err := tlog.StoredHashesForRecordHash(int64(len(l.leaves)), leaf.Hash(), l)
	if err != nil {
		panic(err)
	}
	l.hashes, l.leaves = append(l.hashes, more...), append(l.leaves, leaf)
	return l.size() - 1
}

// found is what the rendezvous answers to a node that looks a name up.
func (n *node) found(name string, prekeys bool) *wire.Found {
	n.w.t.Helper()
	return n.w.home.prove(n, n.w.home.look(name, prekeys))
}

// prove adds to an answer to n the proof that the log says so.
func (r *rendezvous) prove(n *node, f *wire.Found) *wire.Found {
	r.w.t.Helper()
	if f == nil {
		return nil
	}
	var size uint64
	n.view(func(tx store.Tx) (err error) {
		size, err = n.e.LogSize(tx)
		return err
	})
	r.proveFrom(size, f)
	return f
}

func (r *rendezvous) proveFrom(size uint64, f *wire.Found) {
	r.w.t.Helper()
	var leaf directory.Leaf
	chain, chainErr := account.ParseChain(f.GetChain())
	if chainErr == nil {
		leaf = directory.Leaf{
			Label: directory.Label(r.log.signer.Log().Origin(), f.GetName()), Account: chain.Account(), Seq: chain.Seq(), Head: chain.Head(),
		}
		f.LogIndex = r.log.enter(leaf)
	}
	root, err := tlog.TreeHash(int64(r.log.size()), r.log)
	r.w.check(err)
	head, err := r.log.signer.Head(r.log.size(), root, r.w.now)
	r.w.check(err)
	c, err := directory.ProveConsistency(size, head.Size, r.log)
	r.w.check(err)
	f.Log = &wire.LogHead{Head: head.Bytes(), From: size, Consistency: c.Proof.Bytes()}
	if chainErr == nil {
		in, err := directory.ProveInclusion(f.LogIndex, leaf, head.Size, r.log)
		r.w.check(err)
		f.Inclusion = in.Proof.Bytes()
	}
	if r.forge != nil {
		r.forge(f)
	}
}
