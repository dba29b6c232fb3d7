package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
)

// receive opens envelopes, commits what they hold, and returns one code for
// each, in order. OK means durable here, now or from before. from is the
// device that sent them; nil for mail, which anyone may have put there.
//
// The error is the store's: then nothing is known of those envelopes that have
// no code, and the caller answers nothing.
//
// Keys of a room may be here before the entry of its log that they are for: that is
// read then, and they are taken after it.
func (n *Node) receive(ctx context.Context, from *device, envs [][]byte, via engine.Path) ([]protocol.Code, error) {
	codes, behind, err := n.receiveAll(ctx, from, envs, via)
	if err != nil || len(behind) == 0 {
		return codes, err
	}
	var early [][]byte
	var places []int // of early in envs
	for i, c := range codes {
		if c == protocol.Unavailable {
			early, places = append(early, envs[i]), append(places, i)
		}
	}
	n.rooms.await(ctx, behind)
	again, _, err := n.receiveAll(ctx, from, early, via)
	for i, c := range again {
		codes[places[i]] = c
	}
	return codes, err
}

// receiveAll also returns the rooms whose logs have to be read first.
func (n *Node) receiveAll(ctx context.Context, from *device, envs [][]byte, via engine.Path) (codes []protocol.Code, behind []protocol.RoomID, err error) {
	came := n.now()
	codes = make([]protocol.Code, len(envs))
	committed := map[protocol.SessionID]bool{}
	for done := 0; done < len(envs); {
		size := opensTogether(envs[done:], committed)
		rooms, err := n.receiveBatch(ctx, came, from, envs[done:done+size], codes[done:done+size], via)
		if err != nil {
			return nil, nil, err
		}
		behind = append(behind, rooms...)
		done += size
	}
	return codes, behind, nil
}

// opensTogether tells how many envelopes from the front to open before the
// next commit. A burst that begins a session carries its opening in every
// envelope, and opening one costs 5 ms until the session is known: so the first
// is committed before the second is looked at. It would also be charged to the
// few openings that a device has.
func opensTogether(envs [][]byte, committed map[protocol.SessionID]bool) int {
	fresh := map[protocol.SessionID]bool{}
	for i, env := range envs {
		id, opening, err := session.PeekSession(env)
		if err != nil || !opening {
			continue
		}
		if fresh[id] {
			return i
		}
		if !committed[id] {
			fresh[id], committed[id] = true, true
		}
	}
	return len(envs)
}

// receiveBatch handles envelopes that are committed together.
func (n *Node) receiveBatch(ctx context.Context, came time.Time, from *device, envs [][]byte, codes []protocol.Code, via engine.Path) (behind []protocol.RoomID, err error) {
	var peer protocol.DeviceID // zero: the mailbox
	if from != nil {
		peer = from.id
	}
	opened := make([]*engine.Opened, len(envs))
	for i, env := range envs {
		o, err := n.openEnvelope(ctx, came, peer, env)
		if err != nil {
			refusal, ok := errors.AsType[*protocol.Error](err)
			if !ok {
				return nil, err
			}
			codes[i] = refusal.Code
			continue
		}
		opened[i] = &o
	}
	return n.commitBatch(ctx, opened, codes, via)
}

// openEnvelope looks up the sender first when the engine asks for that.
func (n *Node) openEnvelope(ctx context.Context, came time.Time, from protocol.DeviceID, env []byte) (o engine.Opened, err error) {
	var asked protocol.AccountID
	for range 2 {
		o, err = read(ctx, n.kv, func(tx store.Tx) (engine.Opened, error) { return n.eng.Open(tx, n.now(), came, from, env) })
		need, ok := errors.AsType[*engine.NeedAccount](err)
		if !ok {
			break
		}
		if err := n.lookUpSender(ctx, need.Account); err != nil {
			return o, err
		}
		asked = need.Account
	}
	if need, ok := errors.AsType[*engine.NeedAccount](err); ok { // it changed once more meanwhile
		return o, protocol.Refuse(protocol.Unavailable, "the record of account %v is not new enough", need.Account)
	}
	if o.FromUnknown() && asked != (protocol.AccountID{}) {
		n.senders.refused(asked, protocol.Refuse(protocol.Unavailable, "the sender's account was looked up a moment ago"))
	} else {
		n.senders.found(asked)
	}
	if err != nil {
		return o, fmt.Errorf("open envelope: %w", err)
	}
	return o, nil
}

// commitBatch receives what was opened in one transaction, or in several when
// one cannot hold it.
func (n *Node) commitBatch(ctx context.Context, opened []*engine.Opened, codes []protocol.Code, via engine.Path) (behind []protocol.RoomID, err error) {
	got := make([]protocol.Code, len(opened))
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		var all engine.Hint
		behind = nil
		for i, o := range opened {
			if o == nil {
				continue
			}
			code, h, err := n.eng.Receive(tx, n.now(), *o, via)
			if err != nil {
				return engine.Hint{}, err
			}
			if got[i] = code; code == protocol.Unavailable {
				behind = append(behind, h.Rooms...)
			}
			all.Merge(h)
		}
		return all, nil
	})
	if errors.Is(err, store.ErrTooBig) && len(opened) == 1 { // it must not stop what comes behind it
		n.log.Error("an envelope holds more than can be committed at once", "err", err)
		codes[0] = protocol.Internal
		return nil, nil
	}
	if errors.Is(err, store.ErrTooBig) {
		half := len(opened) / 2
		first, err := n.commitBatch(ctx, opened[:half], codes[:half], via)
		if err != nil {
			return nil, err
		}
		second, err := n.commitBatch(ctx, opened[half:], codes[half:], via)
		return append(first, second...), err
	}
	if err != nil {
		return nil, fmt.Errorf("commit what came: %w", err)
	}
	for i, o := range opened {
		if o != nil {
			codes[i] = got[i]
		}
	}
	return behind, nil
}
