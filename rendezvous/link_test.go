package rendezvous

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func whereRequest(of *device) *wire.Request {
	return &wire.Request{Call: &wire.Request_Where{Where: &wire.Where{Account: of.owner[:]}}}
}

func multiaddr(t testing.TB, text string) []byte {
	t.Helper()
	m, err := ma.NewMultiaddr(text)
	if err != nil {
		t.Fatal(err)
	}
	return m.Bytes()
}

func seesOnline(w *wire.Welcome, who *device) bool {
	return slices.ContainsFunc(w.GetPresence(), func(p *wire.Presence) bool {
		return p.GetOnline() && bytes.Equal(p.GetAccount(), who.owner[:])
	})
}

// A contact is seen at once, its loss too, and strangers see nothing: not who
// is on nobody's list, and not who is on one list only.
func TestIM10_Presence(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	stranger, admirer := member(t, s, "stranger"), member(t, s, "admirer")
	befriend(alice, bob)
	admirer.setContacts(alice)

	bobs, strangers, admirers := bob.link(), stranger.link(), admirer.link()
	if seesOnline(bobs.welcome, alice) {
		t.Error("alice is not online yet")
	}
	alices := alice.link()
	if !seesOnline(alices.welcome, bob) || len(alices.welcome.GetPresence()) != 1 {
		t.Errorf("alice's welcome: %v", alices.welcome.GetPresence())
	}
	bobs.awaitPresence(alice, true)
	alices.s.Reset()
	bobs.awaitPresence(alice, false)

	for name, l := range map[string]*linkEnd{"stranger": strangers, "admirer": admirers} {
		for _, h := range l.settled() {
			if len(h.GetPresence()) > 0 {
				t.Errorf("%s saw %v", name, h.GetPresence())
			}
		}
		if len(l.welcome.GetPresence()) > 0 {
			t.Errorf("%s was told %v", name, l.welcome.GetPresence())
		}
	}
}

// A device that dies without a word, its connection still open, is noticed by
// its missing beats. One that beats stays.
func TestIM10_SilentDeath(t *testing.T) {
	const deadline = time.Second
	s := startServer(t, func(c *Config) { c.Limits.BeatDeadline = deadline })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	bobs := bob.link()
	alice.link() // and not a beat
	done := make(chan struct{})
	defer close(done)
	go func() {
		for seq := uint64(100); ; seq++ {
			select {
			case <-done:
				return
			case <-time.After(deadline / 5):
				wire.WriteMsg(bobs.s, &wire.Beat{Seq: seq})
			}
		}
	}()
	bobs.awaitPresence(alice, true)
	bobs.awaitPresence(alice, false)
	if s.presence.link(bob.id) == nil {
		t.Error("bob beat and is gone")
	}
}

func TestDefaultBeatDeadlineIsUnder30s(t *testing.T) {
	const everyBeat = 12 * time.Second
	if d := (Limits{}).withDefaults().BeatDeadline; d <= 2*everyBeat || d >= 30*time.Second {
		t.Errorf("beat deadline %v", d)
	}
}

// What changes on either list while both are online is told to both.
func TestPresenceFollowsContacts(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	alices, bobs := alice.link(), bob.link()
	alice.setContacts(bob, alice)
	bob.setContacts(alice)
	alices.awaitPresence(bob, true)
	bobs.awaitPresence(alice, true)
	bob.setContacts()
	alices.awaitPresence(bob, false)
	bobs.awaitPresence(alice, false)
	alice.setContacts()
	bob.setContacts(alice) // one side only: nothing to see
	for _, h := range alices.settled() {
		if len(h.GetPresence()) > 0 {
			t.Errorf("alice saw %v", h.GetPresence())
		}
	}
}

// A device says hello again in the middle of a link. From then on an older state
// of its store is turned away, and so is a link that tells one.
func TestOTK15_HelloInALink(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	l := alice.link()
	said := func(ctr uint64) *wire.Beat {
		h := alice.hello()
		h.StoreCtr = ctr
		l.seq++
		return &wire.Beat{Seq: l.seq, Hello: alice.sign(h)}
	}
	if err := wire.WriteMsg(l.s, said(2)); err != nil {
		t.Fatal(err)
	}
	l.await("answer", func(h *wire.Hint) bool { return h.GetBeat() == l.seq })
	old := alice.dialLink(&wire.Beat{Hello: alice.hello(), Seq: 1})
	if got := protocol.Code(old.welcome.GetCode()); got != protocol.StoreRolledBack {
		t.Errorf("a new link of an older state: %v", got)
	}
	if err := wire.WriteMsg(l.s, said(1)); err != nil {
		t.Fatal(err)
	}
	bye := l.await("goodbye", func(h *wire.Hint) bool { return h.GetBye() != 0 })
	if got := protocol.Code(bye.GetBye()); got != protocol.StoreRolledBack {
		t.Errorf("goodbye with %v", got)
	}
	l.awaitEnd()
}

func TestNewestLinkWins(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	bobs := bob.link()
	first := alice.link()
	bobs.awaitPresence(alice, true)
	second := alice.link()
	bye := first.await("goodbye", func(h *wire.Hint) bool { return h.GetBye() != 0 })
	if protocol.Code(bye.GetBye()) != protocol.Replaced {
		t.Errorf("goodbye with %v", protocol.Code(bye.GetBye()))
	}
	first.awaitEnd()
	second.settled()
	for _, h := range bobs.settled() {
		if len(h.GetPresence()) > 0 {
			t.Errorf("a reconnect was seen as %v", h.GetPresence())
		}
	}
	if n := s.presence.count(); n != 2 {
		t.Errorf("%d links", n)
	}
}

func TestBeatsAreAnswered(t *testing.T) {
	s := startServer(t, nil)
	l := member(t, s, "alice").link()
	l.await("answer to the first beat", func(h *wire.Hint) bool { return h.GetBeat() == 1 })
	for range 3 {
		if hints := l.settled(); hints[len(hints)-1].GetBeat() != l.seq {
			t.Errorf("beat %d was answered by %v", l.seq, hints)
		}
	}
	w := l.welcome
	if w.GetVersion() != uint32(protocol.Version) || w.GetNowMs() != uint64(s.clock.Now().UnixMilli()) ||
		w.GetLimits().GetMailboxTtlMs() != uint64(protocol.MailboxTTL.Milliseconds()) || w.GetLimits().GetRelayBytes() == 0 {
		t.Errorf("welcome %v", w)
	}
}

func TestTooManyBeats(t *testing.T) {
	s := startServer(t, nil)
	l := member(t, s, "alice").link()
	for range beatsBurst + 1 {
		wire.WriteMsg(l.s, &wire.Beat{Seq: 7})
	}
	bye := l.await("goodbye", func(h *wire.Hint) bool { return h.GetBye() != 0 })
	if protocol.Code(bye.GetBye()) != protocol.RateLimited || bye.GetRetryAfterMs() == 0 {
		t.Errorf("goodbye %v", bye)
	}
	l.awaitEnd()
}

func TestLinkRefused(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	hello := func(change func(*wire.Hello)) *wire.Beat {
		h := alice.hello()
		change(h)
		return &wire.Beat{Hello: alice.sign(h), Seq: 1}
	}
	signedBy := func(dsk key.DevicePrivate) *wire.Beat {
		other := *alice
		other.dsk = dsk
		return &wire.Beat{Hello: other.hello(), Seq: 1}
	}
	stale := hello(func(h *wire.Hello) { h.StoreCtr = 8 })
	stale.Hello.StoreCtr = 9 // after it was signed
	unsigned := hello(func(*wire.Hello) {})
	unsigned.Hello.Sig = nil
	place := hello(func(h *wire.Hello) { h.StoreCtr = 7 })
	alice.dialLink(place)
	place.AddrsChanged, place.Addrs = true, [][]byte{{0xff}}
	for name, c := range map[string]struct {
		first *wire.Beat
		code  protocol.Code
	}{
		"no hello":        {&wire.Beat{Seq: 1}, protocol.BadRequest},
		"no store":        {hello(func(h *wire.Hello) { h.StoreId = nil }), protocol.BadRequest},
		"newer version":   {hello(func(h *wire.Hello) { h.MinVersion, h.MaxVersion = 2, 3 }), protocol.UnsupportedVersion},
		"older version":   {hello(func(h *wire.Hello) { h.MinVersion, h.MaxVersion = 0, 0 }), protocol.UnsupportedVersion},
		"no start":        {hello(func(h *wire.Hello) { h.Start = nil }), protocol.BadRequest},
		"long start":      {hello(func(h *wire.Hello) { h.Start = make([]byte, 17) }), protocol.BadRequest},
		"not signed":      {unsigned, protocol.BadSignature},
		"signed by other": {signedBy(key.NewDevice()), protocol.BadSignature},
		"changed":         {stale, protocol.BadSignature},
		"another start":   {hello(func(h *wire.Hello) { h.StoreCtr, h.Start[0] = 7, 1 }), protocol.StoreRolledBack},
		"another store":   {hello(func(h *wire.Hello) { h.StoreId, h.StoreCtr = bytes.Repeat([]byte{1}, 16), 9 }), protocol.DeviceCloned},
		"store set back":  {hello(func(h *wire.Hello) { h.StoreCtr = 6 }), protocol.StoreRolledBack},
		"malformed place": {place, protocol.BadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			l := alice.dialLink(c.first)
			if got := protocol.Code(l.welcome.GetCode()); got != c.code {
				t.Errorf("%v, want %v", got, c.code)
			}
			l.awaitEnd()
		})
	}
}

// Addresses go to contacts of each other, LAN addresses included, and to
// nobody else.
func TestWhere(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, stranger := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "stranger")
	befriend(alice, bob)
	stranger.setContacts(alice)
	public, lan := multiaddr(t, "/ip4/198.51.100.7/udp/4001/quic-v1"), multiaddr(t, "/ip4/192.168.1.7/tcp/4001")
	name, circuit := multiaddr(t, "/dns4/example.org/tcp/1"), multiaddr(t, "/ip4/198.51.100.9/tcp/1/p2p/"+s.PeerID().String()+"/p2p-circuit")

	if p := bob.must(whereRequest(alice)).GetPlaces().GetPlaces(); len(p) != 1 || p[0].GetOnline() || len(p[0].GetAddrs()) != 0 {
		t.Errorf("alice offline: %v", p)
	}
	alices := alice.link(public, name, circuit, lan)
	p := bob.must(whereRequest(alice)).GetPlaces().GetPlaces()
	if len(p) != 1 || !bytes.Equal(p[0].GetDevice(), alice.id[:]) || !p[0].GetOnline() ||
		!slices.EqualFunc(p[0].GetAddrs(), [][]byte{public, lan}, bytes.Equal) {
		t.Errorf("alice online: %v", p)
	}
	stranger.refused(protocol.NotContact, whereRequest(alice))
	alice.refused(protocol.NotContact, whereRequest(stranger))
	alice.refused(protocol.NotContact, whereRequest(newDevice(t, s, "nobody")))
	alice.must(whereRequest(alice))

	if err := wire.WriteMsg(alices.s, &wire.Beat{Seq: 2, AddrsChanged: true, Addrs: [][]byte{lan}}); err != nil {
		t.Fatal(err)
	}
	alices.await("answer", func(h *wire.Hint) bool { return h.GetBeat() == 2 })
	alices.seq = 2
	alices.settled() // says nothing of addresses: they stay
	if p := bob.must(whereRequest(alice)).GetPlaces().GetPlaces(); len(p[0].GetAddrs()) != 1 {
		t.Errorf("after the change: %v", p)
	}
	alices.s.Reset()
	eventually(t, "alice's addresses are forgotten", func() bool {
		p := bob.must(whereRequest(alice)).GetPlaces().GetPlaces()
		return !p[0].GetOnline() && len(p[0].GetAddrs()) == 0
	})
}

func TestTooManyAddresses(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	addrs := slices.Repeat([][]byte{multiaddr(t, "/ip4/198.51.100.7/tcp/1")}, protocol.MaxAddrs+1)
	l := alice.dialLink(&wire.Beat{Hello: alice.hello(), Seq: 1, Addrs: addrs, AddrsChanged: true})
	if protocol.Code(l.welcome.GetCode()) != protocol.TooLarge {
		t.Errorf("welcome %v", l.welcome)
	}
	l = alice.link(addrs[:protocol.MaxAddrs]...)
	wire.WriteMsg(l.s, &wire.Beat{Seq: 2, Addrs: addrs, AddrsChanged: true})
	bye := l.await("goodbye", func(h *wire.Hint) bool { return h.GetBye() != 0 })
	if protocol.Code(bye.GetBye()) != protocol.TooLarge {
		t.Errorf("goodbye %v", bye)
	}
}

func nextHint(l *link) (h *wire.Hint, last bool) {
	m, last := l.next()
	h, _ = m.(*wire.Hint)
	return h, last
}

// A hint merges what a slow reader has not fetched; nothing is queued.
func TestHintsAreMerged(t *testing.T) {
	l := newLink(nil, store.Device{})
	a, b := protocol.AccountID{1}, protocol.AccountID{2}
	for i := range 1000 {
		l.tellMail()
		l.tellPresence(a, i%2 == 0)
		l.tellPresence(b, true)
		l.answerBeat(uint64(i))
	}
	h, last := nextHint(l)
	if last || !h.GetMail() || h.GetBeat() != 999 || len(h.GetPresence()) != 2 {
		t.Errorf("merged into %v", h)
	}
	for _, p := range h.GetPresence() {
		if p.GetOnline() != (p.GetAccount()[0] == 2) {
			t.Errorf("presence %v", p)
		}
	}
	if h, last := nextHint(l); h != nil || last {
		t.Errorf("nothing is left, got %v", h)
	}
	l.bye(protocol.Refuse(protocol.Replaced, ""))
	l.bye(protocol.Refuse(protocol.Draining, ""))
	if h, last := nextHint(l); !last || protocol.Code(h.GetBye()) != protocol.Replaced {
		t.Errorf("goodbye %v", h)
	}
}

// However much there is to tell at once, each hint fits a frame, and all is told.
func TestHintsFitAFrame(t *testing.T) {
	l := newLink(nil, store.Device{})
	account := func(i int) protocol.AccountID { return protocol.AccountID{byte(i), byte(i >> 8), 1} }
	for i := range protocol.MaxContacts {
		l.tellPresence(account(i), true)
		l.tellChanged(account(i))
		l.tellChanged(account(i))
	}
	changed, presence := map[protocol.AccountID]bool{}, 0
	for range l.wake {
		h, _ := nextHint(l)
		if h == nil {
			break
		}
		got := &wire.Hint{}
		if err := wire.ReadMsg(bytes.NewReader(frame(t, h)), got); err != nil {
			t.Fatal(err)
		}
		presence += len(got.GetPresence())
		for _, b := range got.GetChanged() {
			changed[protocol.AccountID(b)] = true
		}
		if len(changed) == protocol.MaxContacts {
			break
		}
	}
	if len(changed) != protocol.MaxContacts || presence != protocol.MaxContacts {
		t.Errorf("told %d changes and the presence of %d", len(changed), presence)
	}
	if h, _ := nextHint(l); h != nil {
		t.Errorf("nothing is left, got %v", h)
	}
}

// The same over QUIC, where the end of a stream is another mechanism.
func TestLinkOverQUIC(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Listen = []string{"/ip4/127.0.0.1/udp/0/quic-v1"} })
	alice := member(t, s, "alice")
	first := alice.link()
	alice.link().settled()
	bye := first.await("goodbye", func(h *wire.Hint) bool { return h.GetBye() != 0 })
	if protocol.Code(bye.GetBye()) != protocol.Replaced {
		t.Errorf("goodbye %v", bye)
	}
	first.awaitEnd()
	alice.refused(protocol.UnknownAccount, lookupRequest("nobody", nil))
}

// Whatever a device says of its addresses, what contacts are told is a few IP
// addresses.
func FuzzSetAddrs(f *testing.F) {
	f.Add(multiaddr(f, "/ip4/198.51.100.7/udp/4001/quic-v1"), uint8(1))
	f.Add(multiaddr(f, "/dns4/example.org/tcp/1"), uint8(2))
	f.Add([]byte{0xff}, uint8(40))
	f.Fuzz(func(t *testing.T, b []byte, n uint8) {
		l := &link{}
		before := [][]byte{{4, 127, 0, 0, 1}}
		l.addrs = before
		err := l.setAddrs(&wire.Beat{AddrsChanged: true, Addrs: slices.Repeat([][]byte{b}, int(n))})
		if err != nil && !slices.EqualFunc(l.addrs, before, bytes.Equal) {
			t.Error("a refused beat changed the addresses")
		}
		if err != nil {
			return
		}
		if len(l.addrs) > protocol.MaxAddrs {
			t.Errorf("%d addresses kept", len(l.addrs))
		}
		for _, a := range l.addrs {
			m, err := ma.NewMultiaddrBytes(a)
			if err != nil || len(a) > protocol.MaxAddr || !strings.HasPrefix(m.String(), "/ip") {
				t.Errorf("kept %x", a)
			}
		}
	})
}
