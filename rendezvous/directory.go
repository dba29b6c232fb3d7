package rendezvous

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	headLife = 5 * time.Second // a head is signed again after so long, and when the log has grown
	logPage  = 2048            // entries in one LogPage: 208 KiB
)

// logbook signs the heads of the directory log and proves what is in it.
type logbook struct {
	signer directory.Signer
	store  store.Log
	now    func() time.Time

	mu   sync.Mutex
	last directory.Head // signed; its size never shrinks
}

// newLogbook takes the key that is the name of the rendezvous to sign the log.
func newLogbook(h host.Host, log store.Log, now func() time.Time) (*logbook, error) {
	identity := h.Peerstore().PrivKey(h.ID())
	if identity == nil || identity.Type() != crypto.Ed25519 {
		return nil, fmt.Errorf("sign the directory log: the identity of the rendezvous is no Ed25519 key")
	}
	raw, err := identity.Raw() // seed and public half
	if err != nil {
		return nil, fmt.Errorf("sign the directory log: %w", err)
	}
	defer clear(raw)
	k, err := key.ParseHost(raw[:32])
	if err != nil {
		return nil, fmt.Errorf("sign the directory log: %w", err)
	}
	signer, err := directory.NewSigner(k)
	if err != nil {
		return nil, fmt.Errorf("sign the directory log: %w", err)
	}
	return &logbook{signer: signer, store: log, now: now}, nil
}

// label stands for a name in this log.
func (b *logbook) label(name string) [32]byte {
	return directory.Label(b.signer.Log().Origin(), name)
}

// head returns a signed head of all that was stored before the call.
func (b *logbook) head(ctx context.Context) (directory.Head, error) {
	size, err := b.store.LogSize(ctx)
	if err != nil {
		return directory.Head{}, fmt.Errorf("read the size of the log: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	age := b.now().Sub(b.last.Time)
	if !b.last.IsZero() && size <= b.last.Size && age >= 0 && age < headLife {
		return b.last, nil
	}
	size = max(size, b.last.Size) // another call may have seen more
	root, err := tlog.TreeHash(int64(size), b.hashes(ctx))
	if err != nil {
		return directory.Head{}, fmt.Errorf("hash the log: %w", err)
	}
	h, err := b.signer.Head(size, root, b.now())
	if err != nil {
		return directory.Head{}, err
	}
	b.last = h
	return h, nil
}

// hashes reads the tree of the log.
func (b *logbook) hashes(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		stored, err := b.store.LogHashes(ctx, indexes)
		if err != nil {
			return nil, err
		}
		hashes := make([]tlog.Hash, len(stored))
		for i, h := range stored {
			hashes[i] = h
		}
		return hashes, nil
	})
}

// since shows a head to somebody who holds one of from entries. To who claims
// to hold more than there is, nothing can be proven.
func (b *logbook) since(ctx context.Context, h directory.Head, from uint64) (*wire.LogHead, error) {
	c, err := directory.ProveConsistency(from, h.Size, b.hashes(ctx))
	if err != nil {
		return nil, err
	}
	return &wire.LogHead{Head: h.Bytes(), From: c.From, Consistency: c.Proof.Bytes()}, nil
}

// found tells who an account is, with the proof that the log says so. LogSize is
// how much of the log the caller, from, holds.
func (s *Server) found(ctx context.Context, from store.Device, a store.Account, logSize uint64) (*wire.Found, error) {
	if a.IsGuest() { // it is in the log of its room, and in no other
		return &wire.Found{Chain: a.Chain, NowMs: uint64(s.now().UnixMilli())}, nil
	}
	h, err := s.book.head(ctx) // after a was read: its entry is in
	if err != nil {
		return nil, err
	}
	s.noteSeen(ctx, from, logSize, h.Size)
	log, err := s.book.since(ctx, h, logSize)
	if err != nil {
		return nil, err
	}
	leaf := directory.Leaf{Label: s.book.label(a.Name), Account: a.ID, Seq: a.ChainSeq, Head: a.ChainHead}
	in, err := directory.ProveInclusion(a.Entry, leaf, h.Size, s.book.hashes(ctx))
	if err != nil {
		return nil, err
	}
	return &wire.Found{
		Name: a.Name, Chain: a.Chain, NowMs: uint64(s.now().UnixMilli()),
		Log: log, LogIndex: in.Index, Inclusion: in.Proof.Bytes(),
	}, nil
}

// readLog gives the entries of the log from a number on, as many as fit, with
// the proof that they are how the log goes on.
func (s *Server) readLog(ctx context.Context, from store.Device, r *wire.ReadLog, resp *wire.Response) error {
	if err := take(s.now(), 1, "pages of the log", s.rates.logPages.get(from.ID)); err != nil {
		return err
	}
	h, err := s.book.head(ctx)
	if err != nil {
		return err
	}
	s.noteSeen(ctx, from, r.GetLogSize(), h.Size)
	page := &wire.LogPage{}
	if page.Log, err = s.book.since(ctx, h, r.GetLogSize()); err != nil {
		return err
	}
	if r.GetFrom() < h.Size {
		if err := s.fillPage(ctx, h, r.GetFrom(), page); err != nil {
			return err
		}
	}
	resp.Result = &wire.Response_LogPage{LogPage: page}
	return nil
}

func (s *Server) fillPage(ctx context.Context, h directory.Head, from uint64, page *wire.LogPage) error {
	leaves, err := s.store.LogLeaves(ctx, from, int(min(logPage, h.Size-from)))
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	for _, l := range leaves {
		page.Leaves = append(page.Leaves, directory.Leaf(l).Marshal()...)
	}
	c, err := directory.ProveConsistency(from+uint64(len(leaves)), h.Size, s.book.hashes(ctx))
	page.Proof = c.Proof.Bytes()
	return err
}
