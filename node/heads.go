package node

import (
	"bytes"
	"context"
	"fmt"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// catchUp learns which accounts changed while there was no rendezvous. It comes
// before anything else is done with it: nothing may be sent to a device that was
// revoked meanwhile.
func (n *Node) catchUp(ctx context.Context, w *wire.Welcome) error {
	var digest [32]byte
	err := n.kv.View(ctx, func(tx store.Tx) (err error) {
		_, digest, err = n.eng.Heads(tx)
		return err
	})
	if err != nil || bytes.Equal(digest[:], w.GetHeadsDigest()) {
		return err
	}
	resp, err := n.ask(ctx, &wire.Request{Call: &wire.Request_Heads{Heads: &wire.Heads{}}})
	if err != nil {
		return fmt.Errorf("ask what changed: %w", err)
	}
	list := resp.GetHeadList().GetHeads()
	heads := make([]engine.Head, 0, min(len(list), protocol.MaxContacts+1))
	for _, h := range list[:cap(heads)] {
		account, err := protocol.FromBytes[protocol.AccountID](h.GetAccount())
		if err != nil || len(h.GetHead()) != len(engine.Head{}.Head) {
			continue
		}
		heads = append(heads, engine.Head{Account: account, Head: [16]byte(h.GetHead())})
	}
	return n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.Behind(tx, n.now(), heads) })
}
