package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
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

// turnedAway tells whether a refusal of the link means that this store is a
// copy or an older state.
func turnedAway(err error) bool {
	code := protocol.CodeOf(err)
	return code == protocol.DeviceCloned || code == protocol.StoreRolledBack
}

// becomeNewDevice does all of it. The connection to the rendezvous stands: calls
// are answered, only the link was refused.
func (n *Node) becomeNewDevice(ctx context.Context, why error) error {
	n.log.Warn("this folder is a copy, or an older state, of a device that is in use: becoming a new device", "why", why)
	if err := n.readOldMail(ctx); err != nil {
		n.log.Warn("mail of the old device was not read", "err", err)
	}
	if err := n.planReborn(ctx); err != nil {
		return fmt.Errorf("become a new device: %w", err)
	}
	return n.finishReborn(ctx)
}

// readOldMail takes in what waits for the device that this folder was, and
// acknowledges nothing: it is the mail of the one who goes on being it.
func (n *Node) readOldMail(ctx context.Context) error {
	for after, more := uint64(0), true; more; {
		mail, err := n.ask(ctx, &wire.Request{Call: &wire.Request_Fetch{Fetch: &wire.Fetch{After: after, Max: drainFetch}}})
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

// ask is home.call before there is a link.
func (n *Node) ask(ctx context.Context, req *wire.Request) (*wire.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := n.home.exchange(ctx, req)
	if err != nil {
		return nil, err
	}
	return resp, refusalIn(resp)
}

// planReborn makes the new device's keys and the chain that certifies it.
func (n *Node) planReborn(ctx context.Context) error {
	resp, err := n.ask(ctx, &wire.Request{Call: &wire.Request_Lookup{Lookup: &wire.Lookup{Account: n.self.Account[:]}}})
	if err != nil {
		return fmt.Errorf("fetch our own chain: %w", err)
	}
	if err := n.lookups.learn(ctx, n.self.Account, resp.GetFound()); err != nil {
		return err
	}
	newcomer, err := engine.NewNewcomer(n.now(), n.self.DeviceName)
	if err != nil {
		return err
	}
	return n.kv.Update(ctx, func(tx store.Tx) error {
		_, err := n.eng.PlanReborn(tx, n.now(), newcomer)
		return err
	})
}

// finishReborn publishes what was planned, as the new device, and puts it in
// force. It returns ErrReborn when that is done; nil when nothing was planned.
func (n *Node) finishReborn(ctx context.Context) error {
	var chain []byte
	var host key.HostPrivate
	planned := false
	err := n.kv.View(ctx, func(tx store.Tx) (err error) {
		chain, host, planned, err = engine.PendingReborn(tx)
		return err
	})
	if err != nil || !planned {
		return err
	}
	if err := publishChain(ctx, n.log, host, n.self.Home, chain); err != nil {
		return fmt.Errorf("publish the new device: %w", err)
	}
	if err := n.kv.Update(ctx, func(tx store.Tx) error { return engine.Reborn(tx, n.now()) }); err != nil {
		return fmt.Errorf("put the new device in force: %w", err)
	}
	return ErrReborn
}
