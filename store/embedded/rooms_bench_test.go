package embedded_test

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// benchRoom is a store with a room in which members accounts are.
func benchRoom(b *testing.B, members int) (store.Rendezvous, protocol.RoomID) {
	r, _ := benchStore(b, 1)
	e := store.NewRoomEntry{Room: sha256.Sum256([]byte("room")), Hash: sha256.Sum256([]byte("room")), Entry: make([]byte, 700), Now: start}
	for i := range members {
		e.Came = append(e.Came, sha256.Sum256(fmt.Append(nil, i)))
	}
	if _, err := r.AppendRoom(b.Context(), e, store.RoomQuotas{}); err != nil {
		b.Fatal(err)
	}
	return r, e.Room
}

// roomMessages are n messages of 1 KiB of one device, from number first on.
func roomMessages(device uint64, first uint64, n int) (messages []store.NewRoomMessage) {
	for i := range n {
		m := store.NewRoomMessage{Number: first + uint64(i), Message: make([]byte, 1<<10), Expires: start.Add(30 * 24 * time.Hour)}
		binary.BigEndian.PutUint64(m.Device[:], device)
		m.By = protocol.AccountID(m.Device)
		rand.Read(m.Message)
		messages = append(messages, m)
	}
	return messages
}

// BenchmarkRoomPut is the durable put of messages of 1 KiB by 64 members of one room,
// one or many to a call.
func BenchmarkRoomPut(b *testing.B) {
	for _, perCall := range []int{1, 32} {
		b.Run(fmt.Sprintf("%d per call", perCall), func(b *testing.B) {
			r, room := benchRoom(b, 1)
			var device atomic.Uint64
			before := cpuTime()
			b.SetParallelism(32) // times 2 CPUs
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				me, number := device.Add(1), uint64(1)
				for ; pb.Next(); number += uint64(perCall) {
					results, err := r.PutRoom(b.Context(), room, roomMessages(me, number, perCall), store.RoomQuotas{Count: 1e9, AccountCount: 1e9})
					if err != nil || results[perCall-1].Code != protocol.OK {
						b.Error(results, err)
						return
					}
				}
			})
			report(b, float64(b.N*perCall), before)
		})
	}
}

// BenchmarkRoomRead is what a member that was away reads: 10,000 messages by cursor,
// and by their numbers.
func BenchmarkRoomRead(b *testing.B) {
	const missed, page = 10_000, 250
	r, room := benchRoom(b, 1)
	for i := 0; i < missed; i += page {
		if _, err := r.PutRoom(b.Context(), room, roomMessages(1, uint64(i+1), page), store.RoomQuotas{}); err != nil {
			b.Fatal(err)
		}
	}
	device := roomMessages(1, 1, 1)[0].Device
	read := map[string]func(after uint64) ([]store.RoomMessage, error){
		"ByCursor": func(after uint64) ([]store.RoomMessage, error) {
			return r.RoomMail(b.Context(), room, after, page, 1<<20, start)
		},
		"ByNumber": func(after uint64) ([]store.RoomMessage, error) {
			ranges := []store.RoomRange{{Device: device, First: after + 1, Last: after + page}}
			return r.FillRoom(b.Context(), room, ranges, 0, page, 1<<20, start)
		},
	}
	for name, next := range read {
		b.Run(name, func(b *testing.B) {
			before := cpuTime()
			for b.Loop() {
				got := 0
				for got < missed {
					mail, err := next(uint64(got))
					if err != nil || len(mail) == 0 {
						b.Fatal(len(mail), err)
					}
					got += len(mail)
				}
			}
			report(b, float64(b.N*missed), before)
		})
	}
}

// BenchmarkRoomAppend is the durable append of entries to one log, which are one after
// the other.
func BenchmarkRoomAppend(b *testing.B) {
	r, room := benchRoom(b, 1000)
	e := store.NewRoomEntry{Room: room, Hash: room, Entry: make([]byte, 300), Now: start}
	before := cpuTime()
	for b.Loop() {
		e.Seq, e.Prev = e.Seq+1, e.Hash
		e.Hash = sha256.Sum256(e.Hash[:])
		if _, err := r.AppendRoom(b.Context(), e, store.RoomQuotas{}); err != nil {
			b.Fatal(err)
		}
	}
	report(b, float64(b.N), before)
}
