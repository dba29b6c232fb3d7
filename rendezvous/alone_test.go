package rendezvous

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"context"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	relayclient "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/relay"
	"github.com/parley-chat/parley/rendezvous/token"
)

// aloneRelay is a relay that runs without a store and follows a rendezvous.
type aloneRelay struct {
	*relay.Server
	log func() string // what it logged so far
}

// startRelay runs a relay that follows s, on the same clock.
func startRelay(t testing.TB, s *testServer) *aloneRelay {
	t.Helper()
	var mu sync.Mutex
	var log bytes.Buffer
	r, err := relay.NewServer(t.Context(), relay.ServerConfig{
		Dir: t.TempDir(), Follow: peer.AddrInfo{ID: s.PeerID(), Addrs: s.Addrs()},
		Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Now: s.clock.Now,
		Log: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := r.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return &aloneRelay{r, func() string { mu.Lock(); defer mu.Unlock(); return log.String() }}
}

// approvedRelay is startRelay, and the relay serves.
func approvedRelay(t testing.TB, s *testServer) *aloneRelay {
	t.Helper()
	r := startRelay(t, s)
	mustDo(t, s.AddRelay(t.Context(), r.PeerID()))
	eventually(t, "the relay serves", func() bool { st := r.Status(); return st.Approved && st.Keys })
	return r
}

func (r *aloneRelay) info() peer.AddrInfo { return peer.AddrInfo{ID: r.PeerID(), Addrs: r.Addrs()} }

// token gets a token for relays.
func (d *device) token() string {
	d.t.Helper()
	return d.must(tokenRequest(token.AudienceRelay)).GetToken().GetToken()
}

// present shows a token to a relay.
func (d *device) present(r *aloneRelay, text string) *wire.Admission {
	d.t.Helper()
	if err := d.host.Connect(d.t.Context(), r.info()); err != nil {
		d.t.Fatal(err)
	}
	s, err := d.host.NewStream(d.t.Context(), r.PeerID(), protocol.TokenProtocol)
	if err != nil {
		d.t.Fatal(err)
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(patience))
	answer := &wire.Admission{}
	if err := wire.WriteMsg(s, &wire.Present{Token: text}); err != nil {
		d.t.Fatal(err)
	}
	if err := wire.ReadMsg(s, answer); err != nil {
		d.t.Fatal(err)
	}
	return answer
}

// admitted shows a token of its own, which has to do.
func (d *device) admitted(r *aloneRelay) {
	d.t.Helper()
	if a := d.present(r, d.token()); a.GetCode() != 0 || a.GetLastsMs() != uint64((token.MaxLife+token.Leeway).Milliseconds()) {
		d.t.Fatalf("admission %v", a)
	}
}

// turnedAway shows a token that has to be refused with code.
func (d *device) turnedAway(r *aloneRelay, text string, code protocol.Code) *wire.Admission {
	d.t.Helper()
	a := d.present(r, text)
	if protocol.Code(a.GetCode()) != code || a.GetLastsMs() != 0 {
		d.t.Fatalf("admission %v, want %v", a, code)
	}
	return a
}

func (d *device) reserveAt(r *aloneRelay) error {
	_, err := relayclient.Reserve(d.t.Context(), d.host, r.info())
	return err
}

// through connects to another device by a relay that runs alone.
func (d *device) through(r *aloneRelay, to *device) error {
	circuit := ma.StringCast("/p2p/" + r.PeerID().String() + "/p2p-circuit")
	ctx, cancel := context.WithTimeout(d.t.Context(), patience)
	defer cancel()
	d.host.Network().(*swarm.Swarm).Backoff().Clear(to.host.ID())
	return d.host.Connect(network.WithAllowLimitedConn(ctx, "test"), peer.AddrInfo{ID: to.host.ID(), Addrs: []ma.Multiaddr{circuit}})
}

// isAt tells whether there is a connection to the relay.
func (d *device) isAt(r *aloneRelay) bool {
	return d.host.Network().Connectedness(r.PeerID()) == network.Connected
}

// A relay serves nobody until it is approved, then members who show a token, and
// nobody again once the operator has removed it.
func TestRelayAlone(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, bob, eve := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "eve")
	r := startRelay(t, s)
	eventually(t, "it follows", func() bool { return r.Status().Follows && r.Status().Keys })
	if a := alice.turnedAway(r, alice.token(), protocol.Unavailable); a.GetRetryAfterMs() == 0 {
		t.Errorf("not approved: %v", a)
	}
	if !strings.Contains(r.log(), "parley host relays add "+r.PeerID().String()) {
		t.Errorf("the operator is not told what to type: %s", r.log())
	}
	mustDo(t, s.AddRelay(t.Context(), r.PeerID()))
	eventually(t, "it is approved", func() bool { return r.Status().Approved })
	alice.admitted(r)
	bob.admitted(r)
	for name, err := range map[string]error{"alice": alice.reserveAt(r), "bob": bob.reserveAt(r)} {
		if err != nil {
			t.Errorf("%s's reservation: %v", name, err)
		}
	}
	if err := alice.through(r, bob); err != nil {
		t.Errorf("alice to bob: %v", err)
	}
	if err := eve.host.Connect(t.Context(), r.info()); err != nil {
		t.Fatal(err)
	}
	if err := eve.reserveAt(r); !denied(err) {
		t.Errorf("eve, without a token: %v", err)
	}
	if err := eve.through(r, bob); !denied(err) {
		t.Errorf("eve to bob: %v", err)
	}
	if st := r.Status(); st.Admitted != 2 || st.Waiting != 1 || st.Reservations != 2 || st.Circuits != 1 {
		t.Errorf("status %+v", st)
	}

	mustDo(t, s.RemoveRelay(t.Context(), r.PeerID()))
	eventually(t, "it is told of its removal", func() bool { return !r.Status().Approved })
	if err := alice.reserveAt(r); !denied(err) {
		t.Errorf("alice, at a relay that was removed: %v", err)
	}
	alice.turnedAway(r, alice.token(), protocol.Unavailable)
	eventually(t, "passes are over", func() bool { return r.Status().Admitted == 0 })
	s.clock.add(11 * time.Second)
	eventually(t, "everybody is sent away", func() bool { return !alice.isAt(r) && !bob.isAt(r) && !eve.isAt(r) })
	eventually(t, "nothing is kept of them", func() bool { st := r.Status(); return st.Reservations == 0 && st.Waiting == 0 })
}

// forged is a token with any header, and any signature over it.
func forged(header string, c token.Claims, by func([]byte) []byte, t testing.TB) string {
	t.Helper()
	signed, err := c.Sign(token.NewKey())
	mustDo(t, err)
	text := base64.RawURLEncoding
	head := text.EncodeToString([]byte(header)) + "." + strings.Split(signed, ".")[1]
	return head + "." + text.EncodeToString(by([]byte(head)))
}

// TestJWK03_RelayRefuses: a relay that runs alone takes nothing but a token of
// its own rendezvous, by one of its keys, for relays, for now, of the peer that
// shows it; and each refusal says which it was.
func TestJWK03_RelayRefuses(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	r := approvedRelay(t, s)
	k := signer(t, s.issuer)
	good := token.Claims{
		Issuer: s.issuer.name, Account: alice.owner, Device: alice.id, Peer: alice.host.ID().String(), Audience: token.AudienceRelay,
		Scope: token.ScopeMember, Issued: s.clock.Now(), Expires: s.clock.Now().Add(token.MaxLife),
	}
	sign := func(change func(*token.Claims)) string {
		c := good
		if change != nil {
			change(&c)
		}
		text, err := c.Sign(signingKey(k))
		mustDo(t, err)
		return text
	}
	alien, err := good.Sign(token.NewKey())
	mustDo(t, err)
	header := func(alg string) string { return `{"alg":"` + alg + `","kid":"` + k.ID + `","typ":"parley+jwt"}` }
	hs256 := func(b []byte) []byte { m := hmac.New(sha256.New, k.Public); m.Write(b); return m.Sum(nil) }
	seed := [32]byte(k.Seed)
	eddsa := func(b []byte) []byte { return ed25519.Sign(ed25519.NewKeyFromSeed(seed[:]), b) }

	for _, c := range []struct {
		name, text string
		code       protocol.Code
		says       string
	}{
		{"of another peer", bob.token(), protocol.TokenInvalid, "another device"},
		{"for another service", sign(func(c *token.Claims) { c.Audience = token.AudienceHTTP }), protocol.TokenInvalid, "another service"},
		{"of another scope", sign(func(c *token.Claims) { c.Scope = "admin" }), protocol.TokenInvalid, "not for members"},
		{"expired", sign(func(c *token.Claims) {
			c.Issued, c.Expires = c.Issued.Add(-time.Hour), c.Expires.Add(-time.Hour)
		}), protocol.TokenExpired, "expired"},
		{"from the future", sign(func(c *token.Claims) {
			c.Issued, c.Expires = c.Issued.Add(time.Hour), c.Expires.Add(time.Hour)
		}), protocol.TokenInvalid, "future"},
		{"of another issuer", sign(func(c *token.Claims) { c.Issuer = "parley/" + alice.host.ID().String() }), protocol.TokenInvalid, "not trusted"},
		{"by an unknown key", alien, protocol.TokenInvalid, "no such key"},
		{"alg none", forged(header("none"), good, func([]byte) []byte { return nil }, t), protocol.TokenInvalid, "not a token"},
		{"HS256 with the public key", forged(header("HS256"), good, hs256, t), protocol.TokenInvalid, "not a token"},
		{"another header", forged(`{"alg":"EdDSA","kid":"`+k.ID+`","typ":"parley+jwt","crit":[]}`, good, eddsa, t), protocol.TokenInvalid, "not a token"},
		{"another signature", forged(header("EdDSA"), good, func([]byte) []byte { return make([]byte, 64) }, t), protocol.TokenInvalid, "signature"},
		{"empty", "", protocol.TokenInvalid, "not a token"},
		{"no token", "x.y.z", protocol.TokenInvalid, "not a token"},
	} {
		s.clock.add(10 * time.Second) // so that the pace is no matter
		a := alice.turnedAway(r, c.text, c.code)
		if !strings.Contains(a.GetDetail(), c.says) {
			t.Errorf("%s: %q does not say %q", c.name, a.GetDetail(), c.says)
		}
		if err := alice.reserveAt(r); !denied(err) {
			t.Fatalf("%s: reservation %v", c.name, err)
		}
	}
	// The same key and header with the right claims pass: it was what it seemed.
	s.clock.add(10 * time.Second)
	if a := alice.present(r, forged(header("EdDSA"), good, eddsa, t)); a.GetCode() != 0 {
		t.Errorf("the good one: %v", a)
	}
	alice.turnedAway(r, alien, protocol.TokenInvalid)
	if err := alice.reserveAt(r); err != nil {
		t.Errorf("a refused token took the pass away: %v", err)
	}
}

// TestJWK03_RelayDropsRevokedKeys: when a key is revoked, whoever had a token by
// it is refused at once, and sent away unless it shows another one.
func TestJWK03_RelayDropsRevokedKeys(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	r := approvedRelay(t, s)
	stale := bob.token()
	for _, d := range []*device{alice, bob} {
		d.admitted(r)
		mustDo(t, d.reserveAt(r))
	}
	mustDo(t, alice.through(r, bob))
	gone := signer(t, s.issuer).ID
	mustDo(t, second(s.RevokeKey(t.Context(), gone)))
	eventually(t, "the passes are over", func() bool { return r.Status().Admitted == 0 })
	if err := bob.reserveAt(r); !denied(err) {
		t.Errorf("bob's reservation: %v", err)
	}
	bob.turnedAway(r, stale, protocol.TokenInvalid)
	alice.admitted(r) // by the next key
	if st := r.Status(); st.Reservations != 2 || st.Circuits != 1 {
		t.Errorf("before the time is over: %+v", st)
	}
	s.clock.add(11 * time.Second)
	eventually(t, "bob is sent away", func() bool { return !bob.isAt(r) && r.Status().Reservations == 1 && r.Status().Circuits == 0 })
	if !alice.isAt(r) {
		t.Error("alice is gone too")
	}
	mustDo(t, alice.reserveAt(r))
}

// A pass ends with its token, and not before when another token follows.
func TestPassesEnd(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	r := approvedRelay(t, s)
	alice.admitted(r)
	bob.admitted(r)
	s.clock.add(10 * time.Minute)
	alice.admitted(r)
	s.clock.add(6*time.Minute - time.Second) // the last second of bob's
	mustDo(t, bob.reserveAt(r))
	s.clock.add(time.Second)
	if err := bob.reserveAt(r); !denied(err) {
		t.Errorf("bob's reservation: %v", err)
	}
	if err := alice.through(r, bob); !denied(err) {
		t.Errorf("alice to bob, who has reserved before: %v", err)
	}
	mustDo(t, alice.reserveAt(r))
	eventually(t, "bob's pass is over", func() bool { return r.Status().Admitted == 1 })
	s.clock.add(11 * time.Second)
	eventually(t, "bob is sent away", func() bool { return !bob.isAt(r) })
	bob.admitted(r) // and comes back
	mustDo(t, bob.reserveAt(r))
}

// A pass is of one connection. Who has a device's host key and no token gets
// nothing on another one, and is sent away.
func TestPassIsOfOneConnection(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	r := approvedRelay(t, s)
	alice.admitted(r)
	mustDo(t, alice.reserveAt(r))
	bob.admitted(r)
	thief := alice.copied()
	if err := thief.host.Connect(t.Context(), r.info()); err != nil {
		t.Fatal(err)
	}
	if err := thief.reserveAt(r); !denied(err) {
		t.Errorf("the thief's reservation: %v", err)
	}
	if err := thief.through(r, bob); !denied(err) {
		t.Errorf("the thief to bob: %v", err)
	}
	mustDo(t, bob.through(r, alice)) // leads to alice's own connection
	s.clock.add(11 * time.Second)
	eventually(t, "the thief is sent away", func() bool { return !thief.isAt(r) })
	if !alice.isAt(r) {
		t.Error("alice is gone too")
	}

	moved := alice.copied() // alice herself, with a token, on another connection
	if a := moved.present(r, alice.token()); a.GetCode() != 0 {
		t.Fatalf("admission %v", a)
	}
	mustDo(t, moved.reserveAt(r))
	if err := alice.reserveAt(r); !denied(err) {
		t.Errorf("on the older connection: %v", err)
	}
	s.clock.add(11 * time.Second)
	eventually(t, "the older connection is closed", func() bool { return !alice.isAt(r) })
	if !moved.isAt(r) {
		t.Error("the newer one is closed too")
	}
}

// TestJWK09_RelayWithoutRendezvous: a relay goes on with the last good key set
// until its hard expiry, says so before, and then refuses everybody; when the
// rendezvous is back it serves by itself.
func TestJWK09_RelayWithoutRendezvous(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice := member(t, s, "alice")
	r := approvedRelay(t, s)
	key, issuer, addr := signingKey(signer(t, s.issuer)), s.issuer.name, s.Addrs()[0].String()
	by := func(key token.Key) string { // as the rendezvous would make it
		text, err := token.Claims{
			Issuer: issuer, Account: alice.owner, Device: alice.id, Peer: alice.host.ID().String(), Audience: token.AudienceRelay,
			Scope: token.ScopeMember, Issued: s.clock.Now(), Expires: s.clock.Now().Add(token.MaxLife),
		}.Sign(key)
		mustDo(t, err)
		return text
	}
	fresh := func() string { return by(key) }
	s.stopNow()
	eventually(t, "it is missed", func() bool { return !r.Status().Follows })
	s.clock.add(58 * time.Minute)
	if a := alice.present(r, fresh()); a.GetCode() != 0 {
		t.Fatalf("before the hard expiry: %v", a)
	}
	mustDo(t, alice.reserveAt(r))
	alice.turnedAway(r, by(token.NewKey()), protocol.TokenInvalid) // makes it read the set now, not in a minute
	eventually(t, "the alarm is raised", func() bool { return strings.Contains(r.log(), "ALARM") })
	s.clock.add(3 * time.Minute)
	if err := alice.reserveAt(r); !denied(err) {
		t.Errorf("after the hard expiry: %v", err)
	}
	if a := alice.turnedAway(r, fresh(), protocol.Unavailable); a.GetRetryAfterMs() == 0 {
		t.Errorf("no advice: %v", a)
	}
	eventually(t, "no pass is left", func() bool { return r.Status().Admitted == 0 })
	s.clock.add(11 * time.Second)
	eventually(t, "alice is sent away", func() bool { return !alice.isAt(r) })
	if n := strings.Count(r.log(), "ALARM"); n != 1 {
		t.Errorf("%d alarms", n)
	}

	again := startServer(t, func(c *Config) { c.Dir, c.Listen, c.Now = dir, []string{addr}, s.clock.Now })
	eventually(t, "it follows again", func() bool { st := r.Status(); return st.Follows && st.Approved && st.Keys })
	if a := alice.present(r, fresh()); a.GetCode() != 0 {
		t.Errorf("after the return: %v", a)
	}
	if len(again.relays.list()) != 1 {
		t.Error("members do not hear of it")
	}
}
