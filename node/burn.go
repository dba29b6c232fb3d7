package node

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// burnTime is how long Burn waits for the rendezvous to take the revocation, when
// the keys are gone.
const burnTime = 5 * time.Second

// Burn destroys all keys of this device, and then tells the rendezvous that the
// device is revoked, over the connection that stands and needs none of them. The
// keys go whether or not anybody can be told. The caller ends the node then.
func (n *Node) Burn(ctx context.Context) (api.Burned, error) {
	chain, planned := n.planLeave(ctx)
	n.burned.Store(true)
	if err := vault.Burn(n.dir); err != nil {
		n.burned.Store(false)
		return api.Burned{}, answer(err)
	}
	out := api.Burned{Destroyed: true}
	if planned == nil {
		planned = n.publishLeave(ctx, chain)
	}
	if out.Published = planned == nil; !out.Published {
		out.Problem = answer(planned).Error()
	}
	return out, nil
}

// BurnFolder destroys the keys and the messages in a folder where no node runs.
// vault.ErrNoVault where there is nothing to burn.
func BurnFolder(dir string) error {
	if err := vault.Burn(dir); err != nil { // what else is there may be somebody else's
		return err
	}
	return os.RemoveAll(filepath.Join(dir, storeDir))
}

func (n *Node) planLeave(ctx context.Context) (chain []byte, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) (err error) {
		chain, err = n.eng.Leave(tx, n.now(), account.Compromised)
		return err
	})
	return chain, err
}

func (n *Node) publishLeave(ctx context.Context, chain []byte) error {
	ctx, cancel := context.WithTimeout(ctx, burnTime)
	defer cancel()
	_, err := n.home.call(ctx, &wire.Request{Call: &wire.Request_UpdateChain{UpdateChain: &wire.UpdateChain{Chain: chain}}})
	return err
}
