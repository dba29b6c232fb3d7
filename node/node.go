// Package node is one person's device: it keeps the store, runs the engine,
// holds the connections, and answers the faces (command line, local API).
//
// The engine decides, inside a store transaction; this package carries. What
// must leave is a row before it leaves, and what arrives is a row before it is
// acknowledged, so a crash anywhere costs a retry. Between its parts only hints
// travel: state is read from the store.
//
// It must not look inside envelopes, and must not trust the rendezvous: what
// comes from there goes to the engine, which verifies it. It never imports the
// rendezvous.
package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Config says how to run a node. Dir and Secret are required.
type Config struct {
	Dir     string       // data directory that Join made
	Secret  vault.Secret // opens its vault
	Listen  []string     // multiaddrs; nil: every network, on a port chosen once and kept; empty: none, only dial
	LAN     bool         // find contacts on the local network (mDNS); others there can see that this device exists
	Version string       // of the program, for status
	Now     func() time.Time

	Downloads  string // folder that received files go to; empty: one in Dir
	AutoAccept int64  // files of verified contacts up to so many bytes are fetched unasked; 0: none
	FileRate   int64  // bytes of files per second that are received and given, each; 0: as many as there are

	Log *slog.Logger
}

// ErrNotJoined is returned by New for a directory where Join has not finished.
var ErrNotJoined = errors.New("this folder has not joined a rendezvous yet")

var errClosed = errors.New("this node has ended")

// Node is a device. Make it with New, run it with Run, once.
type Node struct {
	dir     string
	version string
	started time.Time
	listen  []ma.Multiaddr // nil: choose
	lan     *lan           // nil: off
	now     func() time.Time
	log     *slog.Logger

	kv         *vault.Store
	eng        *engine.Engine
	self       *engine.Identity
	host       host.Host
	interfaces *interfaces
	gate       *gate
	punches    *punches

	home    *home
	sync    *syncer
	lookups *lookups
	senders senders
	logs    *logReader
	drain   nudge // there may be mail
	dialer  *dialer
	relays  *relays
	outbox  *outbox
	topics  *topics
	rooms   *rooms
	files   *files
	gives   *giving
	ticks   nudge                            // Tick may be due
	ended   nudge                            // this device was revoked
	burned  atomic.Pointer[[]engine.FileEnd] // what was kept of files then; nil: it is not
	wraps   wraps

	chainMu sync.Mutex // one change of our own chain at a time
	adding  adding     // a device that is being added
	knocks  *knocks

	downloads string
	thumbs    chan struct{} // one thumbnail is made at a time

	events    bell // rung after a commit that made an event
	reachable atomic.Int32
	diskFull  atomic.Int64 // unix nanoseconds of the last refused write
	makingRSA atomic.Bool

	ctx      context.Context // of what is not under Run's own; ends when Run ends
	cancel   context.CancelFunc
	msgSlots chan struct{} // one per stream of incoming messages
	closing  sync.Once
	peersMu  sync.Mutex // one refreshPeers at a time: the last to read is the last to set

	lifeMu sync.Mutex
	closed bool
	others sync.WaitGroup // goroutines that Close waits for
}

// New opens the directory's vault and store and makes a libp2p host that does
// not listen; it starts nothing. Errors: vault.ErrWrongSecret, vault.ErrNoVault,
// store.ErrLocked when another process runs there, ErrNotJoined. Call Run, or
// Close if it is not going to be run.
func New(ctx context.Context, cfg Config) (*Node, error) {
	n := &Node{
		dir: cfg.Dir, version: cfg.Version, now: cfg.Now, log: cmp.Or(cfg.Log, slog.Default()),
		interfaces: &interfaces{}, punches: &punches{},
		drain: newNudge(), ticks: newNudge(), ended: newNudge(),
		msgSlots: make(chan struct{}, maxInboundMsg), thumbs: make(chan struct{}, 1), knocks: newKnocks(),
		downloads: cmp.Or(cfg.Downloads, filepath.Join(cfg.Dir, "downloads")),
	}
	if n.now == nil {
		n.now = time.Now
	}
	n.started = n.now()
	if cfg.Listen != nil {
		n.listen = []ma.Multiaddr{}
	}
	for _, text := range cfg.Listen {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("listen on %q: %w", text, err)
		}
		n.listen = append(n.listen, a)
	}
	kv, err := openStore(cfg.Dir, cfg.Secret, n.log)
	if err != nil {
		return nil, err
	}
	n.kv = kv
	n.ctx, n.cancel = context.WithCancel(context.Background())
	if err := n.open(ctx, cfg); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// open is the second half of New: what reads the store.
func (n *Node) open(ctx context.Context, cfg Config) error {
	err := n.loadEngine(ctx)
	if errors.Is(err, engine.ErrNoIdentity) {
		return ErrNotJoined
	}
	if err != nil {
		return fmt.Errorf("load identity: %w", err)
	}
	n.self = n.eng.Identity()
	if !n.self.Registered {
		return ErrNotJoined
	}
	if cfg.AutoAccept > 0 {
		if _, err := n.downloadTo(""); err != nil {
			return err
		}
		n.eng.AutoAccept(cfg.AutoAccept, n.downloads)
	}
	if err := n.makeHost(cfg); err != nil {
		return err
	}
	return n.refreshPeers(ctx)
}

// loadEngine finishes first what a crash cut off: becoming a device, or the end
// of one.
func (n *Node) loadEngine(ctx context.Context) error {
	if err := finishLink(ctx, n.kv); err != nil {
		return err
	}
	load := func(tx store.Tx) (err error) {
		if err := notEntering(tx); err != nil {
			return err
		}
		n.eng, err = engine.Load(tx)
		return err
	}
	switch err := n.kv.View(ctx, load); {
	case errors.Is(err, engine.ErrRevoked):
		return n.destroyKeys(ctx)
	case err != nil || !n.eng.Swapping():
		return err
	}
	if err := n.swapDevice(ctx); err != nil {
		return err
	}
	return n.kv.View(ctx, load)
}

func (n *Node) makeHost(cfg Config) error {
	info, err := homeInfo(n.self.Home)
	if err != nil {
		return err
	}
	n.gate = newGate(info, n.interfaces)
	n.host, err = newHost(hostParams{
		seed: n.self.Host.Bytes(), agent: "parley/" + cfg.Version, mapPorts: n.mapPorts(), gate: n.gate, home: info,
		announce: func(own []ma.Multiaddr) []ma.Multiaddr {
			return announced(own, network.Reachability(n.reachable.Load()), n.interfaces, n.gate.nearness())
		},
		punches:   n.punches,
		punchWith: punchAddrs{gate: n.gate, own: n.ownAddrs},
	})
	if err != nil {
		return err
	}
	n.home = newHome(n, info)
	n.sync = newSyncer(n)
	n.lookups = newLookups(n)
	n.logs = newLogReader(n)
	n.dialer = newDialer(n)
	n.relays = newRelays(n)
	n.outbox = newOutbox(n)
	n.rooms = newRooms(n)
	n.files, n.gives = newFiles(n, cfg.FileRate), newGiving(n, cfg.FileRate)
	if err := n.files.open(); err != nil {
		return err
	}
	if n.topics, err = newTopics(n); err != nil {
		return err
	}
	if cfg.LAN && !n.isGuest() {
		n.lan = newLAN(n)
	}
	n.host.SetStreamHandler(protocol.MsgProtocol, n.handleMsg)
	n.host.SetStreamHandler(protocol.PrekeyProtocol, n.handlePrekey)
	n.host.SetStreamHandler(protocol.KnockProtocol, n.handleKnock)
	n.host.SetStreamHandler(protocol.RoomProtocol, n.handleRoom)
	n.host.SetStreamHandler(protocol.FileProtocol, n.handleFile)
	return nil
}

// read returns what fn finds in one view of a store.
func read[T any](ctx context.Context, kv store.KV, fn func(store.Tx) (T, error)) (found T, err error) {
	err = kv.View(ctx, func(tx store.Tx) (err error) {
		found, err = fn(tx)
		return err
	})
	return found, err
}

// do is the only way state changes: one transaction, then the hint.
func (n *Node) do(ctx context.Context, fn func(store.Tx) (engine.Hint, error)) error {
	var hint engine.Hint
	err := n.kv.Update(ctx, func(tx store.Tx) (err error) {
		hint, err = fn(tx)
		return err
	})
	if errors.Is(err, store.ErrFull) {
		n.diskFull.Store(time.Now().UnixNano())
	}
	if errors.Is(err, engine.ErrRevoked) { // whoever learned it may not have got to say so
		n.ended.push()
	}
	if err != nil {
		return err
	}
	n.dispatch(ctx, hint)
	return nil
}

// dispatch passes a hint on. It never blocks on the network.
func (n *Node) dispatch(ctx context.Context, h engine.Hint) {
	if h.Events {
		n.events.ring()
	}
	for _, d := range h.Outbox {
		n.outbox.wake(d)
	}
	n.lookups.want(h.Lookup, true)
	n.lookups.want(h.Refresh, false)
	if h.Log {
		n.logs.more.push()
	}
	n.rooms.wake(h.Rooms...)
	if h.Files {
		n.files.wake()
	}
	if h.Contacts {
		if err := n.refreshPeers(ctx); err != nil {
			n.log.Error("contacts not read", "err", err)
		}
		n.sync.contacts()
	}
	if h.Prekeys {
		n.sync.prekeys(nil)
	}
	if h.Chain {
		n.sync.chain()
	}
	if h.NewRSA {
		n.makeRSA()
	}
	if h.Tick {
		n.ticks.push()
	}
	if h.Revoked {
		n.ended.push()
	}
}

// refreshPeers tells the gate whose devices may connect, and disconnects those
// who no longer may.
func (n *Node) refreshPeers(ctx context.Context) error {
	n.peersMu.Lock()
	defer n.peersMu.Unlock()
	var devices []device
	err := n.kv.View(ctx, func(tx store.Tx) error {
		infos, err := n.eng.Peers(tx)
		if err != nil {
			return err
		}
		for _, i := range infos {
			devices = append(devices, device{account: i.Account, id: i.Device, peer: peer.ID(i.PeerID)})
		}
		for _, d := range n.topics.rooms.mates() {
			c, err := n.eng.Contact(tx, d.account)
			if err != nil && !errors.Is(err, engine.ErrNotFound) {
				return err
			}
			if c.Relation != engine.Blocked {
				devices = append(devices, d)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read whose devices may connect: %w", err)
	}
	for _, p := range n.gate.set(devices) {
		n.host.Network().ClosePeer(p)
	}
	return nil
}

// mapPorts tells whether to ask a router for a port: not when nobody outside
// this machine could use it.
func (n *Node) mapPorts() bool {
	for _, a := range n.listen {
		if !manet.IsIPLoopback(a) {
			return true
		}
	}
	return n.listen == nil
}
