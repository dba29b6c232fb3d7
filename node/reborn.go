package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// ErrReborn ends Run when this folder was a copy of another, or an older state
// of itself, and has become a device of its own: open it again.
var ErrReborn = errors.New("this folder is a new device now")

// Two stores with one device's keys would use the same keys twice. The
// rendezvous turns away the one that is behind, and that one becomes a device
// of its own, with new keys; history and contacts stay. Each step is stored
// before the next, so a crash costs a repetition.

// ErrRebornToday: the rendezvous took this folder for a copy twice within
// rebornEvery. It is not believed the second time, or it could fill the account
// with devices; nothing is sent meanwhile.
var ErrRebornToday = errors.New("this folder became a new device less than a day ago, and is taken for a copy again")

// ErrGuestCopied: a guest's folder was copied or set back, and cannot become another
// device: a guest has one.
var ErrGuestCopied = errors.New("this folder is a copy, or an older state, of a guest's that is in use: go on with the other one, or begin as a new guest in another folder")

const rebornEvery = 24 * time.Hour

// becomeNewDevice does all of it and returns ErrReborn. The connection to the
// rendezvous stands: calls are answered, only the link was refused.
func (n *Node) becomeNewDevice(ctx context.Context, why error) error {
	if n.isGuest() { // its account has one device, for ever
		return errors.Join(ErrGuestCopied, n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return engine.Hint{}, n.eng.TurnedAway(tx) }))
	}
	if !n.eng.Swapping() { // else the rendezvous took the new device before, and swapping was broken off
		n.log.Warn("this folder is a copy, or an older state, of a device that is in use: becoming a new device", "why", why)
		if err := n.publishReborn(ctx); err != nil {
			return fmt.Errorf("become a new device: %w", err)
		}
	}
	if err := n.swapDevice(ctx); err != nil {
		return fmt.Errorf("become a new device: %w", err)
	}
	return ErrReborn
}

// publishReborn stops this device, plans the new one and gets it into the chain.
func (n *Node) publishReborn(ctx context.Context) error {
	if err := n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return engine.Hint{}, n.eng.TurnedAway(tx) }); err != nil {
		return err
	}
	if err := n.fetchOwnChain(ctx); err != nil {
		return err
	}
	chain, host, err := n.planReborn(ctx)
	if err != nil {
		return err
	}
	return publishChain(ctx, n.log, host, n.self.Home, chain)
}

// mayBeReborn allows one rebirth a day.
func (n *Node) mayBeReborn(tx store.Tx) error {
	last, err := timeIn(tx, rebornRow)
	if err != nil {
		return fmt.Errorf("last rebirth: %w", err)
	}
	if age := n.now().Sub(last); age >= 0 && age < rebornEvery {
		return ErrRebornToday
	}
	return nil
}

// rebornRow holds when this folder last became another device.
var rebornRow = store.Key(rowPrefix, "reborn")

// planReborn makes the new device's keys, unless that was done before, and the
// chain that certifies it.
func (n *Node) planReborn(ctx context.Context) (chain []byte, host key.HostPrivate, err error) {
	pending := func(tx store.Tx) (planned bool, err error) {
		chain, host, planned, err = engine.PendingReborn(tx)
		return planned, err
	}
	planned, err := read(ctx, n.kv, pending)
	if err != nil {
		return nil, host, err
	}
	var newcomer *engine.Newcomer
	if !planned {
		if err := n.readOldMail(ctx); err != nil {
			n.log.Warn("mail of the old device was not read", "err", err)
		}
		err := n.kv.View(ctx, func(tx store.Tx) error { return errors.Join(n.mayBeReborn(tx), n.eng.MayCertify(tx)) })
		if err != nil { // before keys are made, which takes long
			return nil, host, err
		}
		if newcomer, err = engine.NewNewcomer(n.now(), n.self.DeviceName); err != nil {
			return nil, host, err
		}
	}
	err = n.kv.Update(ctx, func(tx store.Tx) error {
		if _, err := n.eng.PlanReborn(tx, n.now(), newcomer); err != nil {
			return err
		}
		if !planned {
			if err := setTime(tx, rebornRow, n.now()); err != nil {
				return err
			}
		}
		_, err := pending(tx)
		return err
	})
	return chain, host, err
}

// swapDevice puts the planned device in the place of this one.
func (n *Node) swapDevice(ctx context.Context) error {
	for more := true; more; {
		err := n.kv.Update(ctx, func(tx store.Tx) (err error) {
			more, err = n.eng.Reborn(tx, n.now())
			return err
		})
		if err != nil {
			return fmt.Errorf("put the new device in force: %w", err)
		}
	}
	return nil
}

// fetchOwnChain looks our own account up, before there is a link.
func (n *Node) fetchOwnChain(ctx context.Context) error {
	return untilSettled(func() error {
		asked := n.now()
		found, err := n.askOwn(ctx)
		if err != nil {
			return fmt.Errorf("fetch our own chain: %w", err)
		}
		return n.lookups.learn(ctx, n.self.Account, asked, found)
	})
}

// askOwn asks for our own account, with or without a link.
func (n *Node) askOwn(ctx context.Context) (*wire.Found, error) {
	return n.lookups.askBy(ctx, n.home.ask, &wire.Lookup{Account: n.self.Account[:]})
}

// retire waits for the end of this device, and then destroys its keys.
func (n *Node) retire(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.ended:
	}
	if n.burned.Load() != nil { // there is nothing left to destroy, and the caller of Burn waits for its answer
		<-ctx.Done()
		return nil
	}
	n.log.Warn("this device was revoked: its keys are destroyed")
	return n.destroyKeys(ctx)
}

// destroyKeys destroys the keys of a device that was revoked, also in what the
// disk still holds of the store, and returns ErrRevoked. It may be repeated.
func (n *Node) destroyKeys(ctx context.Context) error {
	for more := true; more; {
		err := n.kv.Update(ctx, func(tx store.Tx) (err error) {
			more, err = engine.Retire(tx, n.now())
			return err
		})
		if err != nil {
			return fmt.Errorf("destroy the keys of a revoked device: %w", err)
		}
	}
	if _, err := n.kv.Rotate(ctx); err != nil {
		return errors.Join(engine.ErrRevoked, fmt.Errorf("make what is deleted unreadable: %w", err))
	}
	return engine.ErrRevoked
}

// readOldMail takes in what waits for the device that this folder was, and
// acknowledges nothing: it is the mail of the one who goes on being it.
func (n *Node) readOldMail(ctx context.Context) error {
	for after, more := uint64(0), true; more; {
		mail, err := n.home.ask(ctx, &wire.Request{Call: &wire.Request_Fetch{Fetch: &wire.Fetch{After: after, Max: drainFetch}}})
		if err != nil {
			return err
		}
		items := mail.GetMail().GetItems()
		envs := make([][]byte, len(items))
		for i, item := range items {
			envs[i], after = item.GetEnvelope(), max(after, item.GetCursor())
		}
		if _, err := n.receive(ctx, nil, envs, engine.Mailbox); err != nil {
			return err
		}
		more = mail.GetMail().GetMore() && len(items) > 0
	}
	return nil
}
