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

// Save writes a backup of m, read from the store just before, and of the
// conversations with its contacts if they are wanted.
func Save(ctx context.Context, w io.Writer, s Secret, now time.Time, m engine.Membership, kv store.KV, e *engine.Engine, history bool) error {
	out, err := Create(w, s, Head{Created: now, Member: m})
	if err != nil {
		return err
	}
	if history {
		for _, c := range m.Contacts {
			if err := out.conversation(ctx, kv, e, protocol.AccountID(c.GetAccount())); err != nil {
				return err
			}
		}
	}
	return out.Close()
}

// conversation writes what was said with somebody. Each batch is read in a
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

// FillHistory puts the conversations into the store of a new device of the
// account, which has its contacts. It may be repeated.
func (b *Backup) FillHistory(ctx context.Context, kv store.KV, e *engine.Engine, now time.Time) error {
	for past, err := range b.History() {
		if err != nil {
			return err
		}
		err = kv.Update(ctx, func(tx store.Tx) error {
			_, err := e.TakePast(tx, now, past)
			return err
		})
		if err != nil {
			return fmt.Errorf("restore history: %w", err)
		}
	}
	return nil
}
