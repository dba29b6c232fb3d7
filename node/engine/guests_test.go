package engine

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/store"
)

// A guest and the members read what each of them says from then on, and nothing of what
// was said before; and all know its name.
func TestGuestIsInTheRoom(t *testing.T) {
	w := newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	a.say(id, "before")
	w.settle()
	a.setPassword(id, "open sesame", false)
	w.settle()
	g := w.newGuest("gus", id)
	w.check(g.comeIn(a, id, "open sesame"))
	w.settle()
	a.say(id, "hello gus")
	g.say(id, "hello all")
	b.say(id, "hello")
	w.pass(time.Minute)
	want := []string{"hello", "hello all", "hello gus"}
	for _, n := range []*node{a, b, g} {
		got := slices.Sorted(slices.Values(texts(n.heard(id))))
		if n != g {
			got = slices.DeleteFunc(got, func(s string) bool { return s == "before" })
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s has %q", n.name, got)
		}
		if name := n.authorName(id, g); name != "gus" {
			t.Errorf("%s knows the guest as %q", n.name, name)
		}
		if r := n.room(id); r.Name != "Climbing" || len(r.State.Members()) != 3 {
			t.Errorf("%s: %q with %d members", n.name, r.Name, len(r.State.Members()))
		}
	}
	if s := g.guest(); s.Stage != GuestIn || s.Number != 1 || s.Name != "gus" {
		t.Errorf("the guest is %+v", s)
	}
	if g.hint.Log || g.hint.Contacts {
		t.Error("the guest wants what its rendezvous refuses")
	}
	w.checkEmpty()
}

// The store of a guest is begun before it knocks. Wherever its process ends, it is the same
// guest afterwards, once in the log, and with what it was given.
func TestGuestCrashesWhileItComesIn(t *testing.T) {
	for name, cut := range map[string]func(v *visit){
		"after the password": func(*visit) {},
		"before the entry is appended": func(v *visit) {
			v.guest.w.check(v.admit())
		},
		"before the welcome": func(v *visit) {
			v.guest.w.check(v.admit())
			v.door.step()
		},
		"before it has registered": func(v *visit) {
			v.guest.w.check(v.admit())
			welcome, err := v.welcome()
			v.guest.w.check(err)
			v.guest.do(func(tx store.Tx) (Hint, error) {
				return v.guest.e.TakeWelcome(tx, v.guest.w.now, welcome, v.number, v.secret)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			id, nodes := roomOf(t, w, "alice", "bob")
			a := nodes[0]
			a.setPassword(id, "open sesame", false)
			w.settle()
			g := w.newGuest("gus", id)
			v, err := g.knock(a, id, secret("open sesame"))
			w.check(err)
			cut(v)
			before := g.account()
			g.reload()
			if g.account() != before {
				t.Fatal("another guest")
			}
			w.check(g.comeIn(a, id, "open sesame"))
			w.settle()
			g.say(id, "here I am")
			w.settle()
			if got := texts(a.heard(id)); !slices.Equal(got, []string{"here I am"}) {
				t.Errorf("alice has %q", got)
			}
			if joins := entriesOf[room.GuestJoin](w, id); len(joins) != 1 {
				t.Errorf("%d entries", len(joins))
			}
		})
	}
}

// A moderator changes a guest's rights a hundred times while it writes, with clocks that
// differ, processes that begin anew and a network that loses: nothing is lost, nothing
// comes twice, and it stays who it is, without being asked anything.
func TestGST01_RightsOfAGuestChangeUnderTraffic(t *testing.T) {
	for _, skew := range []time.Duration{0, 5 * time.Minute, -5 * time.Minute} {
		t.Run(skew.String(), func(t *testing.T) {
			w := newWorld(t)
			id, nodes, g := houseOf(t, w, "alice", "bob")
			a, b := nodes[0], nodes[1]
			g.skew = skew
			before, _ := a.room(id).State.Member(g.account())
			fates := []fate{arrives, lost, ackLost, repeated, delayed}
			for i, n := range w.nodes {
				turn := i
				n.fate = func() fate { turn++; return fates[turn*7%len(fates)] }
			}
			var want []string
			for i := range 100 {
				rights := room.Access
				if i%2 == 0 {
					rights = room.Read | room.Send
				}
				want = append(want, fmt.Sprint("text ", i))
				g.say(id, want[i])
				if i%3 == 0 {
					g.sendRoom(id)
				}
				w.check(a.write(id, room.SetMemberRights{Account: g.account(), HasOwn: true, Own: rights}))
				for range i % 5 {
					a.step()
					g.step()
				}
				if i%10 == 0 {
					w.pass(time.Minute)
				}
				if i%25 == 0 {
					g.load()
				}
			}
			for _, n := range w.nodes {
				n.fate = nil
			}
			w.pass(time.Hour)
			for _, n := range []*node{a, b, g} {
				if got := texts(n.heard(id)); !slices.Equal(got, want) {
					t.Errorf("%s has %d of %d: %q", n.name, len(got), len(want), got)
				}
			}
			after, in := b.room(id).State.Member(g.account())
			if !in || after.Joined != before.Joined || g.roomEvents("joined") != 1 || g.guest().Stage != GuestIn {
				t.Errorf("the guest is another, or was out: %+v", g.guest())
			}
			if rights := b.room(id).State.Rights(g.account()); rights != room.Access {
				t.Errorf("it may %v", rights)
			}
		})
	}
}

// What a guest may is what the signed log says, whatever its own program thinks: all drop
// what it sends while it is muted, live and from the mailbox.
func TestGST03_MutedGuestIsNotHeard(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	g.say(id, "allowed")
	w.settle()
	w.check(a.write(id, room.SetMemberRights{Account: g.account(), Muted: true}))
	w.settle()
	if err := g.trySay(id, protocol.NewMsgID(), "honest"); !errors.Is(err, ErrRoomMute) {
		t.Errorf("the guest may write: %v", err)
	}
	if err := g.write(id, room.SetMemberRights{Account: g.account()}); !errors.Is(err, room.ErrForbidden) {
		t.Errorf("the guest unmutes itself: %v", err)
	}
	old, now := g.forgeMuted(id)
	for _, forged := range [][]byte{old, now} {
		for _, n := range []*node{a, b} {
			err := n.update(func(tx store.Tx) (Hint, error) { return n.e.HearRoom(tx, w.now, id, forged) })
			if refused := new(message.Error); !errors.As(err, &refused) {
				t.Errorf("%s passes it on: %v", n.name, err)
			}
		}
		if code := w.home.putRoom(id, forged); code == protocol.OK {
			t.Error("the rendezvous stored it")
		}
	}
	for _, n := range []*node{a, b} { // nor does a rendezvous help that lies
		w.check(n.takeRoom(id, items(now)))
	}
	w.pass(time.Hour)
	for _, n := range []*node{a, b} {
		if got := texts(n.heard(id)); !slices.Equal(got, []string{"allowed"}) {
			t.Errorf("%s has %q", n.name, got)
		}
	}
}

// forgeMuted is what a program sends that does not care for the log: with its chain of
// before it was muted, and with a new one.
func (n *node) forgeMuted(id protocol.RoomID) (old, now []byte) {
	n.w.t.Helper()
	entry := entriesOf[room.SetMemberRights](n.w, id)[0]
	old = n.forgeSaid(id, func(v *message.View) { v.Epoch, v.Seq, v.Head = entry.Seq-1, entry.Seq-1, entry.Prev }, textOf("back-dated"))
	plain, err := proto.Marshal(textOf("all the same"))
	n.w.check(err)
	state := n.room(id).State
	view := message.View{Room: id, Epoch: state.Epoch(), Seq: state.Seq(), Head: state.Head()}
	s, _, err := chain.Sender{}.Start(n.w.now, view, n.device())
	n.w.check(err)
	_, now, err = s.Seal(n.w.now, n.e.id.DSK, view, plain)
	n.w.check(err)
	return old, now
}

// entriesOf are the entries of a kind in the log of a room.
func entriesOf[O room.Op](w *world, id protocol.RoomID) (list []room.Entry) {
	w.t.Helper()
	for _, raw := range w.home.rooms[id].log {
		entry, err := room.ParseEntry(raw)
		w.check(err)
		if _, is := entry.Op.(O); is {
			list = append(list, entry)
		}
	}
	return list
}

func (n *node) authorName(id protocol.RoomID, of *node) (name string) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		name, err = n.e.RoomAuthorName(tx, id, of.account())
		return err
	})
	return name
}
