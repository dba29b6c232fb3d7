package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// catchUp learns which accounts changed while there was no rendezvous. It comes
// before anything else is done with it: nothing may be sent to a device that was
// revoked meanwhile.
func (n *Node) catchUp(ctx context.Context, w *wire.Welcome) error {
	var known []engine.Head
	var digest [32]byte
	err := n.kv.View(ctx, func(tx store.Tx) (err error) {
		known, digest, err = n.eng.Heads(tx)
		return err
	})
	if err != nil || bytes.Equal(digest[:], w.GetHeadsDigest()) {
		return err
	}
	resp, err := n.home.ask(ctx, &wire.Request{Call: &wire.Request_Heads{Heads: &wire.Heads{}}})
	if err != nil {
		return fmt.Errorf("ask what changed: %w", err)
	}
	heads := readHeads(resp.GetHeadList().GetHeads())
	own := slices.IndexFunc(heads, func(h engine.Head) bool { return h.Account == n.self.Account })
	if own >= 0 && !slices.Contains(known, heads[own]) && n.lostByHome(ctx) {
		if err := n.returnChain(ctx); err != nil {
			n.log.Error("the rendezvous has lost statements of this account, and does not take them back", "err", err)
		} else if err := n.checkReturned(ctx); err != nil {
			n.log.Error("the rendezvous had lost statements of this account", "err", err)
		}
		heads = slices.Delete(heads, own, own+1)
	}
	for batch := range slices.Chunk(heads, headsBatch) {
		err := n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.Behind(tx, n.now(), batch) })
		if err != nil {
			return fmt.Errorf("note what changed: %w", err)
		}
	}
	return nil
}

// headsBatch is how many accounts one transaction notes as changed.
const headsBatch = 128

// readHeads leaves out what is malformed, and what is too much.
func readHeads(list []*wire.Head) []engine.Head {
	list = list[:min(len(list), protocol.MaxContacts+1)]
	heads := make([]engine.Head, 0, len(list))
	for _, h := range list {
		id, err := protocol.FromBytes[protocol.AccountID](h.GetAccount())
		if err != nil || len(h.GetHead()) != len(engine.Head{}.Head) {
			continue
		}
		heads = append(heads, engine.Head{Account: id, Head: [16]byte(h.GetHead())})
	}
	return heads
}

// lostByHome tells whether the rendezvous has an older state of our own account
// than we do: it was set back. What it answers is not proven: it only gets back
// what is ours, and has to prove that it has it.
func (n *Node) lostByHome(ctx context.Context) bool {
	found, err := n.askOwn(ctx)
	if err != nil {
		return false
	}
	theirs, err := account.ParseChain(found.GetChain())
	if err != nil {
		return false
	}
	ours, err := n.ownChain(ctx)
	return err == nil && ours.Extends(theirs) && ours.Seq() > theirs.Seq()
}

// registerAgain makes the rendezvous know this device again, which it had lost.
func (n *Node) registerAgain(ctx context.Context) error {
	if !n.isGuest() {
		return n.returnChain(ctx)
	}
	err := registerGuest(ctx, n.home, n.kv, n.eng)
	if refusal, ok := errors.AsType[*protocol.Error](err); ok { // it is not in the room any more, or not as far as is known there
		err = errors.Join(err, n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.GuestRefused(tx, n.now(), refusal) }))
	}
	return err
}

// returnChain gives the rendezvous what it has lost of our own account, and tells
// the user.
func (n *Node) returnChain(ctx context.Context) error {
	ours, err := n.ownChain(ctx)
	if err != nil {
		return err
	}
	if _, err := n.home.ask(ctx, updateChain(ours.Bytes())); err != nil {
		return err
	}
	return n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.ChainReturned(tx, n.now()) })
}

// checkReturned has the rendezvous prove what returnChain gave it.
func (n *Node) checkReturned(ctx context.Context) error {
	if err := n.fetchOwnChain(ctx); err != nil {
		return fmt.Errorf("it does not prove that it has them again: %w", err)
	}
	return nil
}

func (n *Node) ownChain(ctx context.Context) (*account.Chain, error) {
	return read(ctx, n.kv, n.eng.OwnChain)
}
