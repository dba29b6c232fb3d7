package relay

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/rendezvous/token"
	"github.com/parley-chat/parley/store/dirlock"
)

const (
	// IdentityFile is where a relay that runs alone keeps its name, below its
	// directory.
	IdentityFile = "relay.key"

	maxConns    = 8192
	tendEvery   = time.Second
	reportEvery = time.Minute
)

// ServerConfig says how to run a relay alone. Dir and Follow are required.
type ServerConfig struct {
	Dir      string        // holds the identity key, and a lock while a relay runs; made private to its owner
	Follow   peer.AddrInfo // the rendezvous
	Listen   []string      // multiaddrs; empty: TCP and QUIC on port 4001, IPv4 and IPv6
	Announce []string      // further addresses to tell: multiaddrs, or host:port
	Limits   Limits
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: slog.Default()
}

// Server is a relay that runs alone: without a store, for the members of one
// rendezvous, who show it a token. SPEC "Relays that run alone".
//
// Goroutines: Run lists the long-lived ones. A stream to the rendezvous has a
// reader and a writer, which followOnce waits for. Tokens are checked in
// libp2p's handlers, which end with the host.
type Server struct {
	cfg      ServerConfig
	log      *slog.Logger
	issuer   string // the rendezvous, as tokens name it
	announce []ma.Multiaddr
	lock     *os.File // of the directory
	host     host.Host
	relay    *Relay
	door     *door
	verifier *token.Verifier // trusts the rendezvous while that approves
	keys     *token.Follower

	follows  atomic.Bool // the rendezvous answers
	approved atomic.Bool // it said so last

	ctx  context.Context // of the handlers
	stop context.CancelFunc

	closeOnce sync.Once
	closeErr  error
}

// NewServer begins to listen. Until Run has heard of the rendezvous that it is
// approved, the relay serves nobody. Without Run, call Close. The error is
// dirlock.ErrHeld while another relay runs in the directory.
func NewServer(ctx context.Context, cfg ServerConfig) (*Server, error) {
	s := &Server{cfg: cfg, log: cfg.Log, issuer: token.Issuer(cfg.Follow.ID.String())}
	if cfg.Dir == "" || len(cfg.Follow.Addrs) == 0 {
		return nil, errors.New("no data directory, or no address of a rendezvous given")
	}
	identity, err := identityOf(cfg.Follow.ID)
	if err != nil {
		return nil, err
	}
	if s.cfg.Now == nil {
		s.cfg.Now = time.Now
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.cfg.Limits = cfg.Limits.WithDefaults()
	s.verifier = token.NewVerifier(token.AudienceRelay)
	s.door = newDoor(s.verifier, s.cfg.Now)
	s.keys = token.NewFollower(token.FollowerConfig{
		Issuer: s.issuer, Fetch: s.fetchKeys, Identity: identity, HardExpiry: keysExpire, Alarm: s.alarm, Now: s.cfg.Now,
	})
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// identityOf is the key that signs the events of a rendezvous: its peer id is
// that key.
func identityOf(id peer.ID) (ed25519.PublicKey, error) {
	public, err := id.ExtractPublicKey()
	if err != nil {
		return nil, fmt.Errorf("read peer id of the rendezvous: %w", err)
	}
	raw, err := public.Raw()
	if err != nil || len(raw) != ed25519.PublicKeySize {
		return nil, errors.New("the peer id is not that of a rendezvous: no Ed25519 key")
	}
	return raw, nil
}

func (s *Server) open() (err error) {
	if s.announce, err = p2p.ParseAnnounce(s.cfg.Announce); err != nil {
		return err
	}
	if err := p2p.PrepareDir(s.cfg.Dir); err != nil {
		return err
	}
	if s.lock, err = dirlock.Take(s.cfg.Dir); err != nil {
		return fmt.Errorf("take data directory: %w", err)
	}
	l := s.cfg.Limits
	s.host, err = p2p.New(p2p.Config{
		Identity: filepath.Join(s.cfg.Dir, IdentityFile), Listen: s.cfg.Listen, Announce: s.announce, Agent: "parley-relay",
		Limits: p2p.Limits{Conns: maxConns, PerAddress: l.PerAddress, Circuits: l.Circuits},
		Dials:  s.cfg.Follow.ID, Admit: s.admits,
	})
	if err != nil {
		return err
	}
	s.host.Network().Notify(&network.NotifyBundle{DisconnectedF: s.disconnected})
	if s.relay, err = New(s.host, s.door, l); err != nil {
		return err
	}
	s.host.SetStreamHandler(protocol.TokenProtocol, s.handleToken)
	return nil
}

// admits takes every connection, if need be in the place of another one.
func (s *Server) admits(c network.Conn) bool {
	if over := s.door.enter(c); over != nil {
		over.Close()
	}
	return true
}

func (s *Server) disconnected(_ network.Network, c network.Conn) {
	s.door.forget(c)
	if s.door.Conn(c.RemotePeer()) == nil {
		s.host.ConnManager().Unprotect(c.RemotePeer(), passTag)
	}
}

// Run serves until ctx ends, and returns when every goroutine has ended.
func (s *Server) Run(ctx context.Context) error {
	s.log.Info("relay runs", "peer", s.PeerID().String(), "rendezvous", s.cfg.Follow.ID.String())
	var all sync.WaitGroup
	all.Go(func() { s.keys.Run(ctx) })
	all.Go(func() { s.follow(ctx) })
	all.Go(func() { s.tend(ctx) })
	all.Go(func() { s.report(ctx) })
	all.Wait()
	return s.Close()
}

// Close ends the relay at once. Run does it too.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.stop()
		if s.relay != nil {
			s.closeErr = s.relay.Close()
		}
		if s.host != nil {
			s.closeErr = errors.Join(s.closeErr, s.host.Close())
		}
		if s.lock != nil {
			s.closeErr = errors.Join(s.closeErr, s.lock.Close())
		}
	})
	return s.closeErr
}

// PeerID is the relay's name, the same for as long as its directory lives.
func (s *Server) PeerID() peer.ID { return s.host.ID() }

// Addrs are the addresses to reach it at: announced ones first, as given, then
// public, private and loopback ones.
func (s *Server) Addrs() []ma.Multiaddr { return p2p.Addrs(s.host, s.announce) }

// tend closes connections that have no pass, in time.
func (s *Server) tend(ctx context.Context) {
	tick := time.NewTicker(tendEvery)
	defer tick.Stop()
	for {
		for _, c := range s.door.tend() {
			c.Close()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// report logs how the relay is doing, once a minute, if it is doing otherwise
// than before.
func (s *Server) report(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	var last Status
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := s.Status(); now != last {
			s.log.Info("relay", "follows", now.Follows, "approved", now.Approved, "keys", now.Keys,
				"admitted", now.Admitted, "waiting", now.Waiting, "reservations", now.Reservations, "circuits", now.Circuits)
			last = now
		}
	}
}

// Status is how a relay that runs alone is doing.
type Status struct {
	Follows      bool // the rendezvous answers
	Approved     bool // it said so last
	Keys         bool // its key set can be trusted
	Admitted     int  // connections with a pass
	Waiting      int  // connections without
	Reservations int
	Circuits     int
}

// Status tells how the relay is doing.
func (s *Server) Status() Status {
	st := Status{
		Follows: s.follows.Load(), Approved: s.approved.Load(), Keys: s.keys.State().Usable,
		Reservations: s.relay.Reservations(), Circuits: s.relay.Circuits(),
	}
	st.Admitted, st.Waiting = s.door.count()
	return st
}
