package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/node/backup"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/store"
)

// preparePending returns the keys of a device on its way into an account: those
// of an earlier attempt, or new ones, which it stores. It returns ErrJoined, or
// ErrNotJoined, if the store has an identity and nothing is pending.
func preparePending(ctx context.Context, kv store.KV, deviceName string) (pending *engine.Pending, err error) {
	err = kv.View(ctx, func(tx store.Tx) (err error) {
		if pending, err = engine.GetPending(tx); err != nil || pending != nil {
			return err
		}
		e, err := engine.Load(tx)
		if err == nil {
			return joined(e.Identity())
		}
		if errors.Is(err, engine.ErrNoIdentity) {
			return nil
		}
		return err
	})
	if err != nil || pending != nil {
		return pending, err
	}
	newcomer, err := engine.NewNewcomer(time.Now(), deviceName)
	if err != nil {
		return nil, err
	}
	pending = &engine.Pending{Newcomer: newcomer}
	return pending, setPending(ctx, kv, pending)
}

func setPending(ctx context.Context, kv store.KV, p *engine.Pending) error {
	if err := kv.Update(ctx, func(tx store.Tx) error { return engine.SetPending(tx, p) }); err != nil {
		return fmt.Errorf("store the new device: %w", err)
	}
	return nil
}

// notEntering refuses a store where Enter has asked for a device and not ended.
func notEntering(tx store.Tx) error {
	p, err := engine.GetPending(tx)
	if err == nil && p != nil && len(p.Chain) > 0 {
		err = ErrEntering
	}
	return err
}

// joined says that a store has an identity, which may not be known to the
// rendezvous yet.
func joined(id *engine.Identity) error {
	if !id.Registered {
		return fmt.Errorf("%w: joining as %s was begun here", ErrNotJoined, id.Name)
	}
	return fmt.Errorf("%w, as %s", ErrJoined, id.Name)
}

// becomeMember makes a store that of a device which the account's chain
// certifies, with its contacts, and with the rooms and the history of b unless that is nil. It
// takes several transactions; cut off anywhere, it may be repeated.
func becomeMember(ctx context.Context, kv store.KV, newcomer *engine.Newcomer, m engine.Membership, b *backup.Backup) (e *engine.Engine, err error) {
	contacts := m.Contacts
	m.Contacts = nil
	err = kv.Update(ctx, func(tx store.Tx) (err error) {
		if err = engine.InitMember(tx, time.Now(), newcomer, m); err != nil && !errors.Is(err, engine.ErrExists) {
			return err
		}
		e, err = engine.Load(tx)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("store the account: %w", err)
	}
	for batch := range engine.ContactBatches(contacts) {
		err := kv.Update(ctx, func(tx store.Tx) error {
			_, err := e.TakeContacts(tx, time.Now(), batch)
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("store the contacts: %w", err)
		}
	}
	if b != nil {
		if err := b.Fill(ctx, kv, e, time.Now()); err != nil {
			return nil, err
		}
	}
	if err := kv.Update(ctx, engine.EndPending); err != nil {
		return nil, fmt.Errorf("note that this device is ready: %w", err)
	}
	return e, nil
}
