package backup

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Save writes a backup of m, read from the store just before, of the rooms, and of the
// conversations with contacts and in rooms if they are wanted.
func Save(ctx context.Context, w io.Writer, s Secret, now time.Time, m engine.Membership, kv store.KV, e *engine.Engine, history bool) error {
	out, err := Create(w, s, Head{Created: now, Member: m})
	if err != nil {
		return err
	}
	var rooms []*wire.RoomState
	err = kv.View(ctx, func(tx store.Tx) (err error) {
		rooms, err = e.RoomStates(tx, now)
		return err
	})
	if err != nil {
		return fmt.Errorf("read rooms: %w", err)
	}
	for _, r := range rooms {
		if err := out.room(ctx, kv, e, r); err != nil {
			return err
		}
	}
	if history {
		var with []protocol.AccountID
		for _, c := range m.Contacts {
			with = append(with, protocol.AccountID(c.GetAccount()))
		}
		for _, r := range rooms {
			with = append(with, engine.Conversation(protocol.RoomID(r.GetRoom())))
		}
		for _, a := range with {
			if err := out.conversation(ctx, kv, e, a); err != nil {
				return err
			}
		}
	}
	return out.Close()
}

// logBytes is how much of a log goes into one record.
const logBytes = 256 << 10

// room writes a room, and the log of one that is over: nobody else has that for us.
func (w *Writer) room(ctx context.Context, kv store.KV, e *engine.Engine, r *wire.RoomState) error {
	if err := w.Room(r); err != nil || !engine.IsOver(r) {
		return err
	}
	for from := uint64(0); ; {
		l := &wire.RoomLog{Room: r.GetRoom()}
		err := kv.View(ctx, func(tx store.Tx) (err error) {
			l.Entries, err = e.RoomLog(tx, protocol.RoomID(r.GetRoom()), from, logBytes)
			return err
		})
		if err != nil {
			return fmt.Errorf("read log of a room: %w", err)
		}
		if len(l.Entries) == 0 {
			return nil
		}
		if err := w.Log(l); err != nil {
			return err
		}
		from += uint64(len(l.Entries))
	}
}

// conversation writes what was said with somebody, or in a room. Each batch is read in a
// transaction of its own: what comes meanwhile comes above, and is left out.
func (w *Writer) conversation(ctx context.Context, kv store.KV, e *engine.Engine, with protocol.AccountID) error {
	for before := uint64(0); ; {
		var past *wire.Past
		err := kv.View(ctx, func(tx store.Tx) (err error) {
			past, before, err = e.ArchivePast(tx, with, before)
			return err
		})
		if err != nil {
			return fmt.Errorf("read history: %w", err)
		}
		if past == nil {
			return nil
		}
		if err := w.Past(past); err != nil {
			return err
		}
	}
}

// Fill puts rooms and conversations into the store of a new device of the account,
// which has its contacts. It may be repeated.
func (b *Backup) Fill(ctx context.Context, kv store.KV, e *engine.Engine, now time.Time) error {
	for record, err := range b.records() {
		if err != nil {
			return err
		}
		err = kv.Update(ctx, func(tx store.Tx) (err error) {
			switch m := record.(type) {
			case *wire.RoomState:
				_, err = e.TakeRoomState(tx, now, m)
			case *wire.RoomLog:
				_, err = e.TakeRoomLog(tx, now, m)
			case *wire.Past:
				_, err = e.TakePast(tx, now, m)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("restore rooms and history: %w", err)
		}
	}
	return nil
}
