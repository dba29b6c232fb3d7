package storetest

import (
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Rooms is the workload of a rendezvous that is killed while rooms grow: what was
// answered is there, the log is whole, and the counters agree with the messages.
func Rooms(over func(store.KV) (store.Rendezvous, error)) Crash {
	return Crash{
		Name: "rooms",
		Work: func(kv store.KV, ack func(string, ...any)) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			errs := make(chan error)
			go func() { errs <- growRoom(r, ack) }()
			for w := range 3 {
				go func() { errs <- talk(r, fmt.Sprint("writer", w), ack) }()
			}
			return <-errs
		},
		Check: func(kv store.KV, acks []string) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			return checkRoom(r, acks)
		},
	}
}

func growRoom(r store.Rendezvous, ack func(string, ...any)) error {
	next := uint64(0)
	if room, err := r.Room(ctx, roomID("climbing")); err == nil {
		next = room.Seq + 1
	}
	for ; ; next++ {
		if _, err := r.AppendRoom(ctx, roomEntry("climbing", next), store.RoomQuotas{}); err != nil {
			return err
		}
		ack("entry %d", next)
	}
}

func talk(r store.Rendezvous, who string, ack func(string, ...any)) error {
	for n := uint64(1); ; n++ {
		for _, again := range []bool{false, true} { // as after a lost answer
			results, err := r.PutRoom(ctx, roomID("climbing"), []store.NewRoomMessage{said(who, n, fmt.Sprint(who, " ", n))}, store.RoomQuotas{})
			switch {
			case protocol.CodeOf(err) == protocol.UnknownRoom:
				continue // not made yet
			case err != nil || results[0].Code != protocol.OK:
				return fmt.Errorf("put: %v, %w", results, err)
			case again:
				ack("said %d %s %d", results[0].Cursor, who, n)
			}
		}
	}
}

func checkRoom(r store.Rendezvous, acks []string) error {
	room, err := r.Room(ctx, roomID("climbing"))
	if err != nil {
		return err
	}
	log, err1 := r.RoomLog(ctx, room.ID, 0, 1<<30, 1<<40)
	mail, err2 := r.RoomMail(ctx, room.ID, 0, 1<<30, 1<<40, start)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	bytes, there := 0, map[string]bool{}
	for i, e := range log {
		if e.Seq != uint64(i) {
			return fmt.Errorf("entry %d in place %d", e.Seq, i)
		}
		bytes += len(e.Entry)
		there[fmt.Sprint("entry ", i)] = true
	}
	if len(log) == 0 || room.Seq != uint64(len(log)-1) || room.LogBytes != bytes {
		return fmt.Errorf("%+v for %d entries of %d bytes", room, len(log), bytes)
	}
	size, once := 0, map[string]bool{}
	for _, m := range mail {
		if once[string(m.Message)] {
			return fmt.Errorf("%q is there twice", m.Message)
		}
		once[string(m.Message)] = true
		size += len(m.Message)
		there[fmt.Sprintf("said %d %s", m.Cursor, m.Message)] = true
	}
	if room.Mail != (store.Usage{Count: len(mail), Bytes: size}) {
		return fmt.Errorf("usage %+v for %d messages of %d bytes", room.Mail, len(mail), size)
	}
	for _, line := range acks {
		if !there[line] {
			return fmt.Errorf("%q was answered and is not there", line)
		}
	}
	return nil
}
