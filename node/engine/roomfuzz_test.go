package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// FuzzRoom hands bytes to the engine of a member as they may come from another, or from
// the room's rendezvous: they are taken or refused, without an error of the store, and
// change nothing of who is in the room.
func FuzzRoom(f *testing.F) {
	w, id, _, b, c := trio(f)
	dist, list := b.flood(id, 2)
	b.giveChain(id, c, dist)
	keys := &wire.RoomKeys{Room: id[:], Distributions: [][]byte{dist}, StateKeys: [][]byte{make([]byte, 32)}}
	for what, seed := range [][]byte{
		mustMarshal(f, textOf("text")), mustMarshal(f, keys), list[1], w.home.rooms[id].log[1],
	} {
		f.Add(uint8(what), seed)
	}
	view := func() (v message.View) {
		s := c.room(id).State
		return message.View{Room: id, Epoch: s.Epoch(), Seq: s.Seq(), Head: s.Head()}
	}()
	sender := b.openSender(id)
	before := c.room(id).State
	f.Fuzz(func(t *testing.T, what uint8, data []byte) {
		w.t = t
		undo := errors.New("undo")
		err := c.kv.Update(context.Background(), func(tx store.Tx) error {
			switch what % 4 {
			case 0: // what a member says
				if len(data) > protocol.MaxText {
					return undo
				}
				_, sealed, err := sender.Seal(w.now, b.e.id.DSK, view, data)
				if err != nil {
					return err
				}
				if _, err := c.e.TakeRoom(tx, w.now, id, items(sealed)); err != nil {
					return err
				}
			case 1: // keys that it gives
				keys := &wire.RoomKeys{}
				if proto.Unmarshal(data, keys) != nil {
					return undo
				}
				if err := c.takeKeys(tx, b, keys); err != nil {
					return err
				}
			case 2: // a message of anybody
				if _, err := c.e.TakeRoom(tx, w.now, id, items(data)); err != nil {
					return err
				}
			case 3: // an entry
				_, err := c.e.TakeRoom(tx, w.now, id, RoomPage{Entries: [][]byte{data}})
				if err != nil && !errors.Is(err, ErrRoomLog) {
					return err
				}
			}
			if _, _, err := c.e.Tick(tx, w.now.Add(time.Hour)); err != nil {
				return err
			}
			r, err := c.e.Room(tx, w.now, id)
			if err == nil && r.State.Head() != before.Head() {
				t.Error("the log is another")
			}
			return errors.Join(err, undo)
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
	})
}

// takeKeys takes what another device gave of a room's keys.
func (n *node) takeKeys(tx store.Tx, from *node, keys *wire.RoomKeys) error {
	w, err := n.e.begin(tx, n.w.now)
	if err != nil {
		return err
	}
	d, err := w.device(from.device())
	if err != nil {
		return err
	}
	p, err := w.peer(d.account)
	if err != nil {
		return err
	}
	in := &incoming{from: from.device(), d: d, p: p}
	if code, err := w.mayGiveKeys(in, keys); code != protocol.OK || err != nil {
		return err
	}
	if err := w.receiveRoomKeys(in, keys); err != nil {
		return err
	}
	_, err = w.end()
	return err
}

// openSender is the node's own chain in a room.
func (n *node) openSender(id protocol.RoomID) (s chain.Sender) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		x, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return err
		}
		r, err := x.room(id)
		if err != nil {
			return err
		}
		own, err := x.senderOf(r)
		s = *own
		return err
	})
	return s
}

func mustMarshal(f *testing.F, m proto.Message) []byte {
	b, err := proto.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	return b
}
