package storetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/store"
)

func roomID(name string) protocol.RoomID { return hash("room %s", name) }

func roomHash(name string, seq uint64) [32]byte {
	if seq == 0 {
		return roomID(name)
	}
	return hash("entry %d of %s", seq, name)
}

// roomEntry is an entry of alice's that follows those before it.
func roomEntry(name string, seq uint64) store.NewRoomEntry {
	e := store.NewRoomEntry{
		Room: roomID(name), Seq: seq, Hash: roomHash(name, seq), Author: accountID("alice"),
		Entry: fmt.Appendf(nil, "entry %d of %s", seq, name), Now: start,
	}
	if seq == 0 {
		e.Came = []protocol.AccountID{e.Author}
	} else {
		e.Prev = roomHash(name, seq-1)
	}
	return e
}

func appendRoom(t testing.TB, r store.Rendezvous, entries ...store.NewRoomEntry) {
	t.Helper()
	for _, e := range entries {
		_, err := r.AppendRoom(ctx, e, store.RoomQuotas{})
		ok(t, err)
	}
}

func testRoomLog(t *testing.T, r store.Rendezvous) {
	noted := func(want uint64) {
		t.Helper()
		head, err := r.AuditHead(ctx)
		ok(t, err)
		equal(t, "entries of the journal", head.N, want)
	}
	appendRoom(t, r, roomEntry("climbing", 0), roomEntry("climbing", 1))
	noted(1)
	notes, err := r.AuditEntries(ctx, 0, 10)
	ok(t, err)
	equal(t, "the journal", notes[0].Event, audit.Event{
		TimeMs: start.UnixMilli(), Kind: audit.Room, What: audit.Made, Account: accountID("alice"), Name: roomID("climbing").String(),
	})

	wrong := roomEntry("climbing", 2)
	wrong.Prev = hash("another entry")
	for name, e := range map[string]store.NewRoomEntry{
		"the first again": roomEntry("climbing", 0), "the newest again": roomEntry("climbing", 1),
		"one too far": roomEntry("climbing", 3), "another branch": wrong,
	} {
		_, err := r.AppendRoom(ctx, e, store.RoomQuotas{})
		if protocol.CodeOf(err) != protocol.RoomMoved {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = r.AppendRoom(ctx, roomEntry("no room", 1), store.RoomQuotas{})
	refused(t, err, protocol.UnknownRoom)
	_, err = r.Room(ctx, roomID("no room"))
	refused(t, err, protocol.UnknownRoom)
	noted(1)

	room, err := r.Room(ctx, roomID("climbing"))
	ok(t, err)
	equal(t, "room", room, store.Room{
		ID: roomID("climbing"), Seq: 1, Head: roomHash("climbing", 1), LogBytes: len("entry 0 of climbing") * 2,
	})
	for _, q := range []store.RoomQuotas{{LogBytes: room.LogBytes + 10}, {LogEntries: 2}} {
		_, err = r.AppendRoom(ctx, roomEntry("climbing", 2), q)
		refused(t, err, protocol.RoomFull)
	}
	_, err = r.AppendRoom(ctx, roomEntry("climbing", 2), store.RoomQuotas{LogEntries: 3})
	ok(t, err)

	for seq := uint64(3); seq < 10; seq++ {
		appendRoom(t, r, roomEntry("climbing", seq))
	}
	appendRoom(t, r, roomEntry("other", 0))
	for _, c := range []struct {
		from        uint64
		max, bytes  int
		first, want int
	}{{0, 100, 1 << 20, 0, 10}, {7, 100, 1 << 20, 7, 3}, {0, 4, 1 << 20, 0, 4}, {2, 100, 60, 2, 3}, {2, 100, 1, 2, 1}, {10, 100, 1, 0, 0}} {
		log, err := r.RoomLog(ctx, roomID("climbing"), c.from, c.max, c.bytes)
		ok(t, err)
		equal(t, fmt.Sprintf("entries with %+v", c), len(log), c.want)
		for i, e := range log {
			equal(t, "entry", e, store.RoomEntry{Seq: uint64(c.first + i), Entry: fmt.Appendf(nil, "entry %d of climbing", c.first+i)})
		}
	}
}

func testRoomMembers(t *testing.T, r store.Rendezvous) {
	alice, bob, carol := accountID("alice"), accountID("bob"), accountID("carol")
	check := func(account protocol.AccountID, want ...string) {
		t.Helper()
		rooms, err := r.RoomsOf(ctx, account)
		ok(t, err)
		set := map[protocol.RoomID]bool{}
		for _, room := range rooms {
			set[room.ID] = true
		}
		equal(t, "rooms", len(rooms), len(want))
		for _, name := range want {
			equal(t, "in "+name, set[roomID(name)], true)
		}
	}
	share := func(a, b protocol.AccountID, want bool) {
		t.Helper()
		got, err := r.ShareRoom(ctx, a, b, false)
		ok(t, err)
		equal(t, "share a room", got, want)
	}
	joins := func(name string, seq uint64, who protocol.AccountID) store.NewRoomEntry {
		e := roomEntry(name, seq)
		e.Came = []protocol.AccountID{who}
		return e
	}
	appendRoom(t, r, roomEntry("a", 0), roomEntry("b", 0), joins("a", 1, bob), joins("b", 1, carol))
	check(alice, "a", "b")
	check(bob, "a")
	check(carol, "b")
	share(alice, bob, true)
	share(carol, alice, true)
	share(bob, carol, false)
	share(hash("nobody"), alice, false)

	out := roomEntry("a", 2)
	out.Went = []protocol.AccountID{bob}
	appendRoom(t, r, out)
	check(bob)
	share(bob, alice, false)

	made := store.RoomQuotas{Made: 2}
	_, err := r.AppendRoom(ctx, roomEntry("c", 0), made)
	refused(t, err, protocol.TooLarge)
	_, err = r.AppendRoom(ctx, joins("b", 2, bob), made)
	ok(t, err)
	_, err = r.AppendRoom(ctx, joins("a", 3, bob), store.RoomQuotas{Joined: 1})
	refused(t, err, protocol.TooLarge)
	check(bob, "b")
	check(alice, "a", "b")
	_, err = r.AppendRoom(ctx, joins("a", 3, bob), store.RoomQuotas{Joined: 2})
	ok(t, err)

	// A room counts for who made it until the last has left.
	for seq, who := range []protocol.AccountID{alice, bob} {
		_, err = r.AppendRoom(ctx, roomEntry("c", 0), made)
		refused(t, err, protocol.TooLarge)
		left := roomEntry("a", uint64(4+seq))
		left.Went = []protocol.AccountID{who}
		appendRoom(t, r, left)
	}
	_, err = r.AppendRoom(ctx, roomEntry("c", 0), made)
	ok(t, err)
	check(alice, "b", "c")
}

// testRoomLeft: who left is remembered for a while, as is a room that nobody is in; then
// both are forgotten, with all that belongs to the room.
func testRoomLeft(t *testing.T, r store.Rendezvous) {
	alice, bob, carol := accountID("alice"), accountID("bob"), accountID("carol")
	share := func(a, b protocol.AccountID, want bool) {
		t.Helper()
		for _, pair := range [][2]protocol.AccountID{{a, b}, {b, a}} {
			got, err := r.ShareRoom(ctx, pair[0], pair[1], true)
			ok(t, err)
			equal(t, "share a room", got, want)
		}
	}
	entry := func(seq uint64, came, left, removed []protocol.AccountID) {
		t.Helper()
		e := roomEntry("climbing", seq)
		e.Came, e.Went, e.Left = came, append(left, removed...), left
		appendRoom(t, r, e)
	}
	one := func(a protocol.AccountID) []protocol.AccountID { return []protocol.AccountID{a} }
	appendRoom(t, r, roomEntry("climbing", 0), roomEntry("other", 0))
	entry(1, []protocol.AccountID{bob, carol}, nil, nil)
	entry(2, nil, one(bob), one(carol))
	share(alice, bob, true)
	share(alice, carol, false)
	share(bob, carol, false)
	now, err := r.ShareRoom(ctx, alice, bob, false)
	ok(t, err)
	equal(t, "share a room now", now, false)
	rooms, err := r.RoomsOf(ctx, bob)
	ok(t, err)
	equal(t, "rooms of who left", len(rooms), 0)

	entry(3, one(bob), nil, nil) // and is removed when he came back
	entry(4, nil, nil, one(bob))
	share(alice, bob, false)
	entry(5, one(bob), nil, nil)
	entry(6, nil, one(bob), nil)
	for i := range uint64(500) { // more than one step of a sweep
		m := said("bob", i+1, "text")
		m.Expires = start.Add(30 * 24 * time.Hour)
		putRoom(t, r, store.RoomQuotas{}, m)
	}
	appendRoom(t, r, roomEntry("other", 1))
	entry(7, nil, one(alice), nil)
	share(alice, bob, true)
	_, err = r.Sweep(ctx, start.Add(store.RoomMemory-time.Minute))
	ok(t, err)
	share(alice, bob, true)
	room, err := r.Room(ctx, roomID("climbing"))
	ok(t, err)
	equal(t, "log", room.Seq, uint64(7))

	_, err = r.Sweep(ctx, start.Add(store.RoomMemory+time.Hour))
	ok(t, err)
	share(alice, bob, false)
	_, err = r.Room(ctx, roomID("climbing"))
	refused(t, err, protocol.UnknownRoom)
	log, err := r.RoomLog(ctx, roomID("climbing"), 0, 10, 1000)
	ok(t, err)
	equal(t, "entries", len(log), 0)
	u, err := r.RoomUsage(ctx, roomID("climbing"), bob)
	ok(t, err)
	equal(t, "usage", u, store.Usage{})
	other, err := r.Room(ctx, roomID("other"))
	ok(t, err)
	equal(t, "another room", other.Seq, uint64(1))
	equal(t, "nothing is left", func() int { n, err := r.Sweep(ctx, start.Add(2*store.RoomMemory)); ok(t, err); return n }(), 0)
}

// testRoomRace: of entries that race for one place one is appended.
func testRoomRace(t *testing.T, r store.Rendezvous) {
	appendRoom(t, r, roomEntry("race", 0))
	const rounds, racers = 20, 8
	head := roomID("race")
	for seq := uint64(1); seq <= rounds; seq++ {
		var won []int
		var mu sync.Mutex
		var group sync.WaitGroup
		for i := range racers {
			group.Go(func() {
				e := roomEntry("race", seq)
				e.Prev, e.Hash = head, hash("entry %d by %d", seq, i)
				_, err := r.AppendRoom(ctx, e, store.RoomQuotas{})
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won = append(won, i)
				} else if protocol.CodeOf(err) != protocol.RoomMoved {
					t.Error(err)
				}
			})
		}
		group.Wait()
		if len(won) != 1 {
			t.Fatalf("%v won", won)
		}
		head = hash("entry %d by %d", seq, won[0])
	}
	room, err := r.Room(ctx, roomID("race"))
	ok(t, err)
	equal(t, "newest", room.Seq, uint64(rounds))
	equal(t, "head", room.Head, head)
}

// said is message number n of a device of somebody's, brought by himself.
func said(who string, number uint64, text string) store.NewRoomMessage {
	return store.NewRoomMessage{
		Device: deviceID(who, 0), Number: number, By: accountID(who), Message: []byte(text), Expires: start.Add(30 * 24 * time.Hour),
	}
}

func putRoom(t testing.TB, r store.Rendezvous, q store.RoomQuotas, messages ...store.NewRoomMessage) []store.RoomPut {
	t.Helper()
	results, err := r.PutRoom(ctx, roomID("climbing"), messages, q)
	ok(t, err)
	return results
}

func roomTexts(mail []store.RoomMessage) (s []string) {
	for _, m := range mail {
		s = append(s, string(m.Message))
	}
	return s
}

func readRoom(t testing.TB, r store.Rendezvous, after uint64, now time.Time) []string {
	t.Helper()
	mail, err := r.RoomMail(ctx, roomID("climbing"), after, 1000, 1<<20, now)
	ok(t, err)
	return roomTexts(mail)
}

func testRoomMail(t *testing.T, r store.Rendezvous) {
	_, err := r.PutRoom(ctx, roomID("climbing"), []store.NewRoomMessage{said("bob", 1, "hi")}, store.RoomQuotas{})
	refused(t, err, protocol.UnknownRoom)
	appendRoom(t, r, roomEntry("climbing", 0), roomEntry("other", 0))
	equal(t, "empty", len(readRoom(t, r, 0, start)), 0)

	first := putRoom(t, r, store.RoomQuotas{}, said("bob", 1, "b1"), said("carol", 1, "c1"), said("bob", 1, "b1"))
	equal(t, "cursors", first, []store.RoomPut{{Cursor: 1}, {Cursor: 2}, {Cursor: 1}})
	again := said("bob", 1, "b1")
	again.By = accountID("carol")
	equal(t, "the same by another", putRoom(t, r, store.RoomQuotas{}, again), []store.RoomPut{{Cursor: 1}})
	second := putRoom(t, r, store.RoomQuotas{}, said("bob", 1, "another"), said("bob", 3, "b3"))
	equal(t, "a number twice", second, []store.RoomPut{{Code: protocol.BadRequest}, {Cursor: 3}})

	appended, err := r.AppendRoom(ctx, roomEntry("climbing", 1), store.RoomQuotas{})
	ok(t, err)
	equal(t, "cursor of the entry", appended.Cursor, uint64(3))
	log, err := r.RoomLog(ctx, roomID("climbing"), 0, 10, 1<<20)
	ok(t, err)
	equal(t, "cursors of the log", []uint64{log[0].Cursor, log[1].Cursor}, []uint64{0, 3})
	room, err := r.Room(ctx, roomID("climbing"))
	ok(t, err)
	equal(t, "cursor of the room", room.Cursor, uint64(3))
	equal(t, "usage of the room", room.Mail, store.Usage{Count: 3, Bytes: 6})

	putRoom(t, r, store.RoomQuotas{}, said("bob", 2, "b2"))
	equal(t, "all", readRoom(t, r, 0, start), []string{"b1", "c1", "b3", "b2"})
	equal(t, "after the second", readRoom(t, r, 2, start), []string{"b3", "b2"})
	equal(t, "after the last", len(readRoom(t, r, 4, start)), 0)
	other, err := r.RoomMail(ctx, roomID("other"), 0, 10, 1<<20, start)
	ok(t, err)
	equal(t, "the other room", len(other), 0)

	bob, carol := deviceID("bob", 0), deviceID("carol", 0)
	for _, c := range []struct {
		ranges     []store.RoomRange
		after      uint64
		max, bytes int
		want       []string
	}{
		{[]store.RoomRange{{Device: bob, First: 1, Last: 3}}, 0, 10, 100, []string{"b1", "b2", "b3"}},
		{[]store.RoomRange{{Device: bob, First: 2, Last: 2}, {Device: carol, First: 0, Last: 1 << 62}}, 0, 10, 100, []string{"b2", "c1"}},
		{[]store.RoomRange{{Device: bob, First: 1, Last: 9}}, 1, 10, 100, []string{"b2", "b3"}},
		{[]store.RoomRange{{Device: bob, First: 1, Last: 9}}, 0, 2, 100, []string{"b1", "b2"}},
		{[]store.RoomRange{{Device: bob, First: 1, Last: 9}}, 0, 9, 5, []string{"b1", "b2"}},
		{[]store.RoomRange{{Device: bob, First: 4, Last: 9}, {Device: bob, First: 3, Last: 1}, {Device: deviceID("dave", 0), Last: 9}}, 0, 9, 100, nil},
	} {
		mail, err := r.FillRoom(ctx, roomID("climbing"), c.ranges, c.after, c.max, c.bytes, start)
		ok(t, err)
		equal(t, fmt.Sprintf("filled with %+v", c), roomTexts(mail), c.want)
	}
	mail, err := r.RoomMail(ctx, roomID("climbing"), 0, 2, 100, start)
	ok(t, err)
	equal(t, "two", roomTexts(mail), []string{"b1", "c1"})
	mail, err = r.RoomMail(ctx, roomID("climbing"), 0, 10, 1, start)
	ok(t, err)
	equal(t, "at least one", roomTexts(mail), []string{"b1"})
}

func testRoomQuotas(t *testing.T, r store.Rendezvous) {
	appendRoom(t, r, roomEntry("climbing", 0))
	number := uint64(0)
	put := func(q store.RoomQuotas, who string, size int) protocol.Code {
		number++
		return putRoom(t, r, q, said(who, number, fmt.Sprintf("%0*d", size, number)))[0].Code
	}
	all, each := store.RoomQuotas{Count: 4, Bytes: 400}, store.RoomQuotas{AccountCount: 2, AccountBytes: 200}
	for i, c := range []struct {
		q    store.RoomQuotas
		who  string
		size int
		want protocol.Code
	}{
		{each, "bob", 201, protocol.SenderFull},
		{each, "bob", 100, protocol.OK},
		{each, "bob", 101, protocol.SenderFull},
		{each, "bob", 100, protocol.OK},
		{each, "bob", 1, protocol.SenderFull},
		{each, "carol", 100, protocol.OK}, // what bob used up is his
		{all, "dave", 101, protocol.RoomFull},
		{all, "dave", 100, protocol.OK},
		{all, "dave", 1, protocol.RoomFull},
	} {
		equal(t, fmt.Sprintf("message %d, of %s", i, c.who), put(c.q, c.who, c.size), c.want)
	}
	u, err := r.RoomUsage(ctx, roomID("climbing"), accountID("bob"))
	ok(t, err)
	equal(t, "bob's usage", u, store.Usage{Count: 2, Bytes: 200})
}

func testRoomExpiry(t *testing.T, r store.Rendezvous) {
	appendRoom(t, r, roomEntry("climbing", 0))
	for i := range uint64(500) { // more than one step of a sweep
		m := said("bob", i+1, fmt.Sprintf("%03d", i))
		if m.Expires = start.Add(time.Hour); i >= 497 {
			m.Expires = start.Add(2 * time.Hour)
		}
		putRoom(t, r, store.RoomQuotas{}, m)
	}
	late, left := start.Add(time.Hour), []string{"497", "498", "499"}
	equal(t, "expired messages are not read", readRoom(t, r, 0, late), left)
	filled, err := r.FillRoom(ctx, roomID("climbing"), []store.RoomRange{{Device: deviceID("bob", 0), Last: 1000}}, 0, 10, 1000, late)
	ok(t, err)
	equal(t, "nor filled", roomTexts(filled), left)
	for _, c := range []struct {
		at   time.Time
		want int
	}{{late.Add(-time.Second), 0}, {late, 497}, {late.Add(time.Minute), 0}} {
		n, err := r.Sweep(ctx, c.at)
		ok(t, err)
		equal(t, "swept", n, c.want)
	}
	equal(t, "left", readRoom(t, r, 0, start), left)
	equal(t, "after a cursor that is gone", readRoom(t, r, 100, start), left)
	u, err := r.RoomUsage(ctx, roomID("climbing"), accountID("bob"))
	ok(t, err)
	equal(t, "usage", u, store.Usage{Count: 3, Bytes: 9})
	_, err = r.Sweep(ctx, start.Add(2*time.Hour))
	ok(t, err)
	room, err := r.Room(ctx, roomID("climbing"))
	ok(t, err)
	equal(t, "room", room.Mail, store.Usage{})
	equal(t, "cursor", room.Cursor, uint64(500))
	equal(t, "it goes on", putRoom(t, r, store.RoomQuotas{}, said("bob", 1, "again")), []store.RoomPut{{Cursor: 501}})
	equal(t, "and is read", readRoom(t, r, 499, start), []string{"again"})
}
