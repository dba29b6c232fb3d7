package engine

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// guesses counts wrong passwords in a room, until the test ends.
func (n *node) guesses(id protocol.RoomID) *guest.Limits {
	if n.wrong == nil {
		n.wrong = map[protocol.RoomID]*guest.Limits{}
	}
	if n.wrong[id] == nil {
		n.wrong[id] = &guest.Limits{}
	}
	return n.wrong[id]
}

// secret stands for a password: what is derived from real ones costs a second.
func secret(password string) [32]byte { return key.Hash("test password", []byte(password)) }

// newGuest is somebody who has a link, and has not knocked yet.
func (w *world) newGuest(name string, id protocol.RoomID) *node {
	w.t.Helper()
	home := Home{Peer: w.home.log.peer(), Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}
	f, err := NewGuestWith(w.now, id, name, home, w.rsa)
	w.check(err)
	n := &node{w: w, name: name, kv: memory.New(), away: true, offline: true}
	w.check(n.kv.Update(context.Background(), func(tx store.Tx) error { return InitGuest(tx, f) }))
	w.home.devices[f.Newcomer.Request().Device(f.Chain.Account())] = newShelf()
	n.load()
	w.nodes = append(w.nodes, n)
	return n
}

// visit is one attempt of a guest at the door of a member.
type visit struct {
	guest, door *node
	id          protocol.RoomID
	visitor     *guest.Visitor
	admitter    *guest.Admitter
	request     guest.Request
	number      uint32
	secret      [32]byte
}

// knock runs an attempt up to the guest's request. A refusal is what the guest was told.
func (n *node) knock(door *node, id protocol.RoomID, with [32]byte) (*visit, error) {
	n.w.t.Helper()
	v := &visit{guest: n, door: door, id: id, secret: with}
	var self guest.Self
	n.view(func(tx store.Tx) (err error) {
		self, err = n.e.GuestSelf(tx)
		return err
	})
	visitor, frame, err := guest.Knock(self)
	n.w.check(err)
	v.visitor = visitor
	opened, err := door.door(id)
	if err != nil {
		return nil, n.guestRefused(protocol.Refuse(protocol.NobodyAdmits, ""))
	}
	v.admitter, frame, err = guest.Answer(opened, frame)
	n.w.check(err)
	v.number, err = visitor.Offered(frame)
	n.w.check(err)
	n.view(func(tx store.Tx) error {
		kept, ok, err := n.e.GuestSecret(tx, v.number)
		if ok {
			v.secret = *kept()
		}
		return err
	})
	frame, err = visitor.Answer(v.secret)
	n.w.check(err)
	frame, refused := v.admitter.Answered(n.w.now.Add(door.skew), door.guesses(id), "somewhere", frame)
	if refused != nil {
		door.noteAttempt(id, protocol.CodeOf(refused))
		_, err = visitor.Confirmed(frame)
		return nil, n.guestRefused(err.(*protocol.Error))
	}
	frame, err = visitor.Confirmed(frame)
	n.w.check(err)
	v.request, err = v.admitter.Requested(frame)
	n.w.check(err)
	return v, nil
}

// admit has the member write the guest into the log, or refuse it.
func (v *visit) admit() error {
	v.guest.w.t.Helper()
	err := v.door.update(func(tx store.Tx) (Hint, error) { return v.door.e.AdmitGuest(tx, v.door.w.now, v.id, v.request) })
	return v.told(err)
}

// told passes a refusal of the member on to the guest.
func (v *visit) told(err error) error {
	v.guest.w.t.Helper()
	refusal := new(protocol.Error)
	if !errors.As(err, &refusal) {
		v.guest.w.check(err)
		return nil
	}
	v.door.noteAttempt(v.id, refusal.Code)
	frame, err := v.admitter.Refuse(refusal)
	v.guest.w.check(err)
	_, err = v.visitor.Welcomed(frame)
	return v.guest.guestRefused(err.(*protocol.Error))
}

// ask returns what the guest is given, once the entry is in the log.
func (v *visit) ask() (welcome guest.Welcome, waits bool, err error) {
	v.guest.w.t.Helper()
	var own guest.Welcome
	err = v.door.kv.View(context.Background(), func(tx store.Tx) (err error) {
		own, waits, err = v.door.e.GuestAdmitted(tx, v.door.w.now, v.id, v.request)
		return err
	})
	if err != nil || waits {
		return welcome, waits, v.told(err)
	}
	frame, err := v.admitter.Admit(own)
	v.guest.w.check(err)
	welcome, err = v.visitor.Welcomed(frame)
	return welcome, false, err
}

// welcome waits for the entry and returns what the guest is given.
func (v *visit) welcome() (guest.Welcome, error) {
	v.guest.w.t.Helper()
	for range 50 {
		welcome, waits, err := v.ask()
		if !waits {
			return welcome, err
		}
		v.door.hint.Rooms = addOnce(v.door.hint.Rooms, v.id)
		v.door.step()
	}
	v.guest.w.t.Fatalf("%s is not let in", v.guest.name)
	return guest.Welcome{}, nil
}

// enter has the guest take its welcome and register.
func (v *visit) enter(welcome guest.Welcome) {
	n := v.guest
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.TakeWelcome(tx, n.w.now, welcome, v.number, v.secret) })
	n.registerGuest(v.id)
}

func (n *node) registerGuest(id protocol.RoomID) {
	n.w.t.Helper()
	if m, in := n.w.home.rooms[id].state.Member(n.account()); !in || m.Role != room.RoleGuest {
		n.guestRefused(n.w.home.refusalOf(n, id))
		return
	}
	n.w.home.guests[n.account()] = n.chain().Bytes()
	n.w.check(n.kv.Update(context.Background(), MarkRegistered))
	n.away, n.offline = false, false
	n.load()
	n.syncPrekeys()
}

// comeIn is a visit from the knock to the end.
func (n *node) comeIn(door *node, id protocol.RoomID, password string) error {
	n.w.t.Helper()
	v, err := n.knock(door, id, secret(password))
	if err != nil {
		return err
	}
	if err := v.admit(); err != nil {
		return err
	}
	welcome, err := v.welcome()
	if err != nil {
		return err
	}
	v.enter(welcome)
	return nil
}

func (n *node) door(id protocol.RoomID) (d guest.Door, err error) {
	err = n.kv.View(context.Background(), func(tx store.Tx) (err error) {
		d, err = n.e.Door(tx, n.w.now, id)
		return err
	})
	return d, err
}

func (n *node) noteAttempt(id protocol.RoomID, code protocol.Code) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.NoteGuestAttempt(tx, n.w.now, id, []byte("somewhere"), code)
	})
}

// guestRefused is what a guest's program does with a refusal, which it returns.
func (n *node) guestRefused(refusal *protocol.Error) error {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.GuestRefused(tx, n.w.now, refusal) })
	return refusal
}

func (n *node) guest() (g Guest) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		g, err = n.e.Guest(tx)
		return err
	})
	return g
}

// setPassword changes the password of a room.
func (n *node) setPassword(id protocol.RoomID, password string, askAgain bool) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		number, err := n.e.NextRoomPassword(tx, n.w.now, id)
		if err != nil {
			return Hint{}, err
		}
		derived := secret(password)
		return n.e.SetRoomPassword(tx, n.w.now, id, RoomPassword{Number: number, Secret: key.Hide(&derived), AskAgain: askAgain})
	})
}

func (n *node) askForGuests(id protocol.RoomID) {
	n.w.t.Helper()
	var list []GuestSeen
	for _, m := range n.w.home.rooms[id].state.Members() {
		if m.Role == room.RoleGuest {
			list = append(list, GuestSeen{m.Account, n.w.now.Sub(n.w.home.seen[m.Account])})
		}
	}
	n.do(func(tx store.Tx) (Hint, error) { return n.e.SeenGuests(tx, n.w.now, id, list) })
}

// refusalOf is what the rendezvous tells who is not in a room.
func (r *rendezvous) refusalOf(n *node, id protocol.RoomID) *protocol.Error {
	if r.rooms[id].state.Barred(n.account()) {
		return protocol.Refuse(protocol.Banned, "")
	}
	return protocol.Refuse(protocol.UnknownRoom, "")
}

// houseOf is a room that takes guests by the password "open sesame", with a guest.
func houseOf(t tb, w *world, names ...string) (id protocol.RoomID, nodes []*node, g *node) {
	id, nodes = roomOf(t, w, names...)
	nodes[0].setPassword(id, "open sesame", false)
	w.settle()
	g = w.newGuest("gus", id)
	if err := g.comeIn(nodes[0], id, "open sesame"); err != nil {
		t.Fatalf("the guest does not come in: %v", err)
	}
	w.settle()
	if r := g.room(id); r.Stage != RoomJoined {
		t.Fatalf("the guest is %q", r.Stage)
	}
	return id, nodes, g
}
