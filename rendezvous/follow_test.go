package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/token"
)

// follower is a relay as the server sees it.
type follower struct {
	t    testing.TB
	host host.Host
	s    network.Stream
}

func newFollower(t testing.TB, s *testServer) *follower {
	return &follower{t: t, host: newPeer(t, s, key.NewHost())}
}

// follow opens the stream and returns what it was answered.
func (f *follower) follow(s *testServer, first *wire.Follow) *wire.Followed {
	f.t.Helper()
	var err error
	if f.s, err = f.host.NewStream(f.t.Context(), s.PeerID(), protocol.FollowProtocol); err != nil {
		f.t.Fatal(err)
	}
	f.s.SetDeadline(time.Now().Add(patience))
	f.say(first)
	return f.hear()
}

func (f *follower) say(m *wire.Follow) {
	f.t.Helper()
	if err := wire.WriteMsg(f.s, m); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follower) hear() *wire.Followed {
	f.t.Helper()
	m := &wire.Followed{}
	if err := wire.ReadMsg(f.s, m); err != nil {
		f.t.Fatal(err)
	}
	return m
}

// await reads until the rendezvous says what the test waits for.
func (f *follower) await(want func(*wire.Followed) bool) *wire.Followed {
	f.t.Helper()
	for {
		if m := f.hear(); want(m) {
			return m
		}
	}
}

func announcement(t testing.TB, addrs ...string) *wire.Announcement {
	a := &wire.Announcement{Limits: &wire.RelayLimits{Reservations: 7, Bytes: 8, Ms: 9}}
	for _, text := range addrs {
		a.Addrs = append(a.Addrs, multiaddr(t, text))
	}
	return a
}

func firstFollow(t testing.TB) *wire.Follow {
	return &wire.Follow{Seq: 1, Announcement: announcement(t, "/ip4/192.0.2.1/tcp/1")}
}

func relaysRequest() *wire.Request {
	return &wire.Request{Call: &wire.Request_GetRelays{GetRelays: &wire.GetRelays{}}}
}

// relays asks for the relays there are.
func (d *device) relays() []*wire.Relay {
	d.t.Helper()
	return d.must(relaysRequest()).GetRelayList().GetRelays()
}

// A relay is told at once what the operator decides and how the keys change, and
// members at once that the list is another one.
func TestFollow(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	alices := alice.link()
	changed := func() {
		t.Helper()
		alices.await("another list of relays", func(h *wire.Hint) bool { return h.GetRelaysChanged() })
	}
	f := newFollower(t, s)
	got := f.follow(s, firstFollow(t))
	event, err := token.ParseEvent(got.GetKeyEvent(), s.issuer.name, s.identity(t))
	if err != nil || event.Number != 1 || got.GetApproved() || got.GetBeat() != 1 || got.GetCode() != 0 {
		t.Fatalf("answer %v, event %v, %v", got, event, err)
	}
	if list := alice.relays(); len(list) != 0 {
		t.Errorf("relays that nobody approved: %v", list)
	}
	newDevice(t, s, "stranger").refused(protocol.NotMember, relaysRequest())
	mustDo(t, s.AddRelay(t.Context(), f.host.ID()))
	if !f.hear().GetApproved() {
		t.Error("not told of the approval")
	}
	changed()
	want := &wire.Relay{Peer: []byte(f.host.ID()), Addrs: announcement(t, "/ip4/192.0.2.1/tcp/1").Addrs, Limits: announcement(t).Limits}
	if list := alice.relays(); len(list) != 1 || !proto.Equal(list[0], want) {
		t.Errorf("relays %v, want %v", list, want)
	}
	mustDo(t, second(s.RotateKeys(t.Context())))
	if m := f.hear(); m.GetKeyEvent() == nil || !m.GetApproved() {
		t.Errorf("at a rotation: %v", m)
	}
	f.say(&wire.Follow{Seq: 2, Announcement: announcement(t, "/dns/relay.example.org/tcp/2")})
	if m := f.hear(); m.GetBeat() != 2 || !m.GetApproved() {
		t.Errorf("a beat: %v", m)
	}
	changed()
	if list := alice.relays(); len(list) != 1 || !bytes.Equal(list[0].GetAddrs()[0], multiaddr(t, "/dns/relay.example.org/tcp/2")) {
		t.Errorf("relays %v", list)
	}
	mustDo(t, s.RemoveRelay(t.Context(), f.host.ID()))
	if f.hear().GetApproved() {
		t.Error("not told of the removal")
	}
	changed()
	if list := alice.relays(); len(list) != 0 {
		t.Errorf("relays after the removal: %v", list)
	}
	mustDo(t, s.AddRelay(t.Context(), f.host.ID()))
	changed()
	f.s.Close()
	changed()
	if list := alice.relays(); len(list) != 0 {
		t.Errorf("relays after it has gone: %v", list)
	}
}

func second[T any](_ T, err error) error { return err }

// An approval outlives a restart, and a relay that was approved need not ask.
func TestApprovalIsStored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	start := func() *testServer { return startServer(t, func(c *Config) { c.Dir = dir }) }
	s := start()
	f := newFollower(t, s)
	mustDo(t, s.AddRelay(t.Context(), f.host.ID()))
	s.stopNow()
	s = start()
	if err := f.host.Connect(t.Context(), peer.AddrInfo{ID: s.PeerID(), Addrs: s.Addrs()}); err != nil {
		t.Fatal(err)
	}
	if !f.follow(s, firstFollow(t)).GetApproved() {
		t.Error("the approval was forgotten")
	}
}

// What is no announcement is refused and changes nothing; addresses that no
// server has are left out.
func TestBadAnnouncements(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.Strangers = 1000 })
	for name, c := range map[string]struct {
		a    *wire.Announcement
		want protocol.Code
	}{
		"none":               {nil, protocol.BadRequest},
		"no limits":          {&wire.Announcement{}, protocol.BadRequest},
		"too many addresses": {announcement(t, slices.Repeat([]string{"/ip4/192.0.2.1/tcp/1"}, protocol.MaxAddrs+1)...), protocol.TooLarge},
		"no address":         {&wire.Announcement{Limits: &wire.RelayLimits{}, Addrs: [][]byte{{1, 2, 3}}}, protocol.BadRequest},
		"long address":       {announcement(t, "/dns/"+string(bytes.Repeat([]byte("x"), protocol.MaxAddr))+"/tcp/1"), protocol.BadRequest},
		"too large":          {&wire.Announcement{Limits: &wire.RelayLimits{}, Addrs: [][]byte{make([]byte, maxBeatFrame)}}, protocol.TooLarge},
	} {
		f := newFollower(t, s)
		if m := f.follow(s, &wire.Follow{Seq: 1, Announcement: c.a}); protocol.Code(m.GetCode()) != c.want {
			t.Errorf("%s: %v", name, m)
		}
		f.host.Close()
	}
	eventually(t, "nobody follows", func() bool { return len(s.relays.all()) == 0 })

	f := newFollower(t, s)
	mustDo(t, s.AddRelay(t.Context(), f.host.ID()))
	id := f.host.ID().String()
	f.follow(s, &wire.Follow{Seq: 1, Announcement: announcement(t, "/ip4/192.0.2.1/tcp/1", "/dnsaddr/example.org", "/ip4/192.0.2.1/tcp/1/p2p/"+id,
		"/ip4/192.0.2.1/tcp/1/p2p/"+id+"/p2p-circuit", "/unix/run/x", "/dns6/example.org/udp/1/quic-v1")})
	if list := s.relays.list(); len(list) != 1 || len(list[0].GetAddrs()) != 2 {
		t.Errorf("relays %v", list)
	}
	f.say(&wire.Follow{Seq: 2, Announcement: &wire.Announcement{}})
	if m := f.await(func(m *wire.Followed) bool { return m.GetCode() != 0 }); protocol.Code(m.GetCode()) != protocol.BadRequest {
		t.Errorf("later: %v", m)
	}
}

// Anybody can follow, so it is bounded; whoever is approved gets in all the same.
func TestFollowersAreBounded(t *testing.T) {
	s := startServer(t, nil)
	for range maxAskingSite {
		if m := newFollower(t, s).follow(s, firstFollow(t)); m.GetCode() != 0 {
			t.Fatalf("refused: %v", m)
		}
	}
	if m := newFollower(t, s).follow(s, firstFollow(t)); protocol.Code(m.GetCode()) != protocol.Unavailable || m.GetRetryAfterMs() == 0 {
		t.Errorf("one too many: %v", m)
	}
	f := newFollower(t, s)
	mustDo(t, s.AddRelay(t.Context(), f.host.ID()))
	if m := f.follow(s, firstFollow(t)); m.GetCode() != 0 {
		t.Errorf("approved, and refused: %v", m)
	}
	for range 10 { // and one relay does not make members ask all the time
		f.s.CloseWrite()
		io.Copy(io.Discard, f.s)
		m := f.follow(s, firstFollow(t))
		if protocol.Code(m.GetCode()) == protocol.RateLimited && m.GetRetryAfterMs() > 0 {
			return
		}
	}
	t.Error("no bound on the streams of one relay")
}

// A relay that announces something else all the time is stopped: members would
// ask each time.
func TestAnnouncementsAreBounded(t *testing.T) {
	s := startServer(t, nil)
	f := newFollower(t, s)
	f.follow(s, firstFollow(t))
	for range 10 {
		f.say(&wire.Follow{Seq: 2, Announcement: announcement(t)})
		if m := f.hear(); protocol.Code(m.GetCode()) == protocol.RateLimited && m.GetRetryAfterMs() > 0 {
			return
		}
	}
	t.Error("no bound")
}

// A newer stream of a relay replaces the older one, and members notice nothing.
func TestFollowIsReplaced(t *testing.T) {
	s := startServer(t, nil)
	f := newFollower(t, s)
	mustDo(t, s.AddRelay(t.Context(), f.host.ID()))
	f.follow(s, firstFollow(t))
	old := *f
	if m := f.follow(s, firstFollow(t)); m.GetCode() != 0 {
		t.Fatalf("refused: %v", m)
	}
	if m := old.hear(); protocol.Code(m.GetCode()) != protocol.Replaced {
		t.Errorf("the older one: %v", m)
	}
	old.s.Close()
	f.say(&wire.Follow{Seq: 2})
	if m := f.hear(); m.GetBeat() != 2 || len(s.relays.list()) != 1 {
		t.Errorf("the newer one: %v", m)
	}
}

// A relay that falls silent is gone for members.
func TestSilentRelay(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.BeatDeadline = 200 * time.Millisecond })
	f := newFollower(t, s)
	mustDo(t, s.AddRelay(t.Context(), f.host.ID()))
	f.follow(s, firstFollow(t))
	eventually(t, "it is gone", func() bool { return len(s.relays.list()) == 0 })
}

// A rendezvous that shuts down says so.
func TestFollowersAreToldOfDraining(t *testing.T) {
	s := startServer(t, nil)
	f := newFollower(t, s)
	f.follow(s, firstFollow(t))
	s.end()
	if m := f.hear(); protocol.Code(m.GetCode()) != protocol.Draining || m.GetRetryAfterMs() == 0 {
		t.Errorf("heard %v", m)
	}
	f.s.Close()
	<-s.ended
}

// Contacts learn at which relays a device can be reached, of those that there
// are.
func TestWhereTellsRelays(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	f, stranger := newFollower(t, s), newFollower(t, s)
	mustDo(t, s.AddRelay(t.Context(), f.host.ID()))
	f.follow(s, firstFollow(t))
	stranger.follow(s, firstFollow(t))
	bob.link()
	alices := alice.dialLink(&wire.Beat{Hello: alice.hello(), Seq: 1, AddrsChanged: true, Relays: [][]byte{
		[]byte(stranger.host.ID()), []byte(f.host.ID()), []byte(s.PeerID()),
	}})
	places := func() [][]byte { return bob.must(whereRequest(alice)).GetPlaces().GetPlaces()[0].GetRelays() }
	if got := places(); len(got) != 1 || peer.ID(got[0]) != f.host.ID() {
		t.Errorf("relays %q", got)
	}
	alices.beat() // says nothing of relays
	if got := places(); len(got) != 1 {
		t.Errorf("relays %q", got)
	}
	mustDo(t, s.RemoveRelay(t.Context(), f.host.ID()))
	if got := places(); len(got) != 0 {
		t.Errorf("relays %q after the removal", got)
	}
	for name, relays := range map[string][][]byte{
		"too many":   slices.Repeat([][]byte{[]byte(f.host.ID())}, protocol.MaxAtRelays+1),
		"no peer id": {{1, 2, 3}},
	} {
		if l := alice.dialLink(&wire.Beat{Hello: alice.hello(), Seq: 1, AddrsChanged: true, Relays: relays}); l.welcome.GetCode() == 0 {
			t.Errorf("%s: welcome", name)
		}
	}
}

// The operator's side: what is there, and what was typed wrongly.
func TestAdminRelays(t *testing.T) {
	s := startServer(t, nil)
	a := NewAdmin(s.cfg.Dir)
	eventually(t, "the admin socket is there", func() bool { _, err := a.Relays(context.Background()); return err == nil })
	f := newFollower(t, s)
	f.follow(s, firstFollow(t))
	if st, err := a.Status(t.Context()); err != nil || st.Relays != 0 || st.Asking != 1 {
		t.Errorf("status %+v, %v", st, err)
	}
	id := f.host.ID()
	list, err := a.Relays(t.Context())
	want := RelayInfo{Peer: id.String(), Follows: true, Addrs: []string{"/ip4/192.0.2.1/tcp/1"}, Reservations: 7, Bytes: 8}
	if err != nil || len(list) != 1 || !equalInfo(list[0], want) {
		t.Errorf("relays %+v, %v", list, err)
	}
	want.Approved, want.Since = true, s.clock.Now()
	if list, err = a.AddRelay(t.Context(), id); err != nil || len(list) != 1 || !equalInfo(list[0], want) {
		t.Errorf("added %+v, %v", list, err)
	}
	other, err := peer.Decode("12D3KooWGzxzKZYveHXtpG6AsrUJBcWxHBFS2HsEoGTxrMLvKXtf")
	mustDo(t, err)
	if list, err = a.AddRelay(t.Context(), other); err != nil || len(list) != 2 {
		t.Errorf("added %+v, %v", list, err)
	}
	if st, err := a.Status(t.Context()); err != nil || st.Relays != 1 || st.Asking != 0 {
		t.Errorf("status %+v, %v", st, err)
	}
	if list, err = a.RemoveRelay(t.Context(), other); err != nil || len(list) != 1 {
		t.Errorf("removed %+v, %v", list, err)
	}
	if _, err = a.RemoveRelay(t.Context(), other); !errors.Is(err, ErrNotFound) {
		t.Errorf("removed twice: %v, want ErrNotFound", err)
	}
	for _, bad := range []string{"", "x", "/ip4/1.2.3.4/tcp/1"} {
		if _, err = a.relays(t.Context(), http.MethodPost, "/v1/relays/add", []byte(`{"peer":"`+bad+`"}`)); err == nil || errors.Is(err, ErrNotFound) {
			t.Errorf("added %q", bad)
		}
	}
}

func equalInfo(a, b RelayInfo) bool {
	return a.Peer == b.Peer && a.Approved == b.Approved && a.Since.Equal(b.Since) && a.Follows == b.Follows &&
		slices.Equal(a.Addrs, b.Addrs) && a.Reservations == b.Reservations && a.Bytes == b.Bytes
}
