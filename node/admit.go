package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

const (
	admitTimeout = 5 * time.Second
	tokenReuse   = 5 * time.Minute  // a token is shown to other relays for this long
	tokenRenew   = 10 * time.Minute // after it was given, the next one is shown
	relayAvoid   = 10 * time.Minute // a relay that does not take us is left alone for
)

// admission is that of one connection to a relay.
type admission struct {
	conn  network.Conn // nil: never
	renew time.Time    // when the next token is to be shown
	until time.Time    // when it ends
}

// token is the last access token that the rendezvous gave for relays.
type token struct {
	over atomic.Bool // the next use asks for another one

	mu   sync.Mutex // held while the rendezvous is asked: one question at a time
	text string
	got  time.Time
}

// keysChanged says that tokens may be signed with another key: what was shown is
// shown anew, everywhere.
func (r *relays) keysChanged() {
	r.token.over.Store(true)
	r.mu.Lock()
	for _, s := range r.list {
		s.admission.renew = time.Time{}
	}
	r.mu.Unlock()
	r.anew.push()
}

// admit makes sure that there is a connection to a relay on which it serves us.
// An admission that cannot be renewed yet is used while it lasts.
func (r *relays) admit(ctx context.Context, p peer.ID) error {
	if _, renew := r.admitted(p); renew > 0 {
		return nil
	}
	err := r.n.share(ctx, &r.flights, string(p), func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, admitTimeout)
		defer cancel()
		return r.present(ctx, p)
	})
	if conn, _ := r.admitted(p); conn != nil {
		return nil
	}
	return err
}

// admitted returns the connection on which a relay serves us, nil if there is
// none, and the time until the next token is due.
func (r *relays) admitted(p peer.ID) (conn network.Conn, renew time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.list[p]
	if s == nil || s.admission.conn == nil || s.admission.conn.IsClosed() || time.Now().After(s.admission.until) {
		return nil, 0
	}
	return s.admission.conn, time.Until(s.admission.renew)
}

// present shows a relay our token, and another one if that is not taken.
func (r *relays) present(ctx context.Context, p peer.ID) error {
	if err := r.reach(ctx, p); err != nil {
		return err
	}
	for again := false; ; again = true {
		text, got, err := r.getToken(ctx)
		if err != nil {
			return err
		}
		err = r.show(ctx, p, text, got)
		switch protocol.CodeOf(err) {
		case protocol.TokenInvalid, protocol.TokenExpired:
			r.token.over.Store(true)
			if !again {
				continue
			}
			r.leaveAlone(p, relayAvoid)
		case protocol.Unavailable, protocol.RateLimited:
			e, _ := errors.AsType[*protocol.Error](err)
			r.leaveAlone(p, min(e.RetryAfter, relayAvoid))
		}
		return err
	}
}

// reach connects to a relay, where the list says it is.
func (r *relays) reach(ctx context.Context, p peer.ID) error {
	r.mu.Lock()
	s := r.list[p]
	if s == nil || s.gone {
		r.mu.Unlock()
		return errors.New("the rendezvous does not list this relay")
	}
	addrs, avoid := s.addrs, s.avoid
	r.mu.Unlock()
	if left := time.Until(avoid); left > 0 {
		return fmt.Errorf("the relay did not take this device: next try in %v", left.Round(time.Second))
	}
	if !r.n.dialer.connected(p) {
		r.n.host.Peerstore().ClearAddrs(p) // what it says of itself is not used
		r.n.host.Peerstore().AddAddrs(p, addrs, peerstore.TempAddrTTL)
		clearBackoff(r.n.host, p)
	}
	if err := r.n.host.Connect(ctx, peer.AddrInfo{ID: p}); err != nil {
		return fmt.Errorf("connect to the relay: %w", err)
	}
	return nil
}

// show presents a token. The time of the answer is the measure of how far the
// relay is.
func (r *relays) show(ctx context.Context, p peer.ID, text string, got time.Time) error {
	s, err := r.n.host.NewStream(onlyConnected(ctx), p, protocol.TokenProtocol)
	if err != nil {
		return fmt.Errorf("open stream to the relay: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	began := time.Now()
	answer := &wire.Admission{}
	if err := errors.Join(wire.WriteMsg(s, &wire.Present{Token: text}), readFrame(s, answer)); err != nil {
		s.Reset()
		return fmt.Errorf("show the relay our token: %w", err)
	}
	if err := refusalIn(answer); err != nil {
		return fmt.Errorf("the relay does not take this device: %w", err)
	}
	now := time.Now()
	for _, other := range r.n.host.Network().ConnsToPeer(p) {
		if other != s.Conn() { // the relay serves the one
			other.Close()
		}
	}
	r.mu.Lock()
	if state := r.list[p]; state != nil {
		state.rtt = now.Sub(began)
		state.admission = admission{conn: s.Conn(), renew: got.Add(tokenRenew), until: now.Add(retryAfter(answer.GetLastsMs()))}
	}
	held := r.held
	r.mu.Unlock()
	if p != held {
		r.anew.push() // it is to be renewed too, while it is used
	}
	return nil
}

func (r *relays) leaveAlone(p peer.ID, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.list[p]; s != nil {
		s.avoid = time.Now().Add(d)
	}
}

// getToken returns a token, and when it was given.
func (r *relays) getToken(ctx context.Context) (text string, got time.Time, err error) {
	t := &r.token
	t.mu.Lock()
	defer t.mu.Unlock()
	if over := t.over.Swap(false); t.text != "" && !over && time.Since(t.got) < tokenReuse {
		return t.text, t.got, nil
	}
	asked := time.Now()
	resp, err := r.n.home.call(ctx, &wire.Request{Call: &wire.Request_GetToken{GetToken: &wire.GetToken{Audience: "relay"}}})
	if err != nil {
		t.text = ""
		return "", time.Time{}, fmt.Errorf("get a token for relays: %w", err)
	}
	t.text, t.got = resp.GetToken().GetToken(), asked
	return t.text, t.got, nil
}
