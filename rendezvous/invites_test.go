package rendezvous

import (
	"bytes"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/invite"
	"github.com/parley-chat/parley/protocol/wire"
)

func closed(c *Config) { c.Open = false }

func inviteOf(t testing.TB, link string) invite.Invite {
	t.Helper()
	i, err := invite.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestClosedByDefault(t *testing.T) {
	s := startServer(t, closed)
	alice := newDevice(t, s, "alice")
	alice.refused(protocol.InviteInvalid, alice.registerRequest(nil))
	alice.refused(protocol.InviteInvalid, alice.registerRequest(make([]byte, 16)))
	alice.refused(protocol.InviteInvalid, alice.registerRequest([]byte("short")))
}

// Who is not invited does not learn which names are taken.
func TestNameTakenIsToldToInvitedOnly(t *testing.T) {
	s := startServer(t, closed)
	token, _, err := s.storeInvite(t.Context(), protocol.AccountID{}, 2, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	alice, mallory := newDevice(t, s, "alice"), newDevice(t, s, "alice")
	alice.must(alice.registerRequest(token[:]))
	mallory.refused(protocol.InviteInvalid, mallory.registerRequest(nil))
	mallory.refused(protocol.NameTaken, mallory.registerRequest(token[:]))
	alice.must(alice.registerRequest(nil))
}

func TestOperatorInvite(t *testing.T) {
	s := startServer(t, closed)
	link, expires, err := s.NewInvite(t.Context(), 2, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	i := inviteOf(t, link)
	if !bytes.Equal(i.Peer, []byte(s.PeerID())) || len(i.Addrs) == 0 || !i.Expires.Equal(expires) || !expires.Equal(s.clock.Now().Add(time.Hour)) {
		t.Errorf("invite for %x at %v until %v", i.Peer, i.Addrs, i.Expires)
	}
	alice, bob, carol := newDevice(t, s, "alice"), newDevice(t, s, "bob"), newDevice(t, s, "carol")
	alice.must(alice.registerRequest(i.Token[:]))
	alice.must(alice.registerRequest(i.Token[:])) // a retry uses nothing up
	bob.must(bob.registerRequest(i.Token[:]))
	carol.refused(protocol.InviteUsed, carol.registerRequest(i.Token[:]))
	bob.must(bob.registerRequest(i.Token[:])) // used up, but bob is in

	link, _, err = s.NewInvite(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	i = inviteOf(t, link)
	if want := s.clock.Now().Add(InviteTTL); !i.Expires.Equal(want) {
		t.Errorf("expires %v, want %v", i.Expires, want)
	}
	s.clock.add(InviteTTL + time.Second)
	carol.refused(protocol.InviteExpired, carol.registerRequest(i.Token[:]))

	for _, bad := range []struct {
		uses int
		ttl  time.Duration
	}{{-1, time.Hour}, {1, -time.Hour}, {maxUses + 1, time.Hour}, {1, maxTTL + 1}} {
		if _, _, err := s.NewInvite(t.Context(), bad.uses, bad.ttl); err == nil {
			t.Errorf("%d uses for %v: no error", bad.uses, bad.ttl)
		}
	}
}

func createInvite(uses uint32, ttl time.Duration) *wire.Request {
	return &wire.Request{Call: &wire.Request_CreateInvite{CreateInvite: &wire.CreateInvite{Uses: uses, TtlMs: uint64(ttl.Milliseconds())}}}
}

func TestMemberInvite(t *testing.T) {
	s := startServer(t, closed)
	link, _, err := s.NewInvite(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	token := inviteOf(t, link).Token
	alice := newDevice(t, s, "alice")
	alice.must(alice.registerRequest(token[:]))
	alice.greet()

	made := alice.must(createInvite(0, 0)).GetInvite()
	if len(made.GetToken()) != 16 || made.GetExpiresMs() != uint64(s.clock.Now().Add(InviteTTL).UnixMilli()) {
		t.Errorf("made %v", made)
	}
	bob, carol := newDevice(t, s, "bob"), newDevice(t, s, "carol")
	bob.must(bob.registerRequest(made.GetToken()))
	carol.refused(protocol.InviteUsed, carol.registerRequest(made.GetToken())) // one use unless asked for more
	who, err := s.store.AccountByName(t.Context(), "bob")
	if err != nil || who.InvitedBy != alice.owner {
		t.Errorf("bob was invited by %v, %v", who.InvitedBy, err)
	}

	alice.refused(protocol.TooLarge, createInvite(memberUses+1, time.Hour))
	alice.refused(protocol.TooLarge, createInvite(1, InviteTTL+time.Hour))
	for range 9 {
		alice.must(createInvite(memberUses, time.Hour))
	}
	if r := alice.refused(protocol.RateLimited, createInvite(1, time.Hour)); r.GetRetryAfterMs() == 0 {
		t.Error("no time to come back")
	}
	s.clock.add(24 * time.Hour / 10)
	alice.must(createInvite(1, time.Hour))
}

func TestNoMemberInvites(t *testing.T) {
	s := startServer(t, func(c *Config) { c.NoMemberInvites = true })
	alice := member(t, s, "alice")
	alice.refused(protocol.BadRequest, createInvite(1, time.Hour))
}

func TestAdmin(t *testing.T) {
	t.Parallel()
	s := startServer(t, closed)
	admin := NewAdmin(s.cfg.Dir)
	var st Status
	eventually(t, "the admin socket answers", func() bool {
		var err error
		st, err = admin.Status(t.Context())
		return err == nil
	})
	if st.Peer != s.PeerID().String() || st.Open || len(st.Addrs) != 1 || st.Online != 0 {
		t.Errorf("status %+v", st)
	}
	link, expires, err := admin.NewInvite(t.Context(), 1, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	i := inviteOf(t, link)
	if !expires.Equal(s.clock.Now().Add(time.Hour)) {
		t.Errorf("expires %v", expires)
	}
	alice := newDevice(t, s, "alice")
	alice.must(alice.registerRequest(i.Token[:]))
	alice.link()
	alice.put(item(alice, wire.MailKind_MESSAGE, []byte("mail")))
	s.clock.add(90 * time.Second)
	if st, err = admin.Status(t.Context()); err != nil || st.Online != 1 || st.UptimeS != 90 || st.Accounts != 1 || st.Mail != 1 || st.MailBytes != 4 {
		t.Errorf("status %+v, %v", st, err)
	}
	if _, _, err := admin.NewInvite(t.Context(), -1, time.Hour); err == nil {
		t.Error("-1 uses: no error")
	}
	s.stopNow()
	if _, err := admin.Status(t.Context()); err == nil {
		t.Error("a stopped server answered")
	}
}
