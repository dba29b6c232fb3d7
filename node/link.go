package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	beatIdle    = 12 * time.Second // the most the rendezvous allows
	beatBusy    = 3 * time.Second
	busyFor     = 15 * time.Second
	beatTimeout = 5 * time.Second // an answer that takes longer does not come
	maxChanged  = protocol.MaxContacts
	helloEvery  = time.Minute // while sessions are in use
)

var errSilent = errors.New("the rendezvous does not answer")

// link is one link stream. One goroutine reads, one writes; each ends the
// other through the session they are part of.
type link struct {
	h        *home
	s        network.Stream
	answered atomic.Uint64 // seq of the last beat that was answered
	answer   nudge         // pushed when answered changes
	told     places        // as announced last; owned by beat
	hello    time.Time     // when the last was said; owned by beat
	rtt      time.Duration
	skew     time.Duration // our clock minus theirs
}

// openLink says hello and waits for the welcome.
func (h *home) openLink(ctx context.Context) (*link, *wire.Welcome, error) {
	start, hello, err := h.hello(ctx)
	if err != nil {
		return nil, nil, err
	}
	dialCtx, cancel := context.WithTimeout(onlyConnected(ctx), beatTimeout)
	defer cancel()
	s, err := h.n.host.NewStream(dialCtx, h.info.ID, protocol.LinkProtocol)
	if err != nil {
		return nil, nil, fmt.Errorf("open link: %w", err)
	}
	sent := time.Now()
	l := &link{h: h, s: s, answer: newNudge(), told: h.n.places(), hello: sent}
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	s.SetDeadline(sent.Add(beatTimeout))
	if err := wire.WriteMsg(s, &wire.Beat{Hello: hello, Addrs: l.told.addrs, Relays: l.told.relays, AddrsChanged: true, Seq: 1}); err != nil {
		return nil, nil, fmt.Errorf("say hello: %w", err)
	}
	w := &wire.Welcome{}
	if err := wire.ReadMsg(s, w); err != nil {
		return nil, nil, fmt.Errorf("wait for welcome: %w", err)
	}
	if err := refusalIn(w); err != nil {
		return nil, nil, err
	}
	if err := h.welcomed(ctx, start); err != nil {
		return nil, nil, err
	}
	s.SetDeadline(time.Time{})
	h.lastBeat.Store(sent.UnixNano())
	l.rtt = time.Since(sent)
	l.skew = h.n.now().Add(-l.rtt / 2).Sub(time.UnixMilli(int64(w.GetNowMs())))
	return l, w, nil
}

// hello makes what is said of the store.
func (h *home) hello(ctx context.Context) (start engine.Hello, hello *wire.Hello, err error) {
	err = h.n.do(ctx, func(tx store.Tx) (_ engine.Hint, err error) {
		start, err = h.n.eng.Hello(tx, h.n.self.Home.Peer)
		return engine.Hint{}, err
	})
	if err != nil {
		return start, nil, fmt.Errorf("count this start: %w", err)
	}
	return start, &wire.Hello{
		MinVersion: uint32(protocol.Version), MaxVersion: uint32(protocol.Version),
		StoreId: start.StoreID[:], StoreCtr: start.Ctr, Start: start.Start[:], Sig: start.Sig, NowMs: uint64(h.n.now().UnixMilli()),
	}, nil
}

func (h *home) welcomed(ctx context.Context, start engine.Hello) error {
	err := h.n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return engine.Hint{}, h.n.eng.Welcomed(tx, start) })
	if err != nil {
		return fmt.Errorf("note welcome: %w", err)
	}
	return nil
}

// listen reads hints until the link ends.
func (l *link) listen(ctx context.Context) error {
	for {
		l.s.SetReadDeadline(time.Now().Add(beatIdle + 2*beatTimeout))
		hint := &wire.Hint{}
		if err := wire.ReadMsg(l.s, hint); err != nil {
			return fmt.Errorf("read link: %w", err)
		}
		if hint.GetBeat() != 0 {
			l.answered.Store(hint.GetBeat())
			l.answer.push()
		}
		if hint.GetBye() != 0 {
			l.h.awaitAnswers(ctx)
			return &protocol.Error{Code: protocol.Code(hint.GetBye()), RetryAfter: retryAfter(hint.GetRetryAfterMs())}
		}
		if err := l.h.hint(ctx, hint); err != nil {
			return err
		}
	}
}

// hint acts on one hint. State is read from where it is kept, later.
func (h *home) hint(ctx context.Context, hint *wire.Hint) error {
	h.hear(hint.GetPresence())
	if c := hint.GetPrekeys(); c != nil {
		h.n.sync.prekeys(c)
	}
	var changed []protocol.AccountID
	for _, b := range hint.GetChanged()[:min(len(hint.GetChanged()), maxChanged)] {
		if a, err := protocol.FromBytes[protocol.AccountID](b); err == nil {
			changed = append(changed, a)
		}
	}
	for batch := range slices.Chunk(changed, headsBatch) {
		err := h.n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return h.n.eng.Changed(tx, h.n.now(), batch) })
		if err != nil {
			return fmt.Errorf("note changed accounts: %w", err)
		}
	}
	if hint.GetRelaysChanged() {
		h.n.relays.changed()
	}
	if len(hint.GetKeyEvent()) > 0 {
		h.n.relays.keysChanged()
	}
	if err := h.n.rooms.news(ctx, hint.GetRooms()); err != nil {
		return err
	}
	if hint.GetMail() { // after what changed: it may be of a new device
		h.n.drain.push()
	}
	return nil
}

// beat writes beats and expects an answer to each.
func (l *link) beat(ctx context.Context) error {
	for seq := uint64(2); ; seq++ {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.h.beatNow:
		case <-time.After(l.h.interval()):
		}
		b := &wire.Beat{Seq: seq}
		if now := l.h.n.places(); !now.equal(l.told) {
			b.Addrs, b.Relays, b.AddrsChanged, l.told = now.addrs, now.relays, true, now
		}
		start, err := l.helloAgain(ctx, b)
		if err != nil {
			return err
		}
		sent := time.Now()
		l.h.lastBeat.Store(sent.UnixNano())
		l.s.SetWriteDeadline(sent.Add(beatTimeout))
		if err := wire.WriteMsg(l.s, b); err != nil {
			return fmt.Errorf("write beat: %w", err)
		}
		if err := l.await(ctx, seq); err != nil {
			return err
		}
		if b.Hello != nil {
			if err := l.h.welcomed(ctx, start); err != nil {
				return err
			}
		}
		l.h.mu.Lock()
		l.h.state.RTTms = millis(time.Since(sent))
		l.h.mu.Unlock()
	}
}

// helloAgain puts another hello into a beat if sessions were used since the last.
func (l *link) helloAgain(ctx context.Context, b *wire.Beat) (start engine.Hello, err error) {
	if !l.h.n.eng.HelloDue() || time.Since(l.hello) < helloEvery {
		return start, nil
	}
	l.hello = time.Now()
	start, b.Hello, err = l.h.hello(ctx)
	return start, err
}

func (l *link) await(ctx context.Context, seq uint64) error {
	late := time.NewTimer(beatTimeout)
	defer late.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-late.C:
			return errSilent
		case <-l.answer:
			if l.answered.Load() >= seq {
				return nil
			}
		}
	}
}

// interval is the time to the next beat: few when nothing happens, as each
// costs traffic.
func (h *home) interval() time.Duration {
	if time.Now().UnixNano() < h.busyUntil.Load() || h.n.outbox.pending() {
		return beatBusy
	}
	return beatIdle
}

// places are what the rendezvous tells our contacts: addresses, public ones first,
// and the relays that we can be reached through.
type places struct{ addrs, relays [][]byte }

func (p places) equal(o places) bool {
	return slices.EqualFunc(p.addrs, o.addrs, slices.Equal) && slices.EqualFunc(p.relays, o.relays, slices.Equal)
}

func (n *Node) places() places {
	addrs := n.host.Addrs()
	slices.SortStableFunc(addrs, func(a, b ma.Multiaddr) int { return rank(a) - rank(b) })
	var all [][]byte
	for _, a := range addrs {
		if b := a.Bytes(); len(b) <= protocol.MaxAddr && len(all) < protocol.MaxAddrs {
			all = append(all, b)
		}
	}
	return places{addrs: all, relays: n.relays.told()}
}

func rank(a ma.Multiaddr) int {
	if manet.IsPublicAddr(a) {
		return 0
	}
	return 1
}

func retryAfter(ms uint64) time.Duration {
	return time.Duration(min(ms, uint64(24*time.Hour/time.Millisecond))) * time.Millisecond
}
