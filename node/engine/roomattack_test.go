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
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// trio is a room of three, in which everybody has everybody's chain.
func trio(t testing.TB) (w *world, id protocol.RoomID, a, b, c *node) {
	w = newWorld(t)
	id, nodes := roomOf(t, w, "alice", "bob", "carol")
	for _, n := range nodes {
		n.say(id, "hello of "+n.name)
		w.settle()
	}
	return w, id, nodes[0], nodes[1], nodes[2]
}

// forgeSaid seals a content as a node would, with a view of its own.
func (n *node) forgeSaid(id protocol.RoomID, change func(*message.View), content *wire.RoomContent) (b []byte) {
	n.w.t.Helper()
	plain, err := proto.Marshal(content)
	n.w.check(err)
	n.view(func(tx store.Tx) error {
		x, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return err
		}
		r, err := x.room(id)
		if err != nil {
			return err
		}
		s, err := x.senderOf(r)
		if err != nil {
			return err
		}
		view := r.view()
		if change != nil {
			change(&view)
		}
		_, b, err = s.Seal(n.w.now, n.e.id.DSK, view, plain)
		return err
	})
	return b
}

func textOf(text string) *wire.RoomContent {
	id := protocol.NewMsgID()
	return &wire.RoomContent{MsgId: id[:], Body: &wire.RoomContent_Text{Text: &wire.Text{Text: text}}}
}

func (n *node) takeRoom(id protocol.RoomID, page RoomPage) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.TakeRoom(tx, n.w.now, id, page) })
}

func items(list ...[]byte) (page RoomPage) {
	for _, b := range list {
		page.Messages = append(page.Messages, RoomItem{Message: b})
	}
	return page
}

// What a member, or who is none, puts into the mailbox of a room does no harm: it is
// shown to nobody, and what others say is.
func TestMessagesOfALiarHarmNobody(t *testing.T) {
	long := textOf("")
	long.Body.(*wire.RoomContent_Text).Text.Text = string(make([]byte, protocol.MaxText+1))
	for name, lie := range map[string]func(w *world, id protocol.RoomID, b *node) []byte{
		"no message": func(*world, protocol.RoomID, *node) []byte { return []byte("x") },
		"no content": func(_ *world, id protocol.RoomID, b *node) []byte { return b.forgeSaid(id, nil, &wire.RoomContent{}) },
		"too long":   func(_ *world, id protocol.RoomID, b *node) []byte { return b.forgeSaid(id, nil, long) },
		"unknown content": func(_ *world, id protocol.RoomID, b *node) []byte {
			return b.forgeSaid(id, nil, &wire.RoomContent{MsgId: make([]byte, 16)})
		},
		"another version": func(_ *world, id protocol.RoomID, b *node) []byte {
			m := b.forgeSaid(id, nil, textOf("bad"))
			m[0]++
			return m
		},
		"flipped bit": func(_ *world, id protocol.RoomID, b *node) []byte {
			m := b.forgeSaid(id, nil, textOf("bad"))
			m[len(m)-1] ^= 1
			return m
		},
		"in the name of another": func(w *world, id protocol.RoomID, b *node) []byte {
			m := b.forgeSaid(id, nil, textOf("bad"))
			other := w.nodes[0].device()
			copy(m[84:], other[:])
			return m
		},
		"too many voids": func(_ *world, id protocol.RoomID, b *node) []byte {
			c := textOf("bad")
			c.Void = make([]uint64, maxRoomVoid+1)
			return b.forgeSaid(id, nil, c)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, id, a, b, c := trio(t)
			before := c.heard(id)
			w.check(c.takeRoom(id, items(lie(w, id, b))))
			if got := c.heard(id); len(got) != len(before) {
				t.Errorf("shows %q", texts(got))
			}
			a.say(id, "honest") // the liar has used up a number of its own: that is its loss
			w.settle()
			if got := texts(c.heard(id)); !slices.Contains(got, "honest") {
				t.Errorf("shows only %q", got)
			}
		})
	}
}

// A muted member's message is dropped by everybody, whatever its program lets it do.
func TestGST03_ReceiversEnforceMute(t *testing.T) {
	w, id, a, b, c := trio(t)
	w.check(a.write(id, room.SetMemberRights{Account: b.account(), Muted: true}))
	w.settle()
	if err := b.trySay(id, protocol.NewMsgID(), "muted"); !errors.Is(err, ErrRoomMute) {
		t.Fatalf("the muted one may write: %v", err)
	}
	before := len(c.heard(id))
	b.do(func(tx store.Tx) (Hint, error) { // a program that does it all the same, and gives out its chain
		x, err := b.e.begin(tx, w.now)
		if err != nil {
			return Hint{}, err
		}
		r, err := x.room(id)
		if err != nil {
			return Hint{}, err
		}
		s, err := x.senderOf(r)
		if err == nil {
			err = x.startChain(r, s)
		}
		if err != nil {
			return Hint{}, err
		}
		return x.end()
	})
	w.settle()
	m := b.forgeSaid(id, nil, textOf("muted"))
	for _, n := range []*node{a, c} {
		w.check(n.takeRoom(id, items(m)))
		refused := new(message.Error)
		if err := n.update(func(tx store.Tx) (Hint, error) { return n.e.HearRoom(tx, w.now, id, m) }); !errors.As(err, &refused) {
			t.Errorf("%s hears it: %v", n.name, err)
		}
		if len(n.heard(id)) != before {
			t.Errorf("%s shows %q", n.name, texts(n.heard(id)))
		}
	}
}

// Chains are taken from their own device only, and only if it is in the room; a copy
// of one does not open anything twice.
func TestKeysOfOthersAreRefused(t *testing.T) {
	w, id, a, b, c := trio(t)
	own := b.distribution(id)
	for name, test := range map[string]struct {
		from *node
		keys *wire.RoomKeys
		code protocol.Code
	}{
		"a chain of another device": {c, &wire.RoomKeys{Room: id[:], Distributions: [][]byte{own}}, protocol.OK},
		"no chain":                  {b, &wire.RoomKeys{Room: id[:], Distributions: [][]byte{{1}}}, protocol.OK},
		"no room":                   {b, &wire.RoomKeys{Room: []byte{1}}, protocol.BadRequest},
		"another room":              {b, &wire.RoomKeys{Room: make([]byte, 32), Distributions: [][]byte{own}}, protocol.OK},
		"too many":                  {b, &wire.RoomKeys{Room: id[:], Distributions: make([][]byte, maxRoomGive+1)}, protocol.BadRequest},
	} {
		before := a.rows(tableRoomReceiver)
		mid := protocol.NewMsgID()
		code := forgeContent(w, test.from, a, &wire.Content{MsgId: mid[:], Body: &wire.Content_RoomKeys{RoomKeys: test.keys}})
		if code != test.code {
			t.Errorf("%s: %v", name, code)
		}
		if after := a.rows(tableRoomReceiver); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s changes what is known", name)
		}
	}
}

// distribution makes a chain of a node that nobody was given.
func (n *node) distribution(id protocol.RoomID) []byte {
	n.w.t.Helper()
	var out []byte
	n.view(func(tx store.Tx) error {
		x, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return err
		}
		r, err := x.room(id)
		if err != nil {
			return err
		}
		_, d, err := chain.Sender{}.Start(n.w.now, r.view(), n.device())
		out = d.Marshal()
		return err
	})
	return out
}

// A stranger gets neither keys in nor anything out of a room.
func TestStrangersGiveNoKeys(t *testing.T) {
	w, id, a, b, _ := trio(t)
	stranger := w.add("mallory")
	w.befriend(stranger, a) // so that there is a session
	before := a.rows(tableRoomKey)
	for range 3 {
		k, mid := room.NewStateKey(), protocol.NewMsgID()
		forgeContent(w, stranger, a, &wire.Content{MsgId: mid[:], Body: &wire.Content_RoomKeys{RoomKeys: &wire.RoomKeys{
			Room: id[:], StateKeys: [][]byte{k.Bytes()},
		}}})
	}
	if after := a.rows(tableRoomKey); len(after) != len(before) {
		t.Error("a stranger's keys are kept")
	}
	if err := stranger.update(func(tx store.Tx) (Hint, error) { return stranger.e.JoinRoom(tx, w.now, id) }); !errors.Is(err, ErrNoRoom) {
		t.Errorf("joins: %v", err)
	}
	if code := forgeContent(w, stranger, a, &wire.Content{MsgId: make([]byte, 16), Body: &wire.Content_Receipt{Receipt: &wire.Receipt{}}}); code != protocol.OK {
		t.Errorf("a contact's receipt: %v", code)
	}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Remove(tx, w.now, b.account()) })
	w.settle()
	b.say(id, "no contact any more")
	w.settle()
	if got := texts(a.heard(id)); !slices.Contains(got, "no contact any more") {
		t.Errorf("who is no contact is not read in the room: %q", got)
	}
}

// A rendezvous that shows another log than before, or than a contact has, or one with
// a forged entry, changes nothing; the user is told.
func TestFalseLogsAreRefused(t *testing.T) {
	w, id, a, b, c := trio(t)
	home := w.home.rooms[id]
	other, second, err := home.state.Write(w.now, room.Author{Account: b.account(), Device: b.device(), Key: b.e.id.DSK}, room.Leave{})
	w.check(err)
	forged := second.Bytes()
	forged[len(forged)-1] ^= 1
	for name, entries := range map[string][][]byte{
		"one twice": {second.Bytes(), second.Bytes()},
		"forged":    {forged},
		"no entry":  {[]byte("x")},
		"of the future": {func() []byte {
			_, e, err := other.Write(w.now, room.Author{Account: a.account(), Device: a.device(), Key: a.e.id.DSK}, room.Rotate{})
			w.check(err)
			return e.Bytes()
		}()},
	} {
		before := fmt.Sprint(c.rows(tableRoom), c.rows(tableRoomLog))
		if err := c.takeRoom(id, RoomPage{Entries: entries}); !errors.Is(err, ErrRoomLog) {
			t.Errorf("%s: %v", name, err)
		}
		if fmt.Sprint(c.rows(tableRoom), c.rows(tableRoomLog)) != before {
			t.Errorf("%s changes something", name)
		}
	}
}

// flood makes a chain that nobody was given, and messages of it.
func (n *node) flood(id protocol.RoomID, count int) (dist []byte, list [][]byte) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		x, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		r, err := x.room(id)
		if err != nil {
			return Hint{}, err
		}
		s, err := x.senderOf(r)
		if err != nil {
			return Hint{}, err
		}
		next, d, err := s.Start(n.w.now, r.view(), n.device())
		if err != nil {
			return Hint{}, err
		}
		dist = d.Marshal()
		for i := range count {
			plain, err := proto.Marshal(textOf(fmt.Sprint("flood ", i)))
			if err != nil {
				return Hint{}, err
			}
			var sealed []byte
			if next, sealed, err = next.Seal(n.w.now, n.e.id.DSK, r.view(), plain); err != nil {
				return Hint{}, err
			}
			list = append(list, sealed)
		}
		*s = next
		return x.end()
	})
	return dist, list
}

// Messages whose chain did not come are bounded, and those that were not kept are
// asked for when it has.
func TestFloodWithoutKeysIsBounded(t *testing.T) {
	w, id, a, b, c := trio(t)
	dist, list := b.flood(id, maxRoomWaiting+50)
	for batch := range slices.Chunk(list, 100) {
		w.check(c.takeRoom(id, items(batch...)))
	}
	if rows := len(c.rows(tableRoomWait)); rows != maxRoomWaiting {
		t.Fatalf("%d messages wait", rows)
	}
	a.say(id, "in between")
	w.settle()
	if got := texts(c.heard(id)); !slices.Contains(got, "in between") {
		t.Error("a flood of one keeps others out")
	}
	b.giveChain(id, c, dist)
	w.settle()
	var gaps []RoomGap
	c.view(func(tx store.Tx) (err error) {
		gaps, err = c.e.RoomGaps(tx, id, 0, 10)
		return err
	})
	if len(gaps) != 1 || gaps[0].Last-gaps[0].First != 49 {
		t.Fatalf("asks for %v", gaps)
	}
	w.check(c.takeRoom(id, items(list[maxRoomWaiting:]...)))
	w.pass(time.Minute)
	if got := len(c.heard(id)); got != 3+1+len(list) {
		t.Errorf("shows %d messages of %d", got, 4+len(list))
	}
	if rows := len(c.rows(tableRoomWait)); rows != 0 {
		t.Errorf("%d messages still wait", rows)
	}
}
