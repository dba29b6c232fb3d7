package relay

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/token"
	"github.com/parley-chat/parley/store/dirlock"
)

const patience = 20 * time.Second

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// clock is time that tests set.
type clock struct{ since atomic.Int64 }

func (c *clock) Now() time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(time.Duration(c.since.Load()))
}
func (c *clock) add(d time.Duration) { c.since.Add(int64(d)) }

// home is a rendezvous that does what a test says: it answers for its keys, and
// approves who follows.
type home struct {
	t     testing.TB
	host  host.Host
	clock *clock
	says  chan *wire.Followed // to the relay, besides the first answer

	mu    sync.Mutex
	set   *token.Set
	reads int
}

func newHome(t testing.TB, keys ...token.Key) *home {
	t.Helper()
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay(), libp2p.DisableMetrics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	r := &home{t: t, host: h, clock: &clock{}, says: make(chan *wire.Followed, 10)}
	r.publish(1, keys...)
	h.SetStreamHandler(protocol.CallProtocol, r.handleCall)
	h.SetStreamHandler(protocol.FollowProtocol, r.handleFollow)
	return r
}

func (r *home) issuer() string { return token.Issuer(r.host.ID().String()) }

// publish makes this the key set, and tells nobody.
func (r *home) publish(number uint64, keys ...token.Key) *token.Set {
	r.t.Helper()
	var public []ed25519.PublicKey
	for _, k := range keys {
		public = append(public, k.Public())
	}
	set, err := token.NewSet(r.issuer(), number, public)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.set = set
	return set
}

// event is the event about a set, signed by a host.
func event(t testing.TB, set *token.Set, by host.Host) []byte {
	t.Helper()
	b, err := token.EventOf(set).Sign(by.Peerstore().PrivKey(by.ID()).Sign)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (r *home) readings() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.reads
}

func (r *home) handleCall(s network.Stream) {
	defer s.Close()
	req := &wire.Request{}
	if wire.ReadMsg(s, req) != nil {
		return
	}
	r.mu.Lock()
	r.reads++
	answer := &wire.KeySet{}
	if req.GetGetKeySet().GetEtag() != r.set.ETag() {
		answer.Document = r.set.JSON()
	}
	r.mu.Unlock()
	wire.WriteMsg(s, &wire.Response{Result: &wire.Response_KeySet{KeySet: answer}})
}

func (r *home) handleFollow(s network.Stream) {
	defer s.Reset()
	if wire.ReadMsg(s, &wire.Follow{}) != nil || wire.WriteMsg(s, &wire.Followed{Approved: true, Beat: 1}) != nil {
		return
	}
	for m := range r.says {
		if wire.WriteMsg(s, m) != nil {
			return
		}
	}
}

// running is a relay that runs alone, and what it logs.
type running struct {
	*Server
	mu  sync.Mutex
	out bytes.Buffer
}

func (r *running) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.Write(b)
}

func (r *running) log() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.out.String()
}

// startAlone runs a relay that is approved and has read the keys.
func startAlone(t testing.TB, h *home) *running {
	t.Helper()
	r := &running{}
	s, err := NewServer(t.Context(), ServerConfig{
		Dir: t.TempDir(), Follow: peer.AddrInfo{ID: h.host.ID(), Addrs: h.host.Addrs()}, Listen: []string{"/ip4/127.0.0.1/tcp/0"},
		Now: h.clock.Now, Log: slog.New(slog.NewTextHandler(r, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	r.Server = s
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	eventually(t, "it serves", func() bool { st := s.Status(); return st.Approved && st.Keys })
	return r
}

func (r *running) info() peer.AddrInfo { return peer.AddrInfo{ID: r.PeerID(), Addrs: r.Addrs()} }

// present shows a token.
func present(t testing.TB, h host.Host, r *running, text string) *wire.Admission {
	t.Helper()
	s, err := h.NewStream(t.Context(), r.PeerID(), protocol.TokenProtocol)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(patience))
	answer := &wire.Admission{}
	if err := wire.WriteMsg(s, &wire.Present{Token: text}); err != nil {
		t.Fatal(err)
	}
	if err := wire.ReadMsg(s, answer); err != nil {
		t.Fatal(err)
	}
	return answer
}

// by is a good token of a peer by this key.
func (r *home) by(k token.Key, holder host.Host) string {
	r.t.Helper()
	now := r.clock.Now()
	text, err := token.Claims{
		Issuer: r.issuer(), Peer: holder.ID().String(), Audience: token.AudienceRelay, Scope: token.ScopeMember,
		Issued: now, Expires: now.Add(token.MaxLife),
	}.Sign(k)
	if err != nil {
		r.t.Fatal(err)
	}
	return text
}

// TestJWK04_RelayUnderFlood: tokens by invented keys make a relay read the key
// set a few times, not each time, and keep nobody out.
func TestJWK04_RelayUnderFlood(t *testing.T) {
	k := token.NewKey()
	h := newHome(t, k)
	r := startAlone(t, h)
	before, began := h.readings(), time.Now()
	const peers, each = 20, presentBurst
	var all sync.WaitGroup
	for range peers {
		guest := newPeer(t, r.info())
		all.Go(func() {
			for range each {
				if a := present(t, guest, r, h.by(token.NewKey(), guest)); protocol.Code(a.GetCode()) != protocol.TokenInvalid {
					t.Errorf("admission %v", a)
				}
			}
		})
	}
	all.Wait()
	// One at once, one each 2 s after that, and the one that is due each minute.
	if reads, most := h.readings()-before, 3+int(time.Since(began)/(2*time.Second)); reads > most || reads == 0 {
		t.Errorf("%d tokens caused %d readings, at most %d", peers*each, reads, most)
	}
	honest := newPeer(t, r.info())
	if a := present(t, honest, r, h.by(k, honest)); a.GetCode() != 0 {
		t.Errorf("an honest token: %v", a)
	}
}

// TestJWK03_RelayReplacesWhatItReads: without any event, what the relay reads
// replaces what it knew, and passes by a key that is gone end.
func TestJWK03_RelayReplacesWhatItReads(t *testing.T) {
	first, next := token.NewKey(), token.NewKey()
	h := newHome(t, first)
	r := startAlone(t, h)
	old, fresh := newPeer(t, r.info()), newPeer(t, r.info())
	if a := present(t, old, r, h.by(first, old)); a.GetCode() != 0 {
		t.Fatalf("admission %v", a)
	}
	h.publish(2, next)
	if a := present(t, fresh, r, h.by(next, fresh)); a.GetCode() != 0 { // makes it read
		t.Fatalf("by the next key: %v", a)
	}
	if r.door.Member(old.ID()) {
		t.Error("the revoked key still opens")
	}
	if a := present(t, old, r, h.by(first, old)); protocol.Code(a.GetCode()) != protocol.TokenInvalid {
		t.Errorf("by the revoked key: %v", a)
	}
}

// TestJWK05_RelayAndForgedEvents: an event that the rendezvous has not signed
// changes nothing and is an alarm; so is an older set.
func TestJWK05_RelayAndForgedEvents(t *testing.T) {
	first, next := token.NewKey(), token.NewKey()
	h := newHome(t, first)
	r := startAlone(t, h)
	guest := newPeer(t, r.info())
	forged := event(t, h.publish(9, next), guest)
	h.publish(1, first)
	h.says <- &wire.Followed{Approved: true, KeyEvent: forged}
	eventually(t, "the alarm is raised", func() bool { return strings.Contains(r.log(), "ALARM") })
	if a := present(t, guest, r, h.by(first, guest)); a.GetCode() != 0 {
		t.Errorf("after a forged event: %v", a)
	}
	newer := h.publish(2, next)
	h.says <- &wire.Followed{Approved: true, KeyEvent: event(t, newer, h.host)}
	eventually(t, "the first key is gone", func() bool { return !r.door.Member(guest.ID()) })
	h.publish(1, first) // the rendezvous was set back, or lies
	if a := present(t, guest, r, h.by(first, guest)); protocol.Code(a.GetCode()) != protocol.TokenInvalid {
		t.Errorf("a key came back: %v", a)
	}
}

// Connections that show no token are few, and end. They keep nobody out: the new
// one stays, and the one that has waited longest goes.
func TestWaitingIsBounded(t *testing.T) {
	k := token.NewKey()
	h := newHome(t, k)
	r := startAlone(t, h)
	var guests []host.Host
	for range maxFromSite {
		h.clock.add(time.Millisecond)
		guests = append(guests, newPeer(t, r.info()))
	}
	eventually(t, "all wait", func() bool { return r.Status().Waiting == maxFromSite })
	member := newPeer(t, r.info())
	eventually(t, "who has waited longest is sent away", func() bool { return len(guests[0].Network().ConnsToPeer(r.PeerID())) == 0 })
	if n := r.Status().Waiting; n != maxFromSite {
		t.Errorf("%d wait", n)
	}
	if a := present(t, member, r, h.by(k, member)); a.GetCode() != 0 {
		t.Errorf("a member who comes last: %v", a)
	}
	member.Close()
	h.clock.add(tokenWait)
	for _, g := range guests {
		eventually(t, "who waited is sent away", func() bool { return len(g.Network().ConnsToPeer(r.PeerID())) == 0 })
	}
	eventually(t, "nobody waits", func() bool { return r.Status().Waiting == 0 })
	newPeer(t, r.info())
}

// Tokens on one connection are counted, good ones too.
func TestPaceOfTokens(t *testing.T) {
	k := token.NewKey()
	h := newHome(t, k)
	r := startAlone(t, h)
	guest := newPeer(t, r.info())
	for range presentBurst {
		if a := present(t, guest, r, h.by(k, guest)); a.GetCode() != 0 {
			t.Fatalf("admission %v", a)
		}
	}
	a := present(t, guest, r, h.by(k, guest))
	if protocol.Code(a.GetCode()) != protocol.RateLimited || a.GetRetryAfterMs() == 0 {
		t.Errorf("one too many: %v", a)
	}
	h.clock.add(time.Duration(a.GetRetryAfterMs()) * time.Millisecond)
	if a := present(t, guest, r, h.by(k, guest)); a.GetCode() != 0 {
		t.Errorf("after the advised wait: %v", a)
	}
}

// Whatever bytes come on the stream of tokens, the relay goes on.
func TestGarbageForTokens(t *testing.T) {
	k := token.NewKey()
	h := newHome(t, k)
	r := startAlone(t, h)
	for name, b := range map[string][]byte{
		"nothing": {}, "a huge frame": {0xff, 0xff, 0xff, 0xff}, "a long frame": {0, 0, 0x10, 0}, "no message": {0, 0, 0, 2, 0xff, 0xff},
		"half a frame": {0, 0, 0, 9, 1},
	} {
		guest := newPeer(t, r.info())
		s, err := guest.NewStream(t.Context(), r.PeerID(), protocol.TokenProtocol)
		if err != nil {
			t.Fatal(err)
		}
		s.SetDeadline(time.Now().Add(patience))
		s.Write(b)
		s.CloseWrite()
		answer := &wire.Admission{}
		if err := wire.ReadMsg(s, answer); err == nil && answer.GetCode() == 0 {
			t.Errorf("%s was answered %v", name, answer)
		}
		if a := present(t, guest, r, h.by(k, guest)); a.GetCode() != 0 {
			t.Errorf("after %s: %v", name, a)
		}
	}
}

// What cannot be followed is said at the start.
func TestServerConfig(t *testing.T) {
	good := peer.AddrInfo{ID: newHome(t).host.ID(), Addrs: newHome(t).host.Addrs()}
	for name, c := range map[string]ServerConfig{
		"no directory":  {Follow: good},
		"no address":    {Dir: t.TempDir(), Follow: peer.AddrInfo{ID: good.ID}},
		"no rendezvous": {Dir: t.TempDir(), Follow: peer.AddrInfo{Addrs: good.Addrs}},
		"bad address":   {Dir: t.TempDir(), Follow: good, Listen: []string{"x"}},
		"bad announce":  {Dir: t.TempDir(), Follow: good, Announce: []string{"x"}},
	} {
		if s, err := NewServer(t.Context(), c); err == nil {
			s.Close()
			t.Errorf("%s: it starts", name)
		}
	}
}

// A name is that of one relay: a second one does not run in its directory.
func TestOneRelayInADirectory(t *testing.T) {
	h := newHome(t)
	c := ServerConfig{
		Dir: t.TempDir(), Follow: peer.AddrInfo{ID: h.host.ID(), Addrs: h.host.Addrs()}, Listen: []string{"/ip4/127.0.0.1/tcp/0"},
		Log: slog.New(slog.DiscardHandler),
	}
	first, err := NewServer(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if second, err := NewServer(t.Context(), c); !errors.Is(err, dirlock.ErrHeld) {
		t.Errorf("a second relay: %v, %v, want ErrHeld", second, err)
	}
	id := first.PeerID()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := NewServer(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.PeerID() != id {
		t.Error("the relay has another name")
	}
}
