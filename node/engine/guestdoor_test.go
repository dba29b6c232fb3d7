package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// After another password the old one lets nobody in. Who is in stays, or is out until it
// knows the new one, as the moderator chose; all are told which.
func TestGST05_AnotherPassword(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	late := w.newGuest("late", id)

	a.setPassword(id, "second", false)
	w.settle()
	if _, in := b.room(id).State.Member(g.account()); !in || g.guest().Stage != GuestIn {
		t.Fatal("the guest is out")
	}
	if b.roomEvents("password") != 2 || g.roomEvents("password") != 1 {
		t.Error("not all were told")
	}
	if err := late.comeIn(a, id, "open sesame"); protocol.CodeOf(err) != protocol.WrongPassword {
		t.Errorf("the old password: %v", err)
	}
	if s := late.guest(); s.Stage != GuestKnocks || s.Reason != protocol.WrongPassword || s.Number != 0 {
		t.Errorf("the guest is %+v", s)
	}
	w.check(late.comeIn(a, id, "second"))
	w.settle()

	a.setPassword(id, "third", true)
	w.settle()
	for _, n := range []*node{g, late} {
		if _, in := b.room(id).State.Member(n.account()); in {
			t.Errorf("%s is still in", n.name)
		}
		if s := n.guest(); s.Stage != GuestKnocks {
			t.Errorf("%s is %+v", n.name, s)
		}
		if err := n.comeIn(a, id, "second"); protocol.CodeOf(err) != protocol.WrongPassword {
			t.Errorf("%s by the old password: %v", n.name, err)
		}
	}
	if b.roomEvents("password") != 3 {
		t.Error("the choice is not shown")
	}
	place := g.account()
	w.check(g.comeIn(a, id, "third"))
	w.settle()
	if m, in := b.room(id).State.Member(place); !in || m.Password != 3 {
		t.Error("the guest did not come back as the same")
	}

	a.do(func(tx store.Tx) (Hint, error) { return a.e.SetRoomPassword(tx, w.now, id, RoomPassword{Number: 4}) })
	w.settle()
	if _, in := b.room(id).State.Member(g.account()); !in {
		t.Error("closing the door threw a guest out")
	}
	if err := late.comeIn(a, id, "third"); protocol.CodeOf(err) != protocol.NobodyAdmits {
		t.Errorf("through a closed door: %v", err)
	}
}

// Of two passwords set at a time the second is lost, with a word to who set it.
func TestPasswordsSetAtATime(t *testing.T) {
	w := newWorld(t)
	id, nodes, _ := houseOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	b.offline = true
	b.setPassword(id, "of bob", false)
	a.setPassword(id, "of alice", false)
	w.settle()
	b.offline = false
	w.settle()
	if b.roomEvents("not_done") != 1 || a.roomEvents("not_done") != 0 {
		t.Error("bob does not know that his is not the password")
	}
	g := w.newGuest("new", id)
	if err := g.comeIn(b, id, "of bob"); protocol.CodeOf(err) != protocol.WrongPassword {
		t.Errorf("by a password that never was: %v", err)
	}
	w.check(g.comeIn(b, id, "of alice"))
}

// Who gets the right to admit can let guests in at once, who loses it no more; and only they
// have the key.
func TestWhoMayAdmitHasThePassword(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	secretKey := a.room(id).State.Password().Secret.Key
	opens := func(n *node) bool {
		_, err := n.door(id)
		if err != nil && !errors.Is(err, ErrNoDoor) {
			t.Fatal(err)
		}
		return err == nil
	}
	if !opens(a) || opens(b) || opens(c) || opens(g) {
		t.Fatal("the door is with the wrong people")
	}
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	if !opens(b) || opens(c) {
		t.Error("a new moderator cannot let guests in, or others can")
	}
	for _, n := range []*node{c, g} {
		if n.hasKey(id, secretKey) {
			t.Errorf("%s has the key", n.name)
		}
	}
	w.check(a.write(id, room.SetRoleRights{Role: room.RoleMember, Rights: room.Access | room.Admit}))
	w.settle()
	if !opens(c) {
		t.Error("members may admit and cannot")
	}
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleMember}))
	w.check(a.write(id, room.SetRoleRights{Role: room.RoleMember, Rights: room.Access}))
	w.settle()
	a.setPassword(id, "another", false)
	w.settle()
	if next := a.room(id).State.Password().Secret.Key; opens(b) || b.hasKey(id, next) || c.hasKey(id, next) {
		t.Error("who may not admit any more has the new key")
	}
}

func (n *node) hasKey(id protocol.RoomID, name room.KeyID) (ok bool) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		b, err := get(tx, keyRoomKey(id, name))
		ok = b != nil
		return err
	})
	return ok
}

// Who was removed is out within a second, and not let in with that key any more; with
// another one only by the password, and while the room is open.
func TestGST06_RemovedGuest(t *testing.T) {
	for name, op := range map[string]func(protocol.AccountID) room.Op{
		"removed": func(a protocol.AccountID) room.Op { return room.Remove{Account: a} },
		"banned":  func(a protocol.AccountID) room.Op { return room.Ban{Account: a} },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, nodes, g := houseOf(t, w, "alice", "bob")
			a, b := nodes[0], nodes[1]
			b.say(id, "hello")
			w.settle()
			at := w.now
			w.check(a.write(id, op(g.account())))
			w.settle()
			if took := w.now.Sub(at); took > time.Second {
				t.Errorf("it took %v", took)
			}
			if s := g.guest(); s.Stage != GuestOut || s.Reason != protocol.Banned || s.Number != 0 || g.roomEvents("removed") != 1 {
				t.Errorf("the guest is %+v", s)
			}
			b.say(id, "without it")
			w.settle()
			if got := texts(g.heard(id)); !slices.Equal(got, []string{"hello"}) {
				t.Errorf("the guest has %q", got)
			}
			if err := g.comeIn(a, id, "open sesame"); protocol.CodeOf(err) != protocol.Banned {
				t.Errorf("with the same key: %v", err)
			}
			w.check(a.write(id, room.Lock{On: true}))
			w.settle()
			again := w.newGuest("again", id)
			if err := again.comeIn(a, id, "open sesame"); protocol.CodeOf(err) != protocol.RoomLocked {
				t.Errorf("into a locked room: %v", err)
			}
			if err := again.comeIn(a, id, "wrong"); protocol.CodeOf(err) != protocol.WrongPassword {
				t.Errorf("with a wrong password: %v", err)
			}
			w.check(a.write(id, room.Lock{}))
			w.settle()
			w.check(again.comeIn(a, id, "open sesame"))
		})
	}
}

// A guest who is in comes in again also while the room is locked.
func TestLockedRoomKeepsItsGuests(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	w.check(nodes[0].write(id, room.Lock{On: true}))
	w.settle()
	w.check(g.comeIn(nodes[0], id, "open sesame"))
}

// Every refusal has a code and what the guest's program does about it by itself, in a
// sentence that asks nobody to load anything again.
func TestGST10_EveryRefusalHasAnAction(t *testing.T) {
	for code, want := range map[protocol.Code]GuestDoes{
		protocol.WrongPassword: GuestAsks, protocol.TicketExpired: GuestKnocksAnew, protocol.UnknownRoom: GuestKnocksAnew,
		protocol.NotMember: GuestKnocksAnew, protocol.Banned: GuestEnds, protocol.RoomLocked: GuestWaits, protocol.RoomFull: GuestWaits,
		protocol.StaleEpoch: GuestWaits, protocol.NobodyAdmits: GuestWaits, protocol.RateLimited: GuestWaits, protocol.Unavailable: GuestWaits,
		protocol.Internal: GuestWaits, protocol.Draining: GuestWaits,
	} {
		if does, text := DoAsGuest(code); does != want || len(text) < 10 {
			t.Errorf("%v: %q, %q", code, does, text)
		}
	}
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	nodes[0].setPassword(id, "second", false)
	w.settle()
	for _, code := range []protocol.Code{protocol.RoomLocked, protocol.RateLimited, protocol.NobodyAdmits, protocol.StaleEpoch} {
		g.guestRefused(protocol.Refuse(code, ""))
		if s := g.guest(); s.Stage != GuestIn || s.Number != 1 {
			t.Errorf("%v threw the guest out: %+v", code, s)
		}
	}
}

// However many wrong passwords somebody tries, few are remembered and fewer tell the user;
// somebody else comes in, and who was in before too.
func TestGuessesAreBounded(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a := nodes[0]
	codes := map[protocol.Code]int{}
	guesser := w.newGuest("guesser", id)
	for i := range 200 {
		err := guesser.comeIn(a, id, fmt.Sprint("guess ", i))
		codes[protocol.CodeOf(err)]++
	}
	for i := range 500 {
		place := []byte(fmt.Sprint("place ", i))
		a.do(func(tx store.Tx) (Hint, error) {
			return a.e.NoteGuestAttempt(tx, w.now, id, place, protocol.WrongPassword)
		})
	}
	if codes[protocol.WrongPassword] != 5 || codes[protocol.RateLimited] != 195 {
		t.Errorf("%v", codes)
	}
	if events := a.roomEvents(RoomGuestNotLetIn); events == 0 || events > maxTryEvents {
		t.Errorf("%d events", events)
	}
	var tries []GuestAttempt
	a.view(func(tx store.Tx) (err error) {
		tries, err = a.e.GuestAttempts(tx, id)
		return err
	})
	if len(tries) != maxTries {
		t.Errorf("%d attempts are remembered", len(tries))
	}
	w.check(g.comeIn(a, id, "not asked for it"))
	if rows := len(a.rows(tableRoomNote)); rows > 10 {
		t.Errorf("%d rows", rows)
	}
}

// While somebody is removed, a guest who comes in is not lost: its name is sealed with a
// key that the removed does not have.
func TestGuestComesInDuringARemoval(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	w.check(a.write(id, room.SetRole{Account: b.account(), Role: room.RoleModerator}))
	w.settle()
	a.setPassword(id, "open sesame", false)
	w.settle()
	g := w.newGuest("gus", id)
	v, err := g.knock(b, id, secret("open sesame"))
	w.check(err)
	b.offline = true
	w.check(v.admit())
	w.check(a.write(id, room.Remove{Account: c.account()}))
	w.settle()
	b.offline = false
	w.settle()
	welcome, err := v.welcome()
	w.check(err)
	v.enter(welcome)
	w.pass(time.Minute)
	for _, n := range []*node{a, b, g} {
		if name := n.authorName(id, g); name != "gus" {
			t.Errorf("%s knows %q", n.name, name)
		}
	}
	if c.authorName(id, g) != "" {
		t.Error("who was removed knows the name")
	}
}

// A guest has no contacts, makes no rooms and is in no directory; nothing that holds its
// keys prints them.
func TestGuestHasNothingElse(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a := nodes[0]
	if err := g.update(func(tx store.Tx) (Hint, error) { return g.e.Add(tx, w.now, g.found("alice", false), "") }); !errors.Is(err, ErrGuest) {
		t.Errorf("contact: %v", err)
	}
	if err := g.update(func(tx store.Tx) (h Hint, err error) {
		_, h, err = g.e.CreateRoom(tx, w.now, room.About{Name: "Mine"})
		return h, err
	}); !errors.Is(err, ErrGuest) {
		t.Errorf("room: %v", err)
	}
	other := a.createRoom("Other")
	g.do(func(tx store.Tx) (Hint, error) { return g.e.FollowRoom(tx, w.now, other) })
	w.settle()
	var rooms []Room
	g.view(func(tx store.Tx) (err error) {
		rooms, err = g.e.Rooms(tx, w.now)
		return err
	})
	if len(rooms) != 1 || rooms[0].ID != id {
		t.Errorf("%d rooms", len(rooms))
	}
	if a.e.isGuest() || g.e.Identity().Guest != id || g.e.Identity().Name != "" {
		t.Error("who is the guest?")
	}
	w.pass(2 * 24 * time.Hour) // the sweeps of a year would ask for keys that were never kept
	if notices := g.events(KindNotice); len(notices) != 0 {
		t.Errorf("%+v", notices)
	}
	f, err := NewGuestWith(w.now, id, "gus", Home{}, w.rsa)
	w.check(err)
	for _, v := range []any{f, *f, RoomPassword{Secret: key.Hide(&[32]byte{7})}} {
		if got := fmt.Sprintf("%v %+v", v, v); slices.Contains([]byte(got), 7) || len(got) > 200 {
			t.Errorf("%T prints %q", v, got)
		}
	}
	if _, err := NewGuestWith(w.now, id, "", Home{}, w.rsa); !errors.Is(err, ErrBadDeviceName) {
		t.Errorf("a guest without a name: %v", err)
	}
	more := true
	for more {
		w.check(g.kv.Update(t.Context(), func(tx store.Tx) (err error) {
			more, err = Retire(tx, w.now)
			return err
		}))
	}
	if len(g.rows(tableGuest)) != 0 {
		t.Error("what the password was derived to is still there")
	}
}
