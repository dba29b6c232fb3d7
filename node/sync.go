package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	syncRounds = 4 // uploads in a row; the engine needs two, after a conflict
	syncRetry  = time.Minute
)

// syncer keeps at the rendezvous what it needs of us: prekeys for others to
// open sessions with, and the list of contacts. It works when told that
// something is different, one upload at a time.
type syncer struct {
	n    *Node
	more nudge

	turn sync.Mutex // one upload at a time

	mu         sync.Mutex
	havePre    *wire.PrekeyCounts // as the rendezvous last said; nil: did not say
	wantPre    bool
	wantList   bool
	wantChain  bool
	listDigest []byte // of the list the rendezvous has; nil: not known
}

func newSyncer(n *Node) *syncer { return &syncer{n: n, more: newNudge()} }

// welcome takes in what the rendezvous has, at the start of a link.
func (s *syncer) welcome(w *wire.Welcome) {
	s.mu.Lock()
	s.havePre, s.wantPre = w.GetPrekeys(), true
	s.listDigest, s.wantList = w.GetContactsDigest(), true
	s.wantChain = true // what came due while there was no rendezvous
	s.mu.Unlock()
	s.more.push()
}

// prekeys says that the published stock changed, or, with nil, that we have
// something to publish.
func (s *syncer) prekeys(counts *wire.PrekeyCounts) {
	s.mu.Lock()
	if counts != nil {
		s.havePre = counts
	}
	s.wantPre = true
	s.mu.Unlock()
	s.more.push()
}

// contacts says that the contact list changed.
func (s *syncer) contacts() {
	s.mu.Lock()
	s.wantList = true
	s.mu.Unlock()
	s.more.push()
}

// chain says that certificates of ours are to be renewed.
func (s *syncer) chain() {
	s.mu.Lock()
	s.wantChain = true
	s.mu.Unlock()
	s.more.push()
}

// run works until ctx ends.
func (s *syncer) run(ctx context.Context) error {
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.more:
		case <-retry:
		}
		retry = nil
		err := errors.Join(s.syncContacts(ctx), s.syncPrekeys(ctx), s.syncChain(ctx))
		if err == nil || ctx.Err() != nil || !s.n.home.isUp() {
			continue // a welcome begins anew
		}
		s.n.log.Warn("rendezvous not up to date", "err", err)
		wait := syncRetry
		if e, ok := errors.AsType[*protocol.Error](err); ok {
			wait = max(wait, e.RetryAfter)
		}
		retry = time.After(wait)
	}
}

func (s *syncer) syncContacts(ctx context.Context) error {
	s.mu.Lock()
	want, known := s.wantList, s.listDigest
	s.wantList = false
	s.mu.Unlock()
	if !want || !s.n.home.isUp() || s.n.isGuest() { // who has no list
		return nil
	}
	err := s.uploadContacts(ctx, known)
	if err != nil {
		s.mu.Lock()
		s.wantList = true
		s.mu.Unlock()
		return fmt.Errorf("upload contact list: %w", err)
	}
	return nil
}

func (s *syncer) uploadContacts(ctx context.Context, known []byte) error {
	var accounts []protocol.AccountID
	var digest [32]byte
	err := s.n.kv.View(ctx, func(tx store.Tx) (err error) {
		accounts, digest, err = s.n.eng.AllowList(tx)
		return err
	})
	if err != nil || bytes.Equal(digest[:], known) {
		return err
	}
	list := &wire.SetContacts{}
	for _, a := range accounts {
		list.Accounts = append(list.Accounts, a[:])
	}
	resp, err := s.n.home.call(ctx, &wire.Request{Call: &wire.Request_SetContacts{SetContacts: list}})
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.listDigest = resp.GetContactsSet().GetDigest()
	s.mu.Unlock()
	return nil
}

// syncChain renews what is to be renewed of our own chain.
func (s *syncer) syncChain(ctx context.Context) error {
	s.mu.Lock()
	want := s.wantChain
	s.wantChain = false
	s.mu.Unlock()
	if !want || !s.n.home.isUp() || s.n.isGuest() { // whose chain never changes
		return nil
	}
	err := s.n.changeChain(ctx, func(tx store.Tx) ([]byte, error) { return s.n.eng.Renew(tx, s.n.now()) })
	if err != nil {
		s.mu.Lock()
		s.wantChain = true
		s.mu.Unlock()
		return fmt.Errorf("renew certificates: %w", err)
	}
	return nil
}

func (s *syncer) syncPrekeys(ctx context.Context) error {
	s.turn.Lock()
	defer s.turn.Unlock()
	for range syncRounds {
		s.mu.Lock()
		want, have := s.wantPre, s.havePre
		s.wantPre = false
		s.mu.Unlock()
		if !want || !s.n.home.isUp() {
			return nil
		}
		again, err := s.uploadPrekeys(ctx, have)
		if err != nil {
			s.mu.Lock()
			s.wantPre = true
			s.mu.Unlock()
			return fmt.Errorf("upload prekeys: %w", err)
		}
		if again {
			s.mu.Lock()
			s.wantPre = true
			s.mu.Unlock()
		}
	}
	return nil
}

// uploadPrekeys does one round. New keys are stored here before they are sent.
func (s *syncer) uploadPrekeys(ctx context.Context, have *wire.PrekeyCounts) (again bool, err error) {
	var up *wire.UploadPrekeys
	err = s.n.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		up, err = s.n.eng.PrekeyPlan(tx, s.n.now(), have)
		return h, err
	})
	if err != nil || up == nil {
		return false, err
	}
	resp, err := s.n.home.call(ctx, &wire.Request{Call: &wire.Request_UploadPrekeys{UploadPrekeys: up}})
	if refusal, ok := errors.AsType[*protocol.Error](err); ok {
		return false, errors.Join(err, s.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
			return engine.Hint{}, s.n.eng.PrekeysRefused(tx, s.n.now(), refusal)
		}))
	}
	if err != nil {
		return false, err
	}
	got := resp.GetPrekeyCounts()
	if got == nil {
		return false, errors.New("the answer does not count")
	}
	err = s.n.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		again, h, err = s.n.eng.PrekeysStored(tx, s.n.now(), up, got)
		h.Events = true // it may have told the user of a conflict
		return h, err
	})
	s.mu.Lock()
	s.havePre = got
	s.mu.Unlock()
	return again, err
}
