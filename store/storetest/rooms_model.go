package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// roomModel is one room as lists in memory.
type roomModel struct {
	log  []store.RoomEntry
	mail []heldMessage
	last uint64 // cursor
}

type heldMessage struct {
	cursor uint64
	store.NewRoomMessage
}

func (m *roomModel) put(n store.NewRoomMessage, q store.RoomQuotas) store.RoomPut {
	brought := 0
	for _, h := range m.mail {
		if h.Device == n.Device && h.Number == n.Number {
			if string(h.Message) == string(n.Message) {
				return store.RoomPut{Cursor: h.cursor}
			}
			return store.RoomPut{Code: protocol.BadRequest}
		}
		if h.By == n.By {
			brought++
		}
	}
	switch {
	case brought == q.AccountCount:
		return store.RoomPut{Code: protocol.SenderFull}
	case len(m.mail) == q.Count:
		return store.RoomPut{Code: protocol.RoomFull}
	}
	m.last++
	m.mail = append(m.mail, heldMessage{m.last, n})
	return store.RoomPut{Cursor: m.last}
}

func (m *roomModel) texts(after uint64) (s []string) {
	for _, h := range m.mail {
		if h.cursor > after {
			s = append(s, string(h.Message))
		}
	}
	return s
}

// testRoomModel appends, puts, expires and reads at random and compares with lists in
// memory.
func testRoomModel(t *testing.T, r store.Rendezvous) {
	q := store.RoomQuotas{Count: 12, AccountCount: 5}
	runs := 0
	rapid.Check(t, func(t *rapid.T) {
		runs++
		name := fmt.Sprint("model ", runs)
		room, m, now := roomID(name), roomModel{}, start
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				seq := uint64(max(0, len(m.log)+rapid.IntRange(-1, 1).Draw(t, "off")))
				e, err := r.AppendRoom(ctx, roomEntry(name, seq), store.RoomQuotas{})
				if fits := seq == uint64(len(m.log)); fits != (err == nil) {
					t.Fatalf("entry %d after %d: %v", seq, len(m.log), err)
				} else if fits {
					m.log = append(m.log, store.RoomEntry{Seq: seq, Cursor: m.last, Entry: roomEntry(name, seq).Entry})
					if fmt.Sprint(e) != fmt.Sprint(m.log[seq]) {
						t.Fatalf("appended %v, want %v", e, m.log[seq])
					}
				}
			case 1, 2:
				var messages []store.NewRoomMessage
				for range rapid.IntRange(1, 4).Draw(t, "messages") {
					number := rapid.Uint64Range(1, 20).Draw(t, "number")
					n := said(rapid.SampledFrom([]string{"bob", "carol"}).Draw(t, "sender"), number, fmt.Sprint(number, rapid.IntRange(0, 9).Draw(t, "text")/9))
					n.By = accountID(rapid.SampledFrom([]string{"bob", "carol", "dave"}).Draw(t, "by"))
					n.Expires = now.Add(5 * time.Hour)
					messages = append(messages, n)
				}
				got, err := r.PutRoom(ctx, room, messages, q)
				if len(m.log) == 0 {
					if protocol.CodeOf(err) != protocol.UnknownRoom {
						t.Fatalf("put without a room: %v", err)
					}
					continue
				}
				var want []store.RoomPut
				for _, n := range messages {
					want = append(want, m.put(n, q))
				}
				if err != nil || !slices.Equal(got, want) {
					t.Fatalf("put: %v, %v, want %v", got, err, want)
				}
			case 3:
				now = now.Add(time.Duration(rapid.IntRange(0, 180).Draw(t, "minutes")) * time.Minute)
				before := len(m.mail)
				m.mail = slices.DeleteFunc(m.mail, func(h heldMessage) bool { return !h.Expires.After(now) })
				if n, err := r.Sweep(ctx, now); err != nil || n < before-len(m.mail) { // other rooms are swept too
					t.Fatalf("sweep: %d, %v, want %d", n, err, before-len(m.mail))
				}
			}
			if len(m.log) == 0 {
				continue
			}
			log, err := r.RoomLog(ctx, room, 0, 100, 1<<20)
			if err != nil || fmt.Sprint(log) != fmt.Sprint(m.log) {
				t.Fatalf("log %v, %v, want %v", log, err, m.log)
			}
			after := rapid.Uint64Range(0, m.last).Draw(t, "after")
			mail, err := r.RoomMail(ctx, room, after, 100, 1<<20, now)
			if err != nil || !slices.Equal(roomTexts(mail), m.texts(after)) {
				t.Fatalf("messages after %d: %v, %v, want %v", after, roomTexts(mail), err, m.texts(after))
			}
			if state, err := r.Room(ctx, room); err != nil || state.Mail.Count != len(m.mail) || state.Cursor != m.last {
				t.Fatalf("room %+v, %v, want %d messages up to %d", state, err, len(m.mail), m.last)
			}
		}
	})
}
