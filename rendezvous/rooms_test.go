package rendezvous

import (
	"bytes"
	"sync"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// somebodysRoom is a room with one member, whose log has so many bytes.
func somebodysRoom(size int) *roomView {
	return &roomView{members: []protocol.AccountID{{1}}, size: size}
}

func testRoomID(n int) protocol.RoomID { return protocol.RoomID{byte(n), byte(n >> 8)} }

// Idle rooms are bounded by their logs, those used last stay, and a room in use is one.
func TestRoomsAreBounded(t *testing.T) {
	const rooms = 10
	r := newRooms(rooms * minIdleLog)
	use := func(n int) *liveRoom {
		l := r.hold(testRoomID(n))
		if l.view.Load() == nil {
			l.view.Store(somebodysRoom(1))
		}
		return l
	}
	kept := use(-1)
	for n := range 100 {
		mine := use(1000)
		r.release(use(n))
		r.release(mine)
	}
	if len(r.live) != rooms+1 || r.idle.Len() != rooms || r.size != rooms*minIdleLog {
		t.Errorf("%d rooms, %d idle, size %d", len(r.live), r.idle.Len(), r.size)
	}
	if r.live[testRoomID(1000)] == nil || r.live[testRoomID(0)] != nil {
		t.Error("not those used last are kept")
	}
	if use(-1) != kept {
		t.Error("a room in use is there twice")
	}

	large := use(2000)
	large.view.Store(somebodysRoom(r.max + 1))
	r.release(large)
	if r.live[testRoomID(2000)] != nil || r.size > r.max {
		t.Error("a log larger than all that may stay is kept")
	}
	empty := r.hold(testRoomID(4000))
	empty.view.Store(&roomView{size: 1})
	r.release(empty)
	if r.live[testRoomID(4000)] != nil {
		t.Error("a room that nobody is in is kept")
	}
	r.release(r.hold(testRoomID(3000))) // was not there
	if r.live[testRoomID(3000)] != nil {
		t.Error("a room that is not there is kept")
	}
}

// Whatever there is to tell at once fits frames, and all of it is told.
func TestHintsOfManyRooms(t *testing.T) {
	const rooms = 1000
	l := newLink(nil, store.Device{})
	for n := range protocol.MaxContacts {
		l.tellPresence(protocol.AccountID{byte(n), byte(n >> 8)}, true)
		l.tellChanged(protocol.AccountID{byte(n), byte(n >> 8)})
	}
	for n := range rooms {
		l.tellRoom(roomNews{testRoomID(n), 2, 9})
		l.tellRoom(roomNews{testRoomID(n), 1, 10}) // what was known and is not any more the newest
	}
	told := map[protocol.RoomID]bool{}
	for {
		hint, _ := l.next()
		if hint == nil {
			break
		}
		var b bytes.Buffer
		if err := wire.WriteMsg(&b, hint); err != nil {
			t.Fatal(err)
		}
		read := &wire.Hint{}
		if err := wire.ReadMsg(&b, read); err != nil {
			t.Fatal(err)
		}
		for _, r := range read.GetRooms() {
			if r.GetSeq() != 2 || r.GetCursor() != 10 {
				t.Fatalf("told %v", r)
			}
			told[protocol.RoomID(r.GetRoom())] = true
		}
	}
	if len(told) != rooms {
		t.Errorf("told of %d rooms", len(told))
	}
}

func TestRoomsHeldByMany(t *testing.T) {
	r := newRooms(2 * minIdleLog)
	var group sync.WaitGroup
	held := make([]int, 5) // guarded by the room's mu
	for range 8 {
		group.Go(func() {
			for n := range 1000 {
				l := r.hold(testRoomID(n % len(held)))
				l.mu.Lock()
				held[n%len(held)]++
				l.view.Store(somebodysRoom(1))
				l.mu.Unlock()
				r.release(l)
			}
		})
	}
	group.Wait()
	if len(r.live) != 2 || r.size != 2*minIdleLog {
		t.Errorf("%d rooms of size %d", len(r.live), r.size)
	}
	for n, got := range held {
		if got != 8*1000/len(held) {
			t.Errorf("room %d: %d", n, got)
		}
	}
}
