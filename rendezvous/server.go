// Package rendezvous is the server that nodes meet at: a directory of names
// and keys, a stock of prekeys, a mailbox for devices that are away, presence,
// and a relay.
//
// It is blind: it moves envelopes without being able to open them, and must
// not import the packages that could. It dials nobody.
//
// Goroutines: Run lists the long-lived ones, and listenHTTP has one. Each link,
// and each stream of a relay that follows, has its libp2p handler as reader and
// one writer, which that handler waits for, and a link another one for topics; what a
// node says on topics is read in its handler. Calls and blobs run in libp2p's handlers,
// and each side of a pairing reads in its own. A knock is read in its handler and in one
// goroutine more, which that waits for. A device that was revoked is cut off by
// expel, soon after.
package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/rendezvous/relay"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/blob"
)

const (
	sweepEvery   = 5 * time.Minute
	drainTimeout = 10 * time.Second // calls in progress get so long to end

	// IdentityFile is where a rendezvous keeps its name, below its directory.
	IdentityFile = "identity.key"
)

// Config says how to run a rendezvous. Only Dir is required.
type Config struct {
	Dir             string           // data directory; made private to its owner
	Listen          []string         // multiaddrs; empty: TCP and QUIC on port 4001, IPv4 and IPv6
	Announce        []string         // further addresses to tell: multiaddrs, or host:port
	Open            bool             // anyone may register; otherwise an invite is needed
	NoMemberInvites bool             // only the operator makes invites
	HTTP            string           // host:port to serve the key set and the directory log at, over plain HTTP; empty: nowhere
	Limits          Limits           // zero values are defaults
	Now             func() time.Time // nil: time.Now
	Log             *slog.Logger     // nil: slog.Default()

	wrap func(store.Rendezvous) store.Rendezvous // puts faults into the store; nil: none
}

// Server is a rendezvous.
type Server struct {
	cfg      Config
	now      func() time.Time
	log      *slog.Logger
	store    store.Rendezvous
	closer   func() error // closes the store
	host     host.Host
	announce []ma.Multiaddr
	relay    *relay.Relay
	relays   *relays // that run alone
	book     *logbook
	started  time.Time
	failed   chan error // capacity 1: why the store writes no more, for Run

	noted  bool // the start, in the audit journal
	issuer *issuer
	web    *web // nil: no HTTP

	tellingKeys sync.Mutex
	keysTold    uint64 // the change of the signing keys that links were told of last; guarded by tellingKeys

	rates      *rates
	presence   *presence
	rooms      *rooms
	said       *buckets[protocol.EnvelopeID, *atomic.Bool] // messages of rooms, on their topics
	hellos     *hellos
	blobs      *blobs
	pairs      *broker
	knocks     *knocks
	departures *departures
	troubles   rate.Sometimes

	ctx  context.Context // ends when calls and links must
	stop context.CancelFunc

	hearing context.Context // ends at once when the server drains
	deafen  context.CancelFunc

	mu       sync.Mutex     // guards draining against calls that begin
	draining bool           // no calls, no links any more
	inside   sync.WaitGroup // calls, links, pairings, knocks and blobs

	closeOnce sync.Once
	closeErr  error
}

// New opens the store and begins to listen. The server then answers; Run adds
// what it does by itself and ends it properly. Without Run, call Close.
func New(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.Dir == "" {
		return nil, errors.New("no data directory given")
	}
	cfg.Limits = cfg.Limits.withDefaults()
	s := &Server{cfg: cfg, now: cfg.Now, log: cfg.Log, failed: make(chan error, 1), troubles: rate.Sometimes{Interval: time.Second}}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.started = s.now()
	s.rates = newRates(cfg.Limits)
	s.presence = newPresence()
	s.rooms = newRooms(maxIdleLogs)
	s.said = newBuckets[protocol.EnvelopeID](knownLately, func() *atomic.Bool { return new(atomic.Bool) })
	s.relays = newRelays()
	s.hellos = newHellos()
	s.pairs = newBroker()
	s.knocks = newKnocks()
	s.departures = newDepartures(s.started, maxDepartures)
	s.ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.hearing, s.deafen = context.WithCancel(s.ctx)
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	if s.announce, err = p2p.ParseAnnounce(s.cfg.Announce); err != nil {
		return err
	}
	if err := p2p.PrepareDir(s.cfg.Dir); err != nil {
		return err
	}
	if s.store, s.closer, err = openStore(ctx, filepath.Join(s.cfg.Dir, storeDir), s.log); err != nil {
		return fmt.Errorf("open store: %w", err)
	}
	if s.cfg.wrap != nil {
		s.store = s.cfg.wrap(s.store)
	}
	bodies, err := blob.Open(filepath.Join(s.cfg.Dir, blobDir))
	if err != nil {
		return err
	}
	s.blobs = &blobs{bodies, newTurns()}
	l := s.cfg.Limits
	s.host, err = p2p.New(p2p.Config{
		Identity: filepath.Join(s.cfg.Dir, IdentityFile), Listen: s.cfg.Listen, Announce: s.announce, Agent: "parley-rendezvous",
		Limits: p2p.Limits{Conns: l.Conns, PerAddress: l.ConnsPerAddress, Circuits: l.Circuits},
	})
	if err != nil {
		return err
	}
	if s.book, err = newLogbook(s.host, s.store, s.now); err != nil {
		return err
	}
	if s.relay, err = relay.New(s.host, gate{s}, l.relay()); err != nil {
		return err
	}
	if err := s.openIssuer(ctx); err != nil {
		return err
	}
	s.hellos.watch(s.host.Network())
	s.host.SetStreamHandler(protocol.CallProtocol, s.handleCall)
	s.host.SetStreamHandler(protocol.LinkProtocol, s.handleLink)
	s.host.SetStreamHandler(protocol.PairProtocol, s.handlePair)
	s.host.SetStreamHandler(protocol.KnockProtocol, s.handleKnock)
	s.host.SetStreamHandler(protocol.BlobProtocol, s.handleBlob)
	s.host.SetStreamHandler(protocol.FollowProtocol, s.handleFollow)
	s.host.SetStreamHandler(protocol.TopicProtocol, s.handleTopics)
	s.noteStart(ctx)
	return nil
}

// Run serves until ctx ends, or until the store fails and has to be opened
// again, which is an error; then it drains: links are told when to come back,
// calls in progress finish, new ones are refused. It returns when every
// goroutine has ended and the store is closed, at most some seconds more than
// drainTimeout after ctx.
func (s *Server) Run(ctx context.Context) error {
	s.log.Info("rendezvous runs", "peer", s.PeerID().String(), "open", s.cfg.Open)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.sweep(ctx) })
	group.Go(func() error { return s.serveAdmin(ctx) })
	group.Go(func() error { return s.awaitFailure(ctx) })
	group.Go(func() error { return s.tendKeys(ctx) })
	<-ctx.Done()
	s.drain()
	return errors.Join(group.Wait(), s.Close())
}

// sweep drops what has expired, now and every few minutes.
func (s *Server) sweep(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		dropped, err := s.store.Sweep(ctx, s.now())
		if err == nil {
			err = s.sweepBodies(ctx)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			s.noticeFailure(err)
			s.log.Error("cannot sweep", "err", err) // a full disk passes; calls say the same
		case dropped > 0:
			s.log.Info("swept", "dropped", dropped)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// noticeFailure ends Run when the store writes no more: only opening it again
// helps.
func (s *Server) noticeFailure(err error) {
	if !errors.Is(err, store.ErrFailed) {
		return
	}
	select {
	case s.failed <- err:
	default: // Run knows
	}
}

func (s *Server) awaitFailure(ctx context.Context) error {
	select {
	case err := <-s.failed:
		return err
	case <-ctx.Done():
		return nil
	}
}

// enter admits a call or a link; leave must follow.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.inside.Add(1)
	return true
}

func (s *Server) leave() { s.inside.Done() }

func (s *Server) isDraining() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.draining
}

// drain refuses what is new, says goodbye to links and waits for calls.
func (s *Server) drain() {
	s.mu.Lock()
	s.draining = true
	s.mu.Unlock()
	for _, l := range s.presence.links() {
		l.bye(s.drainingRefusal())
	}
	for _, f := range s.relays.all() {
		f.bye(s.drainingRefusal())
	}
	s.pairs.endAll()
	s.knocks.endAll()
	s.deafen()
	ended := make(chan struct{})
	go func() { s.inside.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(drainTimeout):
		s.log.Warn("calls cut off", "after", drainTimeout)
		s.stop()
		s.closeHost() // breaks their streams
		<-ended
	}
}

// drainingRefusal tells when to come back. Everybody gets another time, so
// that not all come back at once.
func (s *Server) drainingRefusal() *protocol.Error {
	e := protocol.Refuse(protocol.Draining, "the rendezvous is shutting down")
	e.RetryAfter = time.Second + rand.N(4*time.Second)
	return e
}

// Close ends the server at once. Run does it too.
func (s *Server) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.draining = true
		s.mu.Unlock()
		s.stop()
		s.closeErr = s.closeHost()
		if s.web != nil {
			s.closeErr = errors.Join(s.closeErr, s.web.close())
		}
		s.inside.Wait()
		s.noteStop()
		if s.closer != nil {
			s.closeErr = errors.Join(s.closeErr, s.closer())
		}
	})
	return s.closeErr
}

func (s *Server) closeHost() (err error) {
	if s.relay != nil {
		err = s.relay.Close()
	}
	if s.host != nil {
		err = errors.Join(err, s.host.Close())
	}
	return err
}

// Host is the libp2p host that the server runs on. It is for tests that put
// themselves between the server and its streams, to alter what it answers.
func (s *Server) Host() host.Host { return s.host }

// PeerID is the rendezvous's name, the same for as long as its data directory
// lives.
func (s *Server) PeerID() peer.ID { return s.host.ID() }

// Addrs are the addresses to reach it at: announced ones first, as given, then
// public, private and loopback ones.
func (s *Server) Addrs() []ma.Multiaddr { return p2p.Addrs(s.host, s.announce) }
