package nodetest

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/protocol/invite"
	"github.com/parley-chat/parley/rendezvous"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/badger"
	"github.com/parley-chat/parley/store/embedded"
)

// Home is the rendezvous. It can be stopped and started again, at the same
// addresses.
type Home struct {
	*rendezvous.Server
	t      testing.TB
	config rendezvous.Config
	stop   func()
	lie    atomic.Pointer[Lie] // nil: it tells the truth
}

func newHome(t testing.TB, change func(*rendezvous.Config)) *Home {
	h := &Home{t: t, config: rendezvous.Config{
		Dir: filepath.Join(t.TempDir(), "home"), Open: true, Log: Log(t, "home"), Listen: Loopback,
	}}
	if change != nil {
		change(&h.config)
	}
	t.Cleanup(h.Stop)
	return h
}

// Start starts the rendezvous.
func (h *Home) Start() {
	h.t.Helper()
	s, err := rendezvous.New(h.t.Context(), h.config)
	if err != nil {
		h.t.Fatalf("make rendezvous: %v", err)
	}
	h.Server = s
	h.editStreams()
	h.config.Listen = nil
	for _, a := range s.Addrs() {
		h.config.Listen = append(h.config.Listen, a.String())
	}
	h.stop = run(h.t, "rendezvous", s.Run)
}

// Stop stops it and waits; stopping what is stopped does nothing.
func (h *Home) Stop() {
	if h.stop != nil {
		h.stop()
		h.stop = nil
	}
}

// SetBack starts the rendezvous as it was before fn, as from an old backup.
func (h *Home) SetBack(fn func()) {
	h.t.Helper()
	h.Stop()
	old := filepath.Join(h.t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(h.config.Dir)); err != nil {
		h.t.Fatalf("copy the rendezvous: %v", err)
	}
	h.Start()
	fn()
	h.Stop()
	err := errors.Join(os.RemoveAll(h.config.Dir), os.CopyFS(h.config.Dir, os.DirFS(old)))
	if err != nil {
		h.t.Fatalf("set the rendezvous back: %v", err)
	}
	h.Start()
}

// Fill registers so many accounts that do nothing, which are as many entries of
// the log.
func (h *Home) Fill(n int) {
	h.t.Helper()
	h.Stop()
	kv, err := badger.Open(badger.Options{Dir: filepath.Join(h.config.Dir, "store"), Log: h.config.Log})
	if err != nil {
		h.t.Fatalf("open the rendezvous's store: %v", err)
	}
	s, err := embedded.New(h.t.Context(), kv)
	if err != nil {
		h.t.Fatalf("read the rendezvous's store: %v", errors.Join(err, kv.Close()))
	}
	g := errgroup.Group{}
	g.SetLimit(128) // they share commits
	for range n {
		g.Go(func() error {
			p := store.RegisterParams{Name: rand.Text(), ChainSeq: 1, Now: time.Now()}
			rand.Read(p.Label[:])
			rand.Read(p.Account[:])
			return s.Register(context.Background(), p)
		})
	}
	if err := errors.Join(g.Wait(), kv.Close()); err != nil {
		h.t.Fatalf("fill the rendezvous's store: %v", err)
	}
	h.Start()
}

// Invite returns an invite to this rendezvous.
func (h *Home) Invite() invite.Invite {
	h.t.Helper()
	link, _, err := h.NewInvite(h.t.Context(), 100, time.Hour)
	if err != nil {
		h.t.Fatalf("make invite: %v", err)
	}
	i, err := invite.Parse(link)
	if err != nil {
		h.t.Fatalf("read invite: %v", err)
	}
	return i
}
