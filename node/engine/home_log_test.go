package engine

import (
	"crypto/rand"
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
	defer n.shown()()
	if f == nil || f.GetName() == "" { // a guest is in no directory
		return f
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
		if i := slices.Index(r.log.leaves, leaf); r.noEntry && i >= 0 {
			f.LogIndex = uint64(i)
		} else {
			f.LogIndex = r.log.enter(leaf)
		}
	}
	head := r.log.head(r.w)
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

// page is what the rendezvous answers to who reads the log, at most max entries.
func (r *rendezvous) page(from, size uint64, max int) *wire.LogPage {
	r.w.t.Helper()
	head := r.log.head(r.w)
	c, err := directory.ProveConsistency(size, head.Size, r.log)
	r.w.check(err)
	p := &wire.LogPage{Log: &wire.LogHead{Head: head.Bytes(), From: size, Consistency: c.Proof.Bytes()}}
	end := min(head.Size, from+uint64(max))
	for i := from; i < end; i++ {
		p.Leaves = append(p.Leaves, r.log.leaves[i].Marshal()...)
	}
	c, err = directory.ProveConsistency(end, head.Size, r.log)
	r.w.check(err)
	p.Proof = c.Proof.Bytes()
	return p
}

// head signs the log as it is.
func (l *logbook) head(w *world) directory.Head {
	w.t.Helper()
	root, err := tlog.TreeHash(int64(l.size()), l)
	w.check(err)
	head, err := l.signer.Head(l.size(), root, w.now)
	w.check(err)
	return head
}

// headOf is head, of the first entries.
func (l *logbook) headOf(w *world, size uint64) directory.Head {
	return (&logbook{l.host, l.signer, l.leaves[:size], l.hashes}).head(w)
}

// grow enters something about other accounts.
func (l *logbook) grow(n int) {
	for range n {
		leaf := directory.Leaf{Seq: 1}
		rand.Read(leaf.Label[:])
		l.enter(leaf)
	}
}

// readLog reads the log to its end, with so many entries a page.
func (n *node) readLog(max int) error {
	n.w.t.Helper()
	defer n.shown()()
	for more := true; more; {
		var from, size uint64
		n.view(func(tx store.Tx) (err error) {
			from, size, err = n.e.LogQuestion(tx)
			return err
		})
		p := n.w.home.page(from, size, max)
		err := n.update(func(tx store.Tx) (h Hint, err error) {
			more, h, err = n.e.FoldPage(tx, n.w.now, from, p)
			return h, err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// shown makes the rendezvous show what it shows this node.
func (n *node) shown() (restore func()) {
	usual := n.w.home.log
	if n.log != nil {
		n.w.home.log = n.log
	}
	return func() { n.w.home.log = usual }
}

// followLog is what a node does when the log is to be read.
func (n *node) followLog() {
	n.w.t.Helper()
	if n.w.home.noPages {
		return
	}
	if err := n.readLog(16); err != nil {
		n.do(func(tx store.Tx) (Hint, error) { return n.e.LogFailed(tx, n.w.now, err) })
	}
}

// judge has a node judge a head that somebody else was shown.
func (n *node) judge(h directory.Head) (v verdict) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		w, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		reads, err := w.logReads()
		if err != nil {
			return Hint{}, err
		}
		if v, err = w.judgeHead(h, reads); err != nil {
			return Hint{}, err
		}
		return w.end()
	})
	return v
}
