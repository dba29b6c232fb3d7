package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// A guest's place is its entry in the log, for its key: it is renewed in the background long
// before it ends, by one member at a time, with clocks that differ. In the hands of somebody
// else the entry opens nothing.
func TestGST04_StayIsRenewedAndBoundToTheKey(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	for _, n := range []*node{b, c} {
		w.check(a.write(id, room.SetRole{Account: n.account(), Role: room.RoleModerator}))
	}
	w.settle()
	a.skew, b.skew, g.skew = 5*time.Minute, -5*time.Minute, -5*time.Minute
	joined, _ := a.room(id).State.Member(g.account())
	const days = 3
	for range days * 24 {
		w.pass(time.Hour)
		m, in := a.room(id).State.Member(g.account())
		if !in || m.Joined != joined.Joined {
			t.Fatal("the guest lost its place")
		}
		if left := m.Expires.Sub(w.now); left < room.MaxGuestStay/4 {
			t.Fatalf("%v are left", left)
		}
	}
	if renewals := entriesOf[room.GuestRenew](w, id); len(renewals) < days || len(renewals) > 3*days {
		t.Errorf("renewed %d times in %d days", len(renewals), days)
	}
	if g.roomEvents("joined") != 1 || g.guest().Stage != GuestIn {
		t.Errorf("the guest noticed: %+v", g.guest())
	}

	stolen := w.newGuest("thief", id)
	v, err := g.knock(a, id, secret("open sesame"))
	w.check(err)
	w.check(v.admit())
	welcome, err := v.welcome()
	w.check(err)
	stolen.do(func(tx store.Tx) (Hint, error) { return stolen.e.TakeWelcome(tx, w.now, welcome, 1, [32]byte{}) })
	stolen.away, stolen.offline = false, false
	a.say(id, "for the guest")
	w.pass(time.Hour)
	if r := stolen.room(id); r.Stage == RoomJoined || r.State != nil || len(stolen.heard(id)) != 0 {
		t.Errorf("with the entry alone somebody is %q", r.Stage)
	}
	if got := texts(g.heard(id)); !slices.Equal(got, []string{"for the guest"}) {
		t.Errorf("the guest has %q", got)
	}
}

// A guest that does not come any more is expired by one member, after its time, and keeps
// its name in what it wrote. When it comes back it is let in by itself, as the same
// guest, and what it wrote meanwhile is said.
func TestGST13_NameOutlivesTheGuest(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	g.say(id, "I was here")
	w.settle()
	g.away, g.offline = true, true
	w.pass(12 * time.Hour)
	if _, in := a.room(id).State.Member(g.account()); !in {
		t.Fatal("the guest went with its connection")
	}
	w.pass(40 * time.Hour)
	if _, in := a.room(id).State.Member(g.account()); in {
		t.Fatal("the guest is there for ever")
	}
	if ended := entriesOf[room.GuestExpire](w, id); len(ended) != 1 {
		t.Errorf("expired %d times", len(ended))
	}
	for _, n := range []*node{a, b} {
		if got := texts(n.heard(id)); !slices.Equal(got, []string{"I was here"}) || n.authorName(id, g) != "gus" {
			t.Errorf("%s has %q of %q", n.name, got, n.authorName(id, g))
		}
	}

	g.say(id, "still here")
	g.away, g.offline = false, false
	w.pass(time.Minute)
	if s := g.guest(); s.Stage != GuestKnocks || s.Reason != protocol.TicketExpired {
		t.Fatalf("the guest is %+v", s)
	}
	w.check(g.comeIn(b, id, "not asked for it"))
	w.pass(time.Minute)
	for _, n := range []*node{a, b, g} {
		if got := texts(n.heard(id)); !slices.Equal(got, []string{"I was here", "still here"}) {
			t.Errorf("%s has %q", n.name, got)
		}
	}
	if len(a.room(id).State.Members()) != 3 {
		t.Error("the roster shows the guest twice")
	}
}

// Nobody expires a guest who was away himself, and asks nobody.
func TestGuestIsNotExpiredByWhoWasAway(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a := nodes[0]
	a.away, a.offline = true, true
	w.pass(3 * 24 * time.Hour)
	a.away, a.offline = false, false
	w.pass(2 * time.Hour)
	m, in := a.room(id).State.Member(g.account())
	if !in || !m.Expires.After(w.now) || len(entriesOf[room.GuestExpire](w, id)) != 0 {
		t.Errorf("the guest is in: %v, until %v", in, m.Expires)
	}
}

// Two members renew at a time, and the guest knocks twice at once: it keeps its place and
// all that it has of the room.
func TestGST11_RenewedTwiceInOneExchange(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	g.say(id, "one")
	w.settle()
	a.say(id, "two")
	w.settle()
	g.do(func(tx store.Tx) (Hint, error) { return g.e.MarkRoomRead(tx, w.now, id, 2) })
	before, was := g.room(id), g.guest()
	w.now = w.now.Add(13 * time.Hour)
	for i, n := range []*node{a, b} {
		n.offline = true
		expires := w.now.Add(20*time.Hour + time.Duration(i)*time.Hour)
		w.check(n.write(id, room.GuestRenew{Account: g.account(), Expires: expires}))
	}
	var visits []*visit
	for range 2 {
		v, err := g.knock(a, id, secret("open sesame"))
		w.check(err)
		w.check(v.admit())
		visits = append(visits, v)
	}
	a.offline, b.offline = false, false
	w.settle()
	for _, v := range slices.Backward(visits) {
		welcome, err := v.welcome()
		w.check(err)
		v.enter(welcome)
		w.settle()
	}
	m, in := g.room(id).State.Member(g.account())
	if after := g.room(id); !in || after.Stage != RoomJoined || after.Unread != before.Unread || g.guest() != was || g.roomEvents("joined") != 1 {
		t.Errorf("%+v became %+v", was, g.guest())
	}
	if m.Expires.Sub(w.now) < 20*time.Hour {
		t.Errorf("it may stay for %v", m.Expires.Sub(w.now))
	}
	g.say(id, "three")
	w.settle()
	if got := texts(b.heard(id)); !slices.Equal(got, []string{"one", "two", "three"}) {
		t.Errorf("bob has %q", got)
	}
}

// Two members let one guest in at a time, as two sessions of it came to each: there is one
// entry, and both are told of it.
func TestGST07_TwoSessionsAtOnce(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	a.setPassword(id, "open sesame", false)
	w.settle()
	g := w.newGuest("gus", id)
	var visits []*visit
	for _, door := range []*node{a, b} {
		v, err := g.knock(door, id, secret("open sesame"))
		w.check(err)
		w.check(v.admit())
		visits = append(visits, v)
	}
	w.settle()
	var entries [][32]byte
	for _, v := range visits {
		welcome, err := v.welcome()
		w.check(err)
		entries = append(entries, welcome.Entry.Hash())
		v.enter(welcome)
	}
	w.settle()
	g.say(id, "once")
	w.settle()
	if entries[0] != entries[1] || len(entriesOf[room.GuestJoin](w, id)) != 1 || len(a.room(id).State.Members()) != 3 {
		t.Error("the guest is there twice")
	}
	for _, n := range []*node{a, b, g} {
		if got := texts(n.heard(id)); !slices.Equal(got, []string{"once"}) || n.roomEvents("not_done") != 0 {
			t.Errorf("%s has %q", n.name, got)
		}
	}
}

// A welcome of another room, or to a log that does not go through its entry, is taken by
// nobody.
func TestWelcomeToAnotherLog(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a := nodes[0]
	a.setPassword(id, "open sesame", false)
	w.settle()
	g := w.newGuest("gus", id)
	v, err := g.knock(a, id, secret("open sesame"))
	w.check(err)
	w.check(v.admit())
	welcome, err := v.welcome()
	w.check(err)

	other := w.newGuest("other", a.createRoom("Other"))
	err = other.update(func(tx store.Tx) (Hint, error) { return other.e.TakeWelcome(tx, w.now, welcome, 1, v.secret) })
	if err == nil {
		t.Error("a welcome into another room was taken")
	}

	v.enter(welcome)
	home := w.home.rooms[id]
	state := home.state
	forged, err := room.Fold(parseLog(w, home.log[:len(home.log)-1]))
	w.check(err)
	forged, entry, err := forged.Write(w.now, room.Author{Account: a.account(), Device: a.device(), Key: a.e.id.DSK}, v.request.Join(w.now.Add(-time.Second), room.Sealed{}))
	w.check(err)
	home.lie = func(to *node, page *RoomPage) {
		for i, raw := range page.Entries {
			if e := parseLog(w, [][]byte{raw})[0]; e.Seq == entry.Seq && to == g {
				page.Entries[i] = entry.Bytes()
			}
		}
	}
	if forged.Seq() != state.Seq() {
		t.Fatal("the logs do not differ in their last entry")
	}
	w.settle()
	if r := g.room(id); r.Stage == RoomJoined || g.roomEvents("bad_log") == 0 {
		t.Errorf("the guest is %q by another log", r.Stage)
	}
	home.lie = nil
	w.pass(time.Minute)
	if r := g.room(id); r.Stage != RoomJoined {
		t.Errorf("the guest is %q", r.Stage)
	}
}

func parseLog(w *world, log [][]byte) (list []room.Entry) {
	w.t.Helper()
	for _, raw := range log {
		entry, err := room.ParseEntry(raw)
		w.check(err)
		list = append(list, entry)
	}
	return list
}

// A guest that was expired and is in again, without having heard of it, loses nothing of what
// is sent to it meanwhile.
func TestGuestIsInAndDoesNotKnow(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a := nodes[0]
	a.say(id, "one")
	w.settle()
	g.away, g.offline = true, true
	w.pass(40 * time.Hour)
	v, err := g.knock(a, id, secret("open sesame"))
	w.check(err)
	w.check(v.admit())
	a.hint.Rooms = addOnce(a.hint.Rooms, id)
	w.settle() // the guest's process ends, and the welcome is lost
	g.guestRefused(protocol.Refuse(protocol.UnknownRoom, ""))
	a.say(id, "two")
	w.settle()
	g.away, g.offline = false, false
	w.settle()
	if got := g.guest(); got.Stage != GuestKnocks {
		t.Fatalf("the guest is %+v", got)
	}
	w.check(g.comeIn(a, id, "not asked for it"))
	w.pass(time.Hour)
	if got := texts(g.heard(id)); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("the guest has %q", got)
	}
}

// A guest for whom a renewal waits is not expired, nor the other way round, and neither is an
// error.
func TestRenewalThatWaits(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a := nodes[0]
	w.now = w.now.Add(13 * time.Hour)
	seen := func(ago time.Duration) {
		a.do(func(tx store.Tx) (Hint, error) {
			return a.e.SeenGuests(tx, w.now, id, []GuestSeen{{g.account(), ago}, {a.account(), 0}, {protocol.AccountID{1}, 0}})
		})
	}
	seen(time.Minute)
	w.now = w.now.Add(12 * time.Hour)
	seen(13 * time.Hour)
	w.settle()
	if m, in := a.room(id).State.Member(g.account()); !in || !m.Expires.After(w.now) {
		t.Errorf("the guest is in: %v, until %v", in, m.Expires)
	}
	if len(entriesOf[room.GuestRenew](w, id)) != 1 || len(entriesOf[room.GuestExpire](w, id)) != 0 {
		t.Error("it is not the renewal that was appended")
	}
}

// A rendezvous that did not know the guest for a moment, and a knock that finds that nothing has
// changed: the guest goes on.
func TestGuestThatWasInAllTheTime(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a := nodes[0]
	g.say(id, "one")
	g.guestRefused(protocol.Refuse(protocol.UnknownRoom, ""))
	if s := g.guest(); s.Stage != GuestKnocks || s.Reason != protocol.TicketExpired {
		t.Fatalf("the guest is %+v", s)
	}
	w.check(g.comeIn(a, id, "not asked for it"))
	a.say(id, "two")
	w.pass(time.Minute)
	if s := g.guest(); s.Stage != GuestIn || s.Reason != protocol.OK {
		t.Errorf("the guest is %+v", s)
	}
	for _, n := range []*node{a, g} {
		if got := slices.Sorted(slices.Values(texts(n.heard(id)))); !slices.Equal(got, []string{"one", "two"}) {
			t.Errorf("%s has %q", n.name, got)
		}
	}
	if len(entriesOf[room.GuestJoin](w, id)) != 1 {
		t.Error("it is there twice")
	}
}
