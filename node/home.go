package node

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

const (
	connectTimeout = 3 * time.Second
	retryFirst     = time.Second
	retryMax       = 30 * time.Second
	retryHopeless  = 10 * time.Minute // only a person can help, but it may have happened
	maxSkew        = 5 * time.Minute  // beyond this the user is told
	suspectEvery   = 5 * time.Minute
)

// ErrOffline is wrapped by the errors of what needs the rendezvous while it
// cannot be reached.
var ErrOffline = errors.New("the rendezvous cannot be reached")

var (
	errMoved      = errors.New("the network changed")
	errNotGreeted = errors.New("the rendezvous wants a hello on this connection")
	errReturned   = errors.New("the rendezvous had lost this device, and has it again")
)

// home is the standing connection to the rendezvous: connect, link, relay
// reservation; and again whenever it breaks.
type home struct {
	n       *Node
	info    peer.AddrInfo // from the invite
	moved   nudge         // the network changed: this connection is not to be trusted
	refused nudge         // a call was told to say hello first: this connection is of no use
	beatNow nudge
	calls   chan struct{} // one slot per running call
	changed bell          // rung when up changes
	asked   chan struct{} // closed when the rendezvous said who we are, or could not be asked
	tried   func()        // closes asked

	presence presence

	busyUntil atomic.Int64 // unix nanoseconds: beat more often until then
	lastBeat  atomic.Int64
	suspected atomic.Int64 // unix nanoseconds of the last suspect that had an effect

	blobLimit atomic.Int64 // bytes of the largest blob that the rendezvous takes

	mu     sync.Mutex
	up     bool
	state  api.Link
	relay  api.Link
	reason error // why the last connection ended, or none could be made
}

func newHome(n *Node, info peer.AddrInfo) *home {
	asked := make(chan struct{})
	return &home{
		n: n, info: info, moved: newNudge(), refused: newNudge(), beatNow: newNudge(), calls: make(chan struct{}, maxCalls),
		asked: asked, tried: sync.OnceFunc(func() { close(asked) }),
	}
}

// run keeps the connection until ctx ends.
func (h *home) run(ctx context.Context) error {
	failures := 0
	for ctx.Err() == nil {
		welcomed, err := h.session(ctx)
		if errors.Is(err, ErrReborn) {
			return err
		}
		if ctx.Err() != nil {
			break
		}
		if welcomed {
			failures = 0
		}
		wait := pause(err, failures)
		if welcomed && protocol.CodeOf(err) == protocol.Revoked {
			wait = retryFirst // to be shown the chain that says so
		}
		failures++
		h.setDown(err, wait)
		h.n.log.Info("rendezvous not connected", "err", err, "retry_in", wait.Round(time.Millisecond))
		select {
		case <-ctx.Done():
		case <-h.moved:
			failures = 0
		case <-time.After(wait):
		}
	}
	h.setDown(nil, 0)
	return nil
}

// pause is how long to wait after err. It always has some chance in it: after
// a restart of the rendezvous everybody comes back at once. Who was replaced by a
// copy, or told in the middle of a link to be one, is told by the next hello who
// goes on being the device.
func pause(err error, failures int) time.Duration {
	if errors.Is(err, errMoved) {
		return 0
	}
	jitter := 0.5 + rand.Float64()
	wait := min(retryFirst<<min(failures, 10), retryMax)
	if errors.Is(err, ErrRebornToday) || errors.Is(err, ErrGuestCopied) || errors.Is(err, engine.ErrNoAccountKey) || errors.Is(err, engine.ErrTooManyDevices) {
		wait = retryHopeless
	}
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		switch e.Code {
		case protocol.Revoked, protocol.NotMember, protocol.UnsupportedVersion:
			wait = retryHopeless
		default:
			wait = max(wait, min(e.RetryAfter, retryHopeless))
		}
	}
	return time.Duration(float64(wait) * jitter)
}

// judgeTime is how long after the start a rendezvous that answers, but not yet
// about our store, holds up what is to be sent directly.
const judgeTime = 25 * time.Second

// comesBackSoon tells that the rendezvous was reached and has not judged our
// store yet: it is asked again in a moment, and what it says may be that nothing
// may leave.
func (h *home) comesBackSoon(err error) bool {
	if h.n.now().Sub(h.n.started) >= judgeTime {
		return false
	}
	switch protocol.CodeOf(err) {
	case protocol.RateLimited, protocol.Unavailable, protocol.Draining:
		return true
	}
	return errors.Is(err, errReturned)
}

// session is one connection, from dialing to its end. It tells whether the
// rendezvous welcomed us.
func (h *home) session(ctx context.Context) (welcomed bool, err error) {
	if err := h.connect(ctx); err != nil {
		h.tried()
		return false, err
	}
	hangUp := func() { h.n.host.Network().ClosePeer(h.info.ID) }
	defer hangUp()
	l, w, err := h.openLink(ctx)
	switch code := protocol.CodeOf(err); {
	case code == protocol.DeviceCloned, code == protocol.StoreRolledBack, errors.Is(err, engine.ErrTurnedAway):
		return false, h.n.becomeNewDevice(ctx, err)
	case code == protocol.Revoked:
		return false, errors.Join(err, h.n.fetchOwnChain(ctx)) // the chain must say so too
	case code == protocol.NotMember && h.n.registerAgain(ctx) == nil:
		err = errReturned
	case err == nil:
		h.useOnly(l.s.Conn())
		err = h.n.catchUp(ctx, w)
	}
	if !h.comesBackSoon(err) {
		h.tried()
	}
	if err != nil {
		return false, err
	}
	g, ctx := errgroup.WithContext(ctx)
	// Ends everything on this connection at once, circuits through the
	// rendezvous included.
	defer context.AfterFunc(ctx, hangUp)()
	h.setUp(ctx, l, w)
	g.Go(func() error { return l.listen(ctx) })
	g.Go(func() error { return l.beat(ctx) })
	g.Go(func() error { return h.keepReservation(ctx, w.GetLimits()) })
	g.Go(func() error {
		select {
		case <-h.moved:
			return errMoved
		case <-h.refused:
			return errNotGreeted
		case <-ctx.Done():
			return nil
		}
	})
	return true, g.Wait()
}

func (h *home) connect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	clearBackoff(h.n.host, h.info.ID)
	h.n.host.Peerstore().ClearAddrs(h.info.ID) // what the rendezvous says of itself is not used
	h.n.host.Peerstore().AddAddrs(h.info.ID, h.info.Addrs, peerstore.PermanentAddrTTL)
	if err := h.n.host.Connect(ctx, h.info); err != nil {
		return fmt.Errorf("connect to the rendezvous: %w", err)
	}
	return nil
}

// useOnly leaves one connection to the rendezvous: the hello was said on it, and
// calls on another one would be refused.
func (h *home) useOnly(c network.Conn) {
	for _, other := range h.n.host.Network().ConnsToPeer(h.info.ID) {
		if other != c {
			other.Close()
		}
	}
	select {
	case <-h.refused: // on another connection, before
	default:
	}
}

// setUp takes in the welcome and tells everyone who waits for the rendezvous.
func (h *home) setUp(ctx context.Context, l *link, w *wire.Welcome) {
	now := h.n.now()
	h.blobLimit.Store(int64(min(w.GetLimits().GetBlobBytes(), math.MaxInt64)))
	h.mu.Lock()
	h.up, h.reason = true, nil
	h.state = api.Link{Up: true, PeerID: h.info.ID.String(), Path: transportOf(l.s.Conn().RemoteMultiaddr()),
		Since: &now, RTTms: millis(l.rtt), SkewMs: l.skew.Milliseconds()}
	h.mu.Unlock()
	h.presence.reset(true)
	h.changed.ring()

	h.n.log.Info("rendezvous connected", "peer", h.info.ID, "skew", l.skew.Round(time.Millisecond))
	h.n.sync.welcome(w)
	h.hear(w.GetPresence())
	h.n.drain.push() // what waits; also mail of which an earlier hint was lost
	h.n.lookups.retryAll()
	h.n.relays.changed()
	h.n.logs.more.push()
	h.n.wakeAll()
	if err := h.n.rooms.wakeAll(ctx); err != nil && ctx.Err() == nil {
		h.n.log.Error("rooms not followed", "err", err)
	}
}

func (h *home) setDown(err error, retry time.Duration) {
	at := h.n.now().Add(retry)
	h.mu.Lock()
	h.up, h.reason = false, err
	h.state = api.Link{PeerID: h.info.ID.String(), Retry: &at}
	h.relay = api.Link{PeerID: h.info.ID.String()}
	if err != nil {
		h.state.Problem = err.Error()
	}
	h.mu.Unlock()
	h.presence.reset(false)
	h.changed.ring()
	h.n.rooms.wakeAlone()
}

// wasAsked tells whether the rendezvous was asked, at the start of this process,
// whether another copy of the store is in use. Until then nothing leaves for
// other devices, so that a store that was set back does not use its keys again; if
// the rendezvous cannot be reached, which takes at most connectTimeout and
// beatTimeout twice, contacts are talked to without it.
func (h *home) wasAsked() bool {
	select {
	case <-h.asked:
		return true
	default:
		return false
	}
}

// awaitAsked waits for that. It returns false if ctx ends before.
func (h *home) awaitAsked(ctx context.Context) bool {
	select {
	case <-ctx.Done():
		return false
	case <-h.asked:
		return true
	}
}

func (h *home) isUp() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.up
}

// links returns the state of the connection and of the relay reservation, and
// why there is no connection.
func (h *home) links() (link, relay api.Link, reason error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.state, h.relay, h.reason
}

// skew is our clock minus the rendezvous's, zero while unknown.
func (h *home) skew() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Duration(h.state.SkewMs) * time.Millisecond
}

// busy says that somebody is using the node right now, so a dead connection
// should be noticed soon.
func (h *home) busy() {
	now := time.Now().UnixNano()
	h.busyUntil.Store(now + int64(busyFor))
	if now-h.lastBeat.Load() > int64(beatBusy) {
		h.beatNow.push()
	}
}

// suspect says that a direct connection to a contact died without a word. Our
// public address may have changed: the QUIC connection to the rendezvous
// survives that, and goes on showing the old address, with which no hole can be
// punched any more. So it is made anew, now and then.
func (h *home) suspect() {
	now, last := time.Now().UnixNano(), h.suspected.Load()
	if now-last > int64(suspectEvery) && h.suspected.CompareAndSwap(last, now) {
		h.moved.push()
	}
}

// hear takes in presence, wakes mail for those who came, and looks whether
// those who went are really gone.
func (h *home) hear(all []*wire.Presence) {
	news := false
	for _, p := range all {
		a, err := protocol.FromBytes[protocol.AccountID](p.GetAccount())
		if err != nil {
			continue
		}
		if !h.presence.set(a, p.GetOnline()) {
			continue
		}
		news = true
		for _, d := range h.n.gate.devicesOf(a) {
			if p.GetOnline() {
				h.n.outbox.wakeNew(d.id)
			} else {
				h.n.dialer.doubt(d, offlineDoubt)
			}
		}
	}
	if news {
		h.n.files.retry() // also to store what somebody who went has not got
	}
}

func transportOf(a ma.Multiaddr) string {
	for code, name := range map[int]string{ma.P_QUIC_V1: "quic", ma.P_WS: "ws", ma.P_WSS: "ws"} {
		if _, err := a.ValueForProtocol(code); err == nil {
			return name
		}
	}
	return "tcp"
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// onlyConnected makes a context with which streams use the connection there
// is, relayed or not, and never dial.
func onlyConnected(ctx context.Context) context.Context {
	return network.WithAllowLimitedConn(network.WithNoDial(ctx, "parley"), "parley")
}

// homeInfo reads where a rendezvous is.
func homeInfo(h engine.Home) (peer.AddrInfo, error) {
	id, err := peer.IDFromBytes(h.Peer)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("read the rendezvous's peer id: %w", err)
	}
	info := peer.AddrInfo{ID: id}
	for _, text := range h.Addrs {
		a, err := ma.NewMultiaddr(text)
		if err != nil {
			return peer.AddrInfo{}, fmt.Errorf("read the rendezvous's address %q: %w", text, err)
		}
		info.Addrs = append(info.Addrs, a)
	}
	return info, nil
}
