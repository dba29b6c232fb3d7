package node

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// burnTime is how long Burn waits for the rendezvous.
const burnTime = 5 * time.Second

// Burn destroys all keys of this device at once, and tells the rendezvous that
// the device is revoked while the connection, which needs none of them, stands.
// The caller ends the node then.
func (n *Node) Burn(ctx context.Context) (api.Burned, error) {
	var chain []byte
	planned := n.kv.Update(ctx, func(tx store.Tx) (err error) {
		chain, err = n.eng.Leave(tx, n.now(), account.Compromised)
		return err
	})
	if err := vault.Burn(n.dir); err != nil {
		return api.Burned{}, answer(err)
	}
	n.burned.Store(true)
	published := n.publishLeave(ctx, chain, planned)
	out := api.Burned{Destroyed: true, Published: published == nil}
	if published != nil {
		out.Problem = published.Error()
	}
	return out, nil
}

func (n *Node) publishLeave(ctx context.Context, chain []byte, planned error) error {
	if planned != nil {
		return planned
	}
	ctx, cancel := context.WithTimeout(ctx, burnTime)
	defer cancel()
	if !n.home.isUp() {
		return errors.New("the rendezvous cannot be reached: revoke this device from another one, or recover the account with your words")
	}
	_, err := n.home.call(ctx, &wire.Request{Call: &wire.Request_UpdateChain{UpdateChain: &wire.UpdateChain{Chain: chain}}})
	return err
}
