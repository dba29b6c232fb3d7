package node

import (
	"context"
	"errors"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Send writes a message. It is durable here when Send returns, and goes out by
// itself; Events tell how far it got. Repeating a request with the same ID
// sends nothing twice.
func (n *Node) Send(ctx context.Context, r api.SendRequest) (sent api.Message, err error) {
	id := protocol.NewMsgID()
	if r.ID != "" {
		if err := id.UnmarshalText([]byte(r.ID)); err != nil {
			return sent, answer(err)
		}
	}
	n.home.busy()
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		h, err := n.compose(tx, id, r, nil)
		if err != nil {
			return engine.Hint{}, err
		}
		m, err := n.eng.Message(tx, id)
		sent = n.names(tx).message(m)
		return h, err
	})
	return sent, answer(err)
}

func (n *Node) compose(tx store.Tx, id protocol.MsgID, r api.SendRequest, f *engine.FileDraft) (h engine.Hint, err error) {
	with, err := n.conversation(tx, r.To)
	if err != nil {
		return h, err
	}
	draft := engine.Draft{Text: r.Text, File: f}
	if r.ReplyTo != "" {
		if draft.ReplyTo, err = n.findMessage(tx, r.ReplyTo); err != nil {
			return h, err
		}
	}
	if draft.Mentions, err = n.mentioned(tx, with, r.Text); err != nil {
		return h, err
	}
	h, err = n.eng.ComposeDraft(tx, n.now(), with, id, draft)
	if errors.Is(err, engine.ErrNotFound) {
		err = &api.Error{Code: api.ErrNotFound, Text: "the message that you answer is not of this conversation"}
	}
	return h, err
}

// History returns the newest messages of a conversation before a position (0: the
// end), oldest first, at most limit.
func (n *Node) History(ctx context.Context, with string, before uint64, limit int) ([]api.Message, error) {
	return n.page(ctx, with, before, limit, n.eng.History)
}

// HistoryAfter returns the oldest messages of a conversation after a position (0:
// from the start), oldest first, at most limit.
func (n *Node) HistoryAfter(ctx context.Context, with string, after uint64, limit int) ([]api.Message, error) {
	return n.page(ctx, with, after, limit, n.eng.HistoryAfter)
}

func (n *Node) page(ctx context.Context, with string, from uint64, limit int,
	read func(store.Tx, protocol.AccountID, uint64, int) ([]engine.Message, error)) (page []api.Message, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		conversation, err := n.conversation(tx, with)
		if err != nil {
			return err
		}
		rows, err := read(tx, conversation, from, limit)
		names := n.names(tx)
		page = make([]api.Message, 0, len(rows))
		for _, m := range rows {
			page = append(page, names.message(m))
		}
		return err
	})
	return page, answer(err)
}

// Trace tells what happened to a message so far. Id is its id, or at least 6
// characters that only its id begins with.
func (n *Node) Trace(ctx context.Context, id string) (t api.Trace, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		found, err := n.findMessage(tx, id)
		if err != nil {
			return err
		}
		m, steps, err := n.eng.Trace(tx, n.now(), found)
		t.Message = n.names(tx).message(m)
		for _, s := range steps {
			t.Steps = append(t.Steps, api.Step{Time: s.Time, What: s.What, Detail: s.Detail})
		}
		return err
	})
	return t, answer(err)
}

// MarkRead notes that a conversation was seen up to a position, and tells the
// authors if they are contacts.
func (n *Node) MarkRead(ctx context.Context, r api.ReadRequest) error {
	return answer(n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		if isRoom(r.With) {
			room, err := n.roomByName(tx, r.With)
			if err != nil {
				return engine.Hint{}, err
			}
			return n.eng.MarkRoomRead(tx, n.now(), room.ID, r.UpTo)
		}
		c, err := n.contactByName(tx, r.With)
		if err != nil {
			return engine.Hint{}, err
		}
		return n.eng.MarkRead(tx, n.now(), c.Account, r.UpTo)
	}))
}
