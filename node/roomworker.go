package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	maxAppends  = 100 // entries brought by one worker, before others have their turn
	returnBytes = 256 << 10
	gapCount    = 64 // runs of missing messages asked for at once: 4,096 messages (SPEC "Limits")
	sendCount   = 64
)

// roomWorker does what there is to do in one room.
type roomWorker struct {
	n     *Node
	id    protocol.RoomID
	route *roomRoute
	over  bool // nothing will be left to do, unless somebody does something
}

// serve brings our entries, reads what is new, asks for what is missing and sends what
// waits. The error says why something is left. Without a rendezvous what waits is still
// told to members who are connected.
func (w *roomWorker) serve(ctx context.Context) error {
	err := w.atHome(ctx)
	if protocol.CodeOf(err) == protocol.UnknownRoom && w.remake(ctx) {
		err = w.atHome(ctx)
	}
	if refusal, ok := errors.AsType[*protocol.Error](err); ok && turnsAway(refusal.Code) {
		err = w.turnedAway(ctx, refusal)
	}
	if errors.Is(err, engine.ErrRoomLog) {
		err = errors.Join(err, w.do(ctx, func(tx store.Tx) (engine.Hint, error) {
			return w.n.eng.RoomFailed(tx, w.n.now(), w.id, err)
		}))
	}
	topicErr := w.n.topics.follow(ctx, w.id)
	if errors.Is(err, ErrOffline) {
		said, sendErr := w.toPut(ctx)
		err = errors.Join(err, sendErr)
		w.n.rooms.askMembers(w, said)
	}
	return errors.Join(err, topicErr)
}

func turnsAway(c protocol.Code) bool {
	return c == protocol.UnknownRoom || c == protocol.Banned || c == protocol.InviteExpired
}

// turnedAway returns the refusal if the room is to be asked for again all the same.
func (w *roomWorker) turnedAway(ctx context.Context, refusal *protocol.Error) error {
	err := w.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		if w.n.isGuest() {
			return w.n.eng.GuestRefused(tx, w.n.now(), refusal)
		}
		return w.n.eng.RoomTurnedAway(tx, w.n.now(), w.id, refusal)
	})
	if err != nil {
		return err
	}
	plan, err := w.plan(ctx)
	if w.over = err == nil && !plan.Follow; err != nil || w.over {
		return err
	}
	return refusal
}

// remake makes a room again that the rendezvous does not know any more, if this device
// made it. It tells whether it did.
func (w *roomWorker) remake(ctx context.Context) bool {
	first, err := read(ctx, w.n.kv, func(tx store.Tx) ([][]byte, error) { return w.n.eng.RoomLog(tx, w.id, 0, 0) })
	if err != nil || len(first) == 0 {
		return false
	}
	if _, err := w.append(ctx, first[0]); err != nil {
		return false
	}
	w.n.rooms.lack(w.route, 1)
	return true
}

// atHome does what needs the rendezvous.
func (w *roomWorker) atHome(ctx context.Context) error {
	if err := w.bringBack(ctx); err != nil {
		return err
	}
	if err := w.bring(ctx); err != nil {
		return err
	}
	if err := w.read(ctx); err != nil {
		return err
	}
	if err := w.seeGuests(ctx); err != nil {
		return err
	}
	if err := w.bring(ctx); err != nil { // what followed from what was read
		return err
	}
	if err := w.fill(ctx); err != nil {
		return err
	}
	return w.send(ctx)
}

// plan is what the engine wants to have asked; nothing for a room that is forgotten.
func (w *roomWorker) plan(ctx context.Context) (p engine.RoomPlan, err error) {
	p, err = read(ctx, w.n.kv, func(tx store.Tx) (engine.RoomPlan, error) { return w.n.eng.RoomPlan(tx, w.n.now(), w.id) })
	if errors.Is(err, engine.ErrNoRoom) {
		err = nil
	}
	if err != nil {
		return p, fmt.Errorf("read what is to be done in a room: %w", err)
	}
	return p, nil
}

func (w *roomWorker) do(ctx context.Context, fn func(store.Tx) (engine.Hint, error)) error {
	if err := w.n.do(ctx, fn); err != nil {
		return fmt.Errorf("commit what came of a room: %w", err)
	}
	return nil
}

// bringBack brings the entries that the rendezvous lost.
func (w *roomWorker) bringBack(ctx context.Context) error {
	from := w.n.rooms.takeLacks(w.route)
	for from > 0 {
		entries, err := read(ctx, w.n.kv, func(tx store.Tx) ([][]byte, error) { return w.n.eng.RoomLog(tx, w.id, from, returnBytes) })
		if err != nil || len(entries) == 0 {
			return err
		}
		for _, e := range entries {
			if _, err := w.append(ctx, e); err != nil {
				return fmt.Errorf("bring the rendezvous what it lost of a room: %w", err)
			}
		}
		from += uint64(len(entries))
	}
	return nil
}

// bring brings our entries, one after the other.
func (w *roomWorker) bring(ctx context.Context) error {
	var last []byte
	for range maxAppends {
		plan, err := w.plan(ctx)
		if err != nil || plan.Append == nil {
			return err
		}
		if bytes.Equal(plan.Append, last) {
			return protocol.Refuse(protocol.Unavailable, "the rendezvous says that others were first, and shows nothing of them")
		}
		last = plan.Append
		answer, err := w.append(ctx, plan.Append)
		if refusal, ok := errors.AsType[*protocol.Error](err); ok && final(refusal.Code) {
			err := w.do(ctx, func(tx store.Tx) (engine.Hint, error) {
				return w.n.eng.RoomNotAppended(tx, w.n.now(), w.id, plan.Append, refusal)
			})
			if err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := w.appended(ctx, plan.Append, answer); err != nil {
			return err
		}
	}
	w.n.rooms.wake(w.id)
	return nil
}

func (w *roomWorker) append(ctx context.Context, entry []byte) (*wire.RoomAppended, error) {
	resp, err := w.n.home.call(ctx, &wire.Request{Call: &wire.Request_AppendRoom{AppendRoom: &wire.AppendRoom{Entry: entry}}})
	return resp.GetRoomAppended(), err
}

// appended takes in what became of an entry: it is in the log, or others were first.
func (w *roomWorker) appended(ctx context.Context, entry []byte, answer *wire.RoomAppended) error {
	if protocol.Code(answer.GetCode()) != protocol.RoomMoved {
		return w.take(ctx, engine.RoomPage{Entries: [][]byte{entry}})
	}
	if len(answer.GetSince().GetEntries()) == 0 { // it has less than we do, and says how much after the next welcome
		return protocol.Refuse(protocol.Unavailable, "the rendezvous has less of the room's log than this device")
	}
	return w.take(ctx, engine.RoomPage{Entries: answer.GetSince().GetEntries()})
}

// final tells whether an entry that was refused so will never be taken.
func final(c protocol.Code) bool {
	switch c {
	case protocol.BadRequest, protocol.BadSignature, protocol.TooLarge, protocol.UnsupportedVersion,
		protocol.RoomFull, protocol.RoomLocked, protocol.InviteExpired:
		return true
	}
	return false
}

func (w *roomWorker) take(ctx context.Context, page engine.RoomPage) error {
	return w.do(ctx, func(tx store.Tx) (engine.Hint, error) { return w.n.eng.TakeRoom(tx, w.n.now(), w.id, page) })
}

// read reads log and messages to their end.
func (w *roomWorker) read(ctx context.Context) error {
	for {
		plan, err := w.plan(ctx)
		w.over = err == nil && !plan.Follow
		if err != nil || w.over && !plan.Doubt {
			return err
		}
		ask := &wire.ReadRoom{Room: w.id[:], FromSeq: plan.From, After: plan.After, Link: plan.Link, Proof: plan.Proof}
		resp, err := w.n.home.call(ctx, &wire.Request{Call: &wire.Request_ReadRoom{ReadRoom: ask}})
		if err != nil {
			return err
		}
		page := resp.GetRoomPage()
		if err := w.take(ctx, engine.RoomPage{Entries: page.GetEntries(), Messages: items(page, true)}); err != nil {
			return err
		}
		next, err := w.plan(ctx)
		if err != nil {
			return err
		}
		if moved := next.From != plan.From || next.After != plan.After; !moved {
			w.over = !next.Follow // what was over may not be any more
			return nil
		}
	}
}

// seeGuests asks when guests were last online whose stay is due.
func (w *roomWorker) seeGuests(ctx context.Context) error {
	plan, err := w.plan(ctx)
	if err != nil || !plan.Guests {
		return err
	}
	resp, err := w.n.home.call(ctx, &wire.Request{Call: &wire.Request_SeenGuests{SeenGuests: &wire.SeenGuests{Room: w.id[:]}}})
	if err != nil {
		return err
	}
	var seen []engine.GuestSeen
	for _, g := range resp.GetGuestsSeen().GetGuests() {
		if a, err := protocol.FromBytes[protocol.AccountID](g.GetAccount()); err == nil {
			seen = append(seen, engine.GuestSeen{Account: a, Ago: retryAfter(g.GetAgoMs())})
		}
	}
	return w.do(ctx, func(tx store.Tx) (engine.Hint, error) { return w.n.eng.SeenGuests(tx, w.n.now(), w.id, seen) })
}

// items are the messages of a page; with their cursors only if they came in order.
func items(page *wire.RoomPage, inOrder bool) (list []engine.RoomItem) {
	for _, item := range page.GetItems() {
		i := engine.RoomItem{Message: item.GetMessage()}
		if inOrder {
			i.Cursor = item.GetCursor()
		}
		list = append(list, i)
	}
	return list
}

// fill asks for messages that are known to be missing. Those that nobody has are asked
// for again now and then.
func (w *roomWorker) fill(ctx context.Context) error {
	for {
		gaps, err := read(ctx, w.n.kv, func(tx store.Tx) ([]engine.RoomGap, error) { return w.n.eng.RoomGaps(tx, w.id, w.route.turn, gapCount) })
		if err != nil {
			return fmt.Errorf("read what is missing in a room: %w", err)
		}
		if len(gaps) == 0 {
			return nil
		}
		switch w.n.rooms.mayFill(w.route, gaps) {
		case fillLater:
			return nil
		case fillOthers:
			continue
		}
		ask := &wire.FillRoom{Room: w.id[:], Ranges: ranges(gaps)}
		resp, err := w.n.home.call(ctx, &wire.Request{Call: &wire.Request_FillRoom{FillRoom: ask}})
		if err != nil {
			return err
		}
		page := resp.GetRoomPage()
		if len(page.GetItems()) == 0 {
			return nil
		}
		if err := w.take(ctx, engine.RoomPage{Messages: items(page, false)}); err != nil {
			return err
		}
	}
}

// ranges names gaps to the rendezvous, or to a member.
func ranges(gaps []engine.RoomGap) (list []*wire.RoomRange) {
	for _, g := range gaps {
		list = append(list, &wire.RoomRange{Device: g.Device[:], First: g.First, Last: g.Last})
	}
	return list
}

// send puts what waits into the room's mailbox.
func (w *roomWorker) send(ctx context.Context) error {
	for {
		list, err := w.toPut(ctx)
		if err != nil || len(list) == 0 {
			return err
		}
		put := &wire.PutRoom{Room: w.id[:]}
		for _, m := range list {
			put.Messages = append(put.Messages, m.Message)
		}
		resp, err := w.n.home.call(ctx, &wire.Request{Call: &wire.Request_PutRoom{PutRoom: put}})
		if err != nil {
			return err
		}
		if err := w.stored(ctx, list, resp.GetRoomPutResults().GetResults()); err != nil {
			return err
		}
	}
}

// toPut seals what waits, and tells it at once to the members who are connected.
func (w *roomWorker) toPut(ctx context.Context) (list []engine.RoomMessage, err error) {
	plan, err := w.plan(ctx)
	if err != nil || !plan.Send {
		return nil, err
	}
	err = w.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		list, h, err = w.n.eng.RoomOutbox(tx, w.n.now(), w.id, batchBytes, sendCount)
		return h, err
	})
	if err != nil {
		return nil, err
	}
	messages := make([][]byte, len(list))
	for i, m := range list {
		messages[i] = m.Message
	}
	w.n.topics.say(ctx, w.id, messages)
	return list, nil
}

// stored commits what the rendezvous answered for each message. The error is the first
// refusal.
func (w *roomWorker) stored(ctx context.Context, list []engine.RoomMessage, results []*wire.RoomPutResult) error {
	if len(results) != len(list) {
		return fmt.Errorf("the rendezvous answered %d of %d messages", len(results), len(list))
	}
	var refused *protocol.Error
	err := w.do(ctx, func(tx store.Tx) (all engine.Hint, err error) {
		refused = nil
		var ok []protocol.EnvelopeID
		for i, r := range results {
			if r.GetCode() == 0 {
				ok = append(ok, list[i].ID)
				continue
			}
			refusal := &protocol.Error{Code: protocol.Code(r.GetCode()), RetryAfter: retryAfter(r.GetRetryAfterMs())}
			if refused == nil {
				refused = refusal
			}
			h, err := w.n.eng.RoomRefused(tx, w.n.now(), w.id, list[i].ID, refusal)
			if err != nil {
				return all, err
			}
			all.Merge(h)
		}
		h, err := w.n.eng.RoomStored(tx, w.n.now(), w.id, ok)
		all.Merge(h)
		return all, err
	})
	if err != nil {
		return err
	}
	if refused != nil && refused.Code != protocol.TooLarge { // that one is given up
		return refused
	}
	return nil
}
