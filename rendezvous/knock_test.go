package rendezvous

import (
	"bytes"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/protocol/wire"
)

func knockSite(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 32)
}

// newGuest makes an account for a visit, of one device without a name, that is
// connected and that the rendezvous does not know.
func newGuest(t testing.TB, ts *testServer, name string) *device {
	t.Helper()
	d := newDevice(t, ts, name)
	d.visitAs(d.cert.PeerID)
	return d
}

// visitAs makes the account one for a visit, of a device with this peer id.
func (d *device) visitAs(peerID []byte) {
	d.t.Helper()
	chain, err := account.Create(d.server.clock.Now(), d.aik, d.rk.Public())
	if err == nil {
		d.cert.Name, d.cert.PeerID = "", peerID
		d.cert, err = account.NewCert(d.aik, d.cert)
	}
	if err == nil {
		d.chain, err = chain.AddDevice(d.server.clock.Now(), d.aik, d.cert)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// roomSecret is what the password of rooms here derives.
var roomSecret = [32]byte{7}

// newGuestRoom makes a room of owner's in which others are members, with a password
// that is open.
func newGuestRoom(t testing.TB, owner *device, others ...*device) *party {
	t.Helper()
	p := newParty(t, owner, others...)
	p.openPassword(owner)
	return p
}

func (p *party) openPassword(by *device) {
	p.t.Helper()
	sealed, err := room.NewStateKey().SealPassword(p.id(), roomSecret)
	if err != nil {
		p.t.Fatal(err)
	}
	p.do(by, room.SetPassword{Number: p.s.Password().Number + 1, Open: true, Secret: sealed})
}

// knocked is what a member's device was asked.
type knocked struct {
	*pairEnd
	asked *wire.Knock
}

// answersKnocks makes a device answer each knock with a code, and give the stream.
func (d *device) answersKnocks(code protocol.Code) <-chan knocked {
	all := make(chan knocked, 32)
	d.host.SetStreamHandler(protocol.KnockProtocol, func(s network.Stream) {
		m := &wire.Knock{}
		if wire.ReadMsg(s, m) != nil || wire.WriteMsg(s, &wire.Knocked{Code: uint32(code)}) != nil {
			s.Reset()
			return
		}
		all <- knocked{&pairEnd{t: d.t, s: s}, m}
	})
	return all
}

// knock knocks at a room and returns what the rendezvous answers.
func (d *device) knock(id []byte) (*pairEnd, *wire.Knocked) {
	d.t.Helper()
	p := &pairEnd{t: d.t, s: d.open(protocol.KnockProtocol)}
	if err := wire.WriteMsg(p.s, &wire.Knock{Room: id}); err != nil {
		d.t.Fatal(err)
	}
	m := &wire.Knocked{}
	if err := wire.ReadMsg(p.s, m); err != nil {
		d.t.Fatalf("no answer: %v", err)
	}
	return p, m
}

func (d *device) mustKnock(r *party) *pairEnd {
	d.t.Helper()
	id := r.id()
	p, m := d.knock(id[:])
	if m.GetCode() != 0 {
		d.t.Fatalf("%v %s", protocol.Code(m.GetCode()), m.GetDetail())
	}
	return p
}

func (s *Server) guestsNow() int {
	s.knocks.mu.Lock()
	defer s.knocks.mu.Unlock()
	return len(s.knocks.all) + len(s.knocks.site) + len(s.knocks.device)
}

// A guest comes in: through the rendezvous, which passes on what it cannot read, and by
// an entry that it takes from the member.
func TestGuestKnocksAndComesIn(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	r := newGuestRoom(t, alice)
	asked := alice.answersKnocks(protocol.OK)
	bert := newGuest(t, s, "bert")

	out := bert.mustKnock(r)
	in := <-asked
	id := r.id()
	if !bytes.Equal(in.asked.GetRoom(), id[:]) || len(in.asked.GetPlace()) != 16 {
		t.Fatalf("asked: %v", in.asked)
	}
	v, frame, err := guest.Knock(guest.Self{Room: id, Chain: bert.chain, Key: bert.dsk, Name: "Bert"})
	out.sendAll(frame, err)
	a, frame, err := guest.Answer(guest.Door{State: r.s, Cert: alice.cert, Secret: key.Hide(&roomSecret)}, in.receive())
	in.sendAll(frame, err)
	if number, err := v.Offered(out.receive()); err != nil || number != 1 {
		t.Fatalf("number %d: %v", number, err)
	}
	frame, err = v.Answer(roomSecret)
	out.sendAll(frame, err)
	frame, err = a.Answered(s.clock.Now(), &guest.Limits{}, string(in.asked.GetPlace()), in.receive())
	in.sendAll(frame, err)
	frame, err = v.Confirmed(out.receive())
	out.sendAll(frame, err)
	request, err := a.Requested(in.receive())
	if err != nil {
		t.Fatal(err)
	}
	r.do(alice, request.Join(s.clock.Now(), room.Sealed{}))
	frame, err = a.Admit(guest.Welcome{Entry: r.log[len(r.log)-1]})
	in.sendAll(frame, err)
	w, err := v.Welcomed(out.receive())
	if err != nil || w.Check(r.s) != nil {
		t.Fatalf("welcome: %v", err)
	}
	bert.must(bert.guestRequest(r))
	bert.greet()
	if page := bert.read(r, 0, 0); len(page.GetEntries()) != len(r.log) {
		t.Errorf("the guest reads %d entries of %d", len(page.GetEntries()), len(r.log))
	}
	out.s.Close()
	in.awaitEnd()
	eventually(t, "it is forgotten", func() bool { return s.guestsNow() == 0 })
}

// sendAll sends a frame that a step made.
func (p *pairEnd) sendAll(frame []byte, err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	p.send(frame)
}

// Who knocks where nobody opens is told the same, whatever the reason is.
func TestGST08_NoHintWhetherTheRoomExists(t *testing.T) {
	s := startServer(t, nil)
	alice, machine := member(t, s, "alice"), newDevice(t, s, "machine")
	r := newGuestRoom(t, alice)
	id := r.id()
	var first *wire.Knocked
	same := func(what string, id []byte) {
		t.Helper()
		s.clock.add(time.Hour)
		p, m := machine.knock(id)
		if protocol.Code(m.GetCode()) != protocol.NobodyAdmits {
			t.Fatalf("%s: %v", what, m)
		}
		if first == nil {
			first = m
		}
		if m.String() != first.String() {
			t.Errorf("%s: %v, and first %v", what, m, first)
		}
		p.awaitEnd()
	}
	same("no such room", make([]byte, 32))
	same("a device that knows of no guests", id[:])
	alice.answersKnocks(protocol.Unavailable)
	same("a device that does not want to", id[:])
	alice.answersKnocks(protocol.OK)
	r.do(alice, room.SetPassword{Number: 2})
	same("no password", id[:])
	r.openPassword(alice)
	machine.mustKnock(r).s.Reset()
	alice.host.Close()
	eventually(t, "she is offline", func() bool { return s.hellos.conn(alice.host.ID()) == nil })
	same("nobody online", id[:])

	if _, m := machine.knock([]byte("short")); protocol.Code(m.GetCode()) != protocol.BadRequest {
		t.Errorf("no id of a room: %v", m)
	}
}

// Only who may admit is asked, and another one where one does not answer.
func TestKnocksGoToWhoAdmits(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, machine := member(t, s, "alice"), member(t, s, "bob"), newDevice(t, s, "machine")
	r := newGuestRoom(t, alice, bob)
	alices, bobs := alice.answersKnocks(protocol.OK), bob.answersKnocks(protocol.OK)
	for range 8 {
		p := machine.mustKnock(r)
		p.s.Close()
		(<-alices).awaitEnd()
	}
	if len(bobs) != 0 {
		t.Error("a member who may not admit was asked")
	}
	r.do(alice, room.SetRole{Account: bob.owner, Role: room.RoleModerator})
	alice.answersKnocks(protocol.Unavailable)
	for range 8 {
		p := machine.mustKnock(r)
		p.s.Close()
		(<-bobs).awaitEnd()
	}
}

// Knocks wake somebody's device: one address has few, for one room and for all. It is
// the same for a room that is not there.
func TestGST08_KnocksAreLimited(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.Strangers = 10_000 })
	machine := newDevice(t, s, "machine")
	id := make([]byte, 32)
	knock := func() protocol.Code {
		_, m := machine.knock(id)
		return protocol.Code(m.GetCode())
	}
	for i := range 20 {
		if code := knock(); code != protocol.NobodyAdmits {
			t.Fatalf("knock %d: %v", i, code)
		}
	}
	_, m := machine.knock(id)
	if protocol.Code(m.GetCode()) != protocol.RateLimited {
		t.Fatalf("%v", m)
	}
	s.clock.add(time.Duration(m.GetRetryAfterMs()) * time.Millisecond)
	if code := knock(); code != protocol.NobodyAdmits {
		t.Errorf("after the time told: %v", code)
	}
	limited := 0
	for i := range 100 {
		id[0] = byte(i / 2)
		if knock() == protocol.RateLimited {
			limited++
		}
	}
	if limited < 30 {
		t.Errorf("%d of 100 knocks at many rooms were limited", limited)
	}
}

func TestKnockEndsWithEitherEnd(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, machine := member(t, s, "alice"), newDevice(t, s, "machine")
	r := newGuestRoom(t, alice)
	asked := alice.answersKnocks(protocol.OK)
	for name, end := range map[string]func(out, in *pairEnd) (other *pairEnd){
		"guest closes":  func(out, in *pairEnd) *pairEnd { out.s.Close(); return in },
		"guest resets":  func(out, in *pairEnd) *pairEnd { out.s.Reset(); return in },
		"member closes": func(out, in *pairEnd) *pairEnd { in.s.Close(); return out },
		"member resets": func(out, in *pairEnd) *pairEnd { in.s.Reset(); return out },
		"garbage":       func(out, in *pairEnd) *pairEnd { out.s.Write([]byte{0, 0, 0, 2, 0xff, 0xff}); return in },
		"too much": func(out, in *pairEnd) *pairEnd {
			go func() {
				for wire.WriteMsg(out.s, &wire.PairFrame{Data: make([]byte, maxPairData)}) == nil {
				}
			}()
			return in
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.clock.add(time.Hour)
			out := machine.mustKnock(r)
			in := <-asked
			other := end(out, in.pairEnd)
			other.s.SetReadDeadline(time.Now().Add(patience))
			if got, err := io.Copy(io.Discard, other.s); isTimeout(err) || got > maxPairTotal {
				t.Errorf("%d bytes, %v", got, err)
			}
			eventually(t, "it is forgotten", func() bool { return s.guestsNow() == 0 })
		})
	}
}

// A server that stops waits for no guest, and leaves nothing running.
func TestKnocksEndWithTheServer(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	s := startServer(t, nil)
	alice, machine := member(t, s, "alice"), newDevice(t, s, "machine")
	r := newGuestRoom(t, alice)
	asked := alice.answersKnocks(protocol.OK)
	out := machine.mustKnock(r)
	in := <-asked
	began := make(chan struct{})
	alice.host.SetStreamHandler(protocol.KnockProtocol, func(network.Stream) { close(began) }) // never answers
	waiting := machine.open(protocol.KnockProtocol)
	id := r.id()
	if err := wire.WriteMsg(waiting, &wire.Knock{Room: id[:]}); err != nil {
		t.Fatal(err)
	}
	<-began
	s.stopNow()
	for _, p := range []*pairEnd{out, in.pairEnd, {t: t, s: waiting}} {
		p.awaitEnd()
	}
	alice.host.Close()
	machine.host.Close()
	goleak.VerifyNone(t, ignore)
}

// The registry, without streams: there is an end to how many, of all, of one address
// and at one device.
func TestKnocksAreBounded(t *testing.T) {
	n := newKnocks()
	var all []*knock
	for {
		k, err := n.begin(knockSite(len(all)/maxSiteNow), func() {})
		if err != nil {
			if protocol.CodeOf(err) != protocol.Unavailable {
				t.Fatal(err)
			}
			break
		}
		all = append(all, k)
	}
	if len(all) != maxKnocks {
		t.Errorf("%d at a time", len(all))
	}
	for _, k := range all[1:] {
		n.end(k)
	}
	one := 1
	for ; one < 100; one++ {
		if _, err := n.begin(all[0].site, func() {}); err != nil {
			break
		}
	}
	if one != maxSiteNow {
		t.Errorf("%d of one address", one)
	}
	k, err := n.begin(knockSite(9), func() {})
	if err != nil {
		t.Fatal(err)
	}
	for range maxDeviceNow { // the same guest again does not count twice
		if !n.at(k, "device") || !n.at(k, "other") {
			t.Fatal("no time")
		}
	}
	if len(n.device) != 1 {
		t.Errorf("devices: %v", n.device)
	}
}

// Members tell addresses apart by their names and learn nothing else of them, not even
// across rooms.
func TestPlaceNamesAnAddress(t *testing.T) {
	n, other := newKnocks(), newKnocks()
	at := knockPlace{knockSite(1), protocol.RoomID{1}}
	if !bytes.Equal(n.place(at), n.place(at)) || len(n.place(at)) != 16 {
		t.Error("one place has two names")
	}
	for name, b := range map[string][]byte{
		"another address": n.place(knockPlace{knockSite(2), at.room}), "another room": n.place(knockPlace{at.site, protocol.RoomID{2}}), "another start": other.place(at),
	} {
		if bytes.Equal(n.place(at), b) {
			t.Errorf("%s has the same name", name)
		}
	}
}
