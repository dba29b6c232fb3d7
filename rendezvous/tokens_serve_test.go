package rendezvous

import (
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/token"
	"github.com/parley-chat/parley/store"
)

func tokenRequest(audience string) *wire.Request {
	return &wire.Request{Call: &wire.Request_GetToken{GetToken: &wire.GetToken{Audience: audience}}}
}

func keySetRequest(etag string) *wire.Request {
	return &wire.Request{Call: &wire.Request_GetKeySet{GetKeySet: &wire.GetKeySet{Etag: etag}}}
}

// identity is the public key in the server's peer id.
func (ts *testServer) identity(t *testing.T) ed25519.PublicKey {
	t.Helper()
	public, err := ts.PeerID().ExtractPublicKey()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := public.Raw()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// A member gets a token that says who it is; the key set is everybody's.
func TestTokens(t *testing.T) {
	s := startServer(t, nil)
	alice, stranger := member(t, s, "alice"), newDevice(t, s, "stranger")
	got := stranger.must(keySetRequest("")).GetKeySet()
	set, err := token.ParseSet(got.GetDocument(), s.issuer.name)
	mustDo(t, err)
	event, err := token.ParseEvent(got.GetEvent(), s.issuer.name, s.identity(t))
	if err != nil || event.Number != set.Number || event.Hash != set.Hash() {
		t.Errorf("event %+v, %v", event, err)
	}
	if again := stranger.must(keySetRequest(set.ETag())).GetKeySet(); len(again.GetDocument()) != 0 {
		t.Error("the set came again, unchanged")
	}
	for _, audience := range []string{"relay", "http"} {
		answer := alice.must(tokenRequest(audience)).GetToken()
		claims, err := set.Verify(answer.GetToken(), audience, s.clock.Now())
		want := token.Claims{
			Issuer: "parley/" + s.PeerID().String(), Account: alice.owner, Device: alice.id, Peer: alice.host.ID().String(),
			Audience: audience, Scope: "member", Issued: s.clock.Now(), Expires: s.clock.Now().Add(token.MaxLife),
			KeyID: set.IDs()[0],
		}
		if err != nil || claims != want || answer.GetExpiresMs() != uint64(want.Expires.UnixMilli()) {
			t.Errorf("claims %+v, %v", claims, err)
		}
	}
	for _, audience := range []string{"", "self-test", "admin"} {
		alice.refused(protocol.BadRequest, tokenRequest(audience))
	}
	stranger.refused(protocol.NotMember, tokenRequest("relay"))
}

// keySetOf reads the key set by a call of d.
func keySetOf(d *device) token.Fetch {
	return func(_ context.Context, etag string) ([]byte, error) {
		resp, err := d.tryCall(keySetRequest(etag))
		if err != nil || resp.GetCode() != 0 {
			return nil, errors.Join(err, protocol.Refuse(protocol.Code(resp.GetCode()), "%s", resp.GetDetail()))
		}
		if doc := resp.GetKeySet().GetDocument(); len(doc) > 0 {
			return doc, nil
		}
		return nil, nil
	}
}

// TestJWK01_RotateShowsAtOnce: after a rotation the very next read shows the
// new key, by call and over HTTP, and so it does after a restart.
func TestJWK01_RotateShowsAtOnce(t *testing.T) {
	dir := t.TempDir()
	start := func() *testServer {
		return startServer(t, func(c *Config) { c.Dir, c.HTTP = dir, "127.0.0.1:0" })
	}
	s := start()
	stranger := newDevice(t, s, "stranger")
	page, err := token.HTTPFetch("http://"+s.web.addr.String()+keySetPath, true)
	mustDo(t, err)
	check := func(want KeysStatus) {
		t.Helper()
		for _, fetch := range []token.Fetch{keySetOf(stranger), page} {
			doc, err := fetch(t.Context(), "")
			mustDo(t, err)
			set, err := token.ParseSet(doc, want.Issuer)
			mustDo(t, err)
			if len(set.IDs()) != len(want.Keys) || set.Number != want.Change {
				t.Fatalf("the set %s is not %+v", doc, want)
			}
			for _, k := range want.Keys {
				if !set.Has(k.ID) {
					t.Errorf("%s lacks %s", doc, k.ID)
				}
			}
		}
	}
	for range 3 {
		st, err := s.RotateKeys(t.Context())
		mustDo(t, err)
		if n := len(st.Keys); st.Keys[n-1].State != "published" || n < 2 {
			t.Fatalf("keys %+v", st)
		}
		check(st)
		s.clock.add(publishFor)
		mustDo(t, s.issuer.tend(t.Context()))
		st, err = s.KeysStatus(t.Context())
		mustDo(t, err)
		check(st)
	}
	// Another rendezvous on the same store.
	other := &issuer{name: s.issuer.name, store: s.store, now: s.now, log: s.log, fetch: s.issuer.fetch}
	mustDo(t, other.rotate(t.Context()))
	st, err := s.KeysStatus(t.Context())
	mustDo(t, err)
	check(st)

	before, err := s.issuer.set(t.Context())
	mustDo(t, err)
	s.stopNow()
	s = start()
	after, err := s.issuer.set(t.Context())
	if err != nil || after.ETag() != before.ETag() {
		t.Errorf("after a restart: %s, %v", after.JSON(), err)
	}
}

// TestJWK01_NoSetWithoutSigner: whatever happens to the keys, at no moment does a
// reader see a set without the key that signs, or is refused a token.
func TestJWK01_NoSetWithoutSigner(t *testing.T) {
	t.Parallel()
	c := newClock()
	i := newTestIssuer(t, c)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				keys, _, err := i.store.SigningKeys(context.Background())
				if _, signs := inState(keys, store.KeySigning); err != nil || !signs {
					t.Errorf("keys %v, %v", keys, err)
					return
				}
				if _, _, err := i.issue(context.Background(), selfTestClaims()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 10 {
		mustDo(t, i.rotate(t.Context()))
		c.add(publishFor)
		mustDo(t, i.tend(t.Context()))
		mustDo(t, i.revoke(t.Context(), signer(t, i).ID))
		c.add(retireFor)
		mustDo(t, i.tend(t.Context()))
	}
	close(done)
	readers.Wait()
}

// TestJWK03_RevokedIsGoneAtOnce: the key is gone in the answer to the next read,
// links are told, and a verifier that was told refuses in that moment; tokens
// go on with a key that verifiers did not know.
func TestJWK03_RevokedIsGoneAtOnce(t *testing.T) {
	s := startServer(t, nil)
	alice, relay := member(t, s, "alice"), newDevice(t, s, "relay")
	l := alice.link()
	l.settled()
	f := token.NewFollower(token.FollowerConfig{
		Issuer: s.issuer.name, Identity: s.identity(t), Fetch: keySetOf(relay), Now: s.clock.Now,
	})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); f.Run(ctx) }()
	defer func() { stop(); <-ended }()
	v := token.NewVerifier("relay")
	v.Trust(f)

	stolen := alice.must(tokenRequest("relay")).GetToken().GetToken()
	if _, err := v.Verify(t.Context(), stolen); err != nil {
		t.Fatal(err)
	}
	id := mustSet(t, s.issuer).IDs()[0]
	st, err := s.RevokeKey(t.Context(), id)
	if err != nil || len(st.Keys) != 1 || st.Keys[0].ID == id || st.Keys[0].State != "signing" {
		t.Fatalf("keys %+v, %v", st, err)
	}
	if mustSet(t, s.issuer).Has(id) {
		t.Error("the key is in the set")
	}
	s.tellingKeys.Lock()
	if s.keysTold != st.Change {
		t.Error("it is revoked, and no link was told yet")
	}
	s.tellingKeys.Unlock()
	hint := l.await("key event", func(h *wire.Hint) bool {
		e, err := token.ParseEvent(h.GetKeyEvent(), s.issuer.name, s.identity(t))
		return err == nil && e.Number == st.Change
	})
	mustDo(t, f.Push(hint.GetKeyEvent()))
	if _, err := v.Verify(t.Context(), stolen); !errors.Is(err, token.ErrUnknownKey) {
		t.Errorf("the stolen token: %v", err)
	}
	if _, err := v.Verify(t.Context(), alice.must(tokenRequest("relay")).GetToken().GetToken()); err != nil {
		t.Errorf("a new token: %v", err)
	}
	if _, err := s.RevokeKey(t.Context(), id); !errors.Is(err, ErrNotFound) {
		t.Errorf("again: %v", err)
	}
}

// TestJWK05_OthersChangesAreTold: a change that another process made in the
// store is told to links too.
func TestJWK05_OthersChangesAreTold(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	l := alice.link()
	l.settled()
	other := &issuer{name: s.issuer.name, store: s.store, now: s.now, log: s.log, fetch: s.issuer.fetch}
	mustDo(t, other.rotate(t.Context()))
	mustDo(t, s.tellKeys(t.Context())) // what tendKeys does every few seconds
	l.await("key event", func(h *wire.Hint) bool {
		e, err := token.ParseEvent(h.GetKeyEvent(), s.issuer.name, s.identity(t))
		return err == nil && len(e.IDs) == 2
	})
}

// get asks the HTTP listener.
func (ts *testServer) get(t *testing.T, method, path string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "http://"+ts.web.addr.String()+path, nil)
	mustDo(t, err)
	if header != nil {
		req.Header = header
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	mustDo(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	mustDo(t, err)
	return resp, string(body)
}

// TestJWK06_HTTP: what caches are told, and that an unchanged set is not sent
// again.
func TestJWK06_HTTP(t *testing.T) {
	t.Parallel()
	s := startServer(t, withHTTP)
	resp, body := s.get(t, "GET", keySetPath, nil)
	set := mustSet(t, s.issuer)
	if resp.StatusCode != 200 || body != string(set.JSON()) || resp.Header.Get("ETag") != set.ETag() ||
		resp.Header.Get("Cache-Control") != "public, max-age=60" || resp.Header.Get("Content-Type") != "application/jwk-set+json" ||
		resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("%d %v %s", resp.StatusCode, resp.Header, body)
	}
	if token.MaxAge > publishFor/2 || token.MaxAge > retireFor/2 {
		t.Error("the set may be cached for more than half of the overlap")
	}
	tag := http.Header{"If-None-Match": {set.ETag()}}
	if resp, body := s.get(t, "GET", keySetPath, tag); resp.StatusCode != 304 || body != "" || resp.Header.Get("ETag") != set.ETag() {
		t.Errorf("unchanged: %d %q", resp.StatusCode, body)
	}
	if _, err := s.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	if resp, body := s.get(t, "GET", keySetPath, tag); resp.StatusCode != 200 || !strings.Contains(body, set.IDs()[0]) {
		t.Errorf("changed: %d %q", resp.StatusCode, body)
	}
	if resp, body := s.get(t, "GET", "/healthz", nil); resp.StatusCode != 200 || body != "ok\n" {
		t.Errorf("health: %d %q", resp.StatusCode, body)
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{
		{"HEAD", keySetPath, 200},
		{"GET", "/", 404}, {"GET", "/.well-known/", 404}, {"GET", "/v1/keys", 404}, {"GET", "/debug/pprof/", 404},
		{"POST", keySetPath, 405}, {"DELETE", "/healthz", 405},
	} {
		if resp, _ := s.get(t, c.method, c.path, nil); resp.StatusCode != c.want {
			t.Errorf("%s %s: %d", c.method, c.path, resp.StatusCode)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.web.addr.String()+"/healthz", nil)
	mustDo(t, err)
	req.Header.Set("X", strings.Repeat("x", 4*maxHeader))
	if resp, err := http.DefaultTransport.RoundTrip(req); err == nil { // else it hung up before it was all sent
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a long header: %d", resp.StatusCode)
		}
	}
}

// Without being asked to, a rendezvous serves no HTTP; an address that is taken
// is an error at the start; after the end nobody listens.
func TestHTTPListener(t *testing.T) {
	s := startServer(t, nil)
	if st, err := s.Status(t.Context()); err != nil || st.HTTP != "" {
		t.Errorf("status %+v, %v", st, err)
	}
	s = startServer(t, withHTTP)
	addr := s.web.addr.String()
	if st, err := s.Status(t.Context()); err != nil || st.HTTP != addr {
		t.Errorf("status %+v, %v", st, err)
	}
	if _, err := New(t.Context(), Config{Dir: t.TempDir(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, HTTP: addr, Log: s.log}); err == nil {
		t.Error("two listen at one address")
	}
	s.stopNow()
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("it listens after the end")
	}
	for a, want := range map[string]string{"[::]:80": "[::1]:80", "0.0.0.0:80": "127.0.0.1:80", "192.0.2.1:80": "192.0.2.1:80"} {
		at, err := net.ResolveTCPAddr("tcp", a)
		if err != nil || dialable(at) != want {
			t.Errorf("%s is reached at %s, %v", a, dialable(at), err)
		}
	}
}

// The operator's commands, through the socket.
func TestAdminKeys(t *testing.T) {
	s := startServer(t, nil)
	a := NewAdmin(s.cfg.Dir)
	var st KeysStatus
	eventually(t, "the socket answers", func() bool {
		var err error
		st, err = a.KeysStatus(t.Context())
		return err == nil
	})
	if len(st.Keys) != 1 || st.Keys[0].State != "signing" || st.Keys[0].Until.Sub(st.Keys[0].Since) != rotateEvery || st.Alarm != "" {
		t.Errorf("status %+v", st)
	}
	first := st.Keys[0].ID
	s.clock.add(time.Hour)
	st, err := a.RotateKeys(t.Context())
	if err != nil || len(st.Keys) != 2 || st.Keys[1].State != "published" || !st.Keys[0].Until.Equal(st.Keys[1].Until) {
		t.Errorf("rotated %+v, %v", st, err)
	}
	second := st.Keys[1].ID
	st, err = a.RevokeKey(t.Context(), first)
	if err != nil || len(st.Keys) != 1 || st.Keys[0].ID != second || st.Keys[0].State != "signing" {
		t.Errorf("revoked %+v, %v", st, err)
	}
	for _, id := range []string{first, "", "../x"} {
		if _, err := a.RevokeKey(t.Context(), id); !errors.Is(err, ErrNotFound) {
			t.Errorf("revoked %q: %v, want ErrNotFound", id, err)
		}
	}
	if got := mustSet(t, s.issuer).IDs(); !slices.Equal(got, []string{second}) {
		t.Errorf("keys %v", got)
	}
}
