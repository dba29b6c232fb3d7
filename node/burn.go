package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/store"
)

// burnTime is how long Burn waits for the rendezvous to take the revocation, when
// the keys are gone.
const burnTime = 5 * time.Second

// Burn destroys all keys of this device, and then tells the rendezvous that the
// device is revoked, over the connection that stands and needs none of them. The
// keys go whether or not anybody can be told. The caller ends the node then, which removes
// what it was receiving; files that are whole stay where they are.
func (n *Node) Burn(ctx context.Context) (api.Burned, error) {
	chain, planned := n.planLeave(ctx)
	kept, err := read(ctx, n.kv, n.eng.FilesKept)
	if err != nil {
		n.log.Error("what is being received is not known", "err", err)
	}
	n.burned.Store(&kept)
	if err := vault.Burn(n.dir); err != nil {
		n.burned.Store(nil)
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

// BurnFolder destroys the keys and the messages in a folder where no node runs. Where it
// was receiving files only the messages said. vault.ErrNoVault where there is nothing to
// burn.
func BurnFolder(dir string) error {
	if err := vault.Burn(dir); err != nil { // what else is there may be somebody else's
		return err
	}
	return removeBurned(dir)
}

// removeBurned removes what nobody can read any more.
func removeBurned(dir string) error {
	return errors.Join(os.RemoveAll(filepath.Join(dir, storeDir)), os.RemoveAll(filesDir(dir)))
}

// removeParts removes what is here of files that were being received.
func (n *Node) removeParts(kept []engine.FileEnd) (err error) {
	for _, e := range kept {
		if e.Part != "" {
			err = errors.Join(err, withoutNames(transfer.RemovePart(e.Part, e.Name, n.partTag(e.FileRef, e.ID))))
		}
	}
	return err
}

func (n *Node) planLeave(ctx context.Context) ([]byte, error) {
	return read(ctx, n.kv, func(tx store.Tx) ([]byte, error) { return n.eng.Leave(tx, n.now(), account.Compromised) })
}

func (n *Node) publishLeave(ctx context.Context, chain []byte) error {
	ctx, cancel := context.WithTimeout(ctx, burnTime)
	defer cancel()
	_, err := n.home.call(ctx, updateChain(chain))
	return err
}
