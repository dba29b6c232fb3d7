package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	dialBudget   = 5 * time.Second
	batchBytes   = 192 << 10 // envelopes of one frame; their commit must fit a transaction
	batchCount   = 128
	mailboxCount = 64
)

var (
	errNoConnection = errors.New("no connection to the device")
	errConnLost     = errors.New("the connection broke")
	errRefused      = errors.New("the recipient's device refused an envelope")
	errUnknown      = errors.New("the device is no contact's")
)

// worker sends one device's queue.
type worker struct {
	n     *Node
	to    protocol.DeviceID
	route route
	more  nudge       // there may be new rows, or a better way
	anew  atomic.Bool // something changed since route says what failed

	flying atomic.Int32 // frames sent and not yet settled
	broken int          // connections lost since the last frame was settled
}

// serve sends until the queue is empty and has been for a while (nil), or
// until nothing more can be done now (why).
func (w *worker) serve(ctx context.Context) error {
	for ctx.Err() == nil {
		rows, err := w.queue(ctx, 0, mailboxCount)
		if err != nil || len(rows) == 0 {
			return err
		}
		w.takeNews()
		direct := w.direct(ctx, rows[0])
		if direct == nil || errors.Is(direct, errBetterPath) {
			continue
		}
		if errors.Is(direct, errRefused) {
			return direct // the mailbox would only bring it to the same device
		}
		if ctx.Err() != nil {
			break
		}
		if w.anew.Load() {
			continue
		}
		if err := w.mailbox(ctx); err != nil {
			return err
		}
	}
	return nil
}

// takeNews forgets what failed before something changed.
func (w *worker) takeNews() {
	if w.anew.Swap(false) {
		w.route.renew()
	}
}

func (w *worker) queue(ctx context.Context, after uint64, count int) (rows []engine.Queued, err error) {
	rows, err = read(ctx, w.n.kv, func(tx store.Tx) ([]engine.Queued, error) {
		return w.n.eng.Queue(tx, w.n.now(), w.to, after, batchBytes, count)
	})
	if err != nil {
		return nil, fmt.Errorf("read queue: %w", err)
	}
	return rows, nil
}

// direct sends over a connection that exists or can be had soon. It returns
// nil when the queue was empty for a while, errBetterPath to be called again.
func (w *worker) direct(ctx context.Context, first engine.Queued) error {
	d, ok := w.n.gate.device(w.to)
	if !ok {
		return errUnknown // a contact request to a stranger
	}
	avoid := w.n.home.isUp() && time.Now().Before(w.route.avoidDirect) // without the mailbox there is no other way
	if avoid && !w.connectedSince(d) {
		return errNoConnection
	}
	if !w.n.dialer.connected(d.peer) {
		if !w.worthDialing(d, first) {
			return errNoConnection
		}
		dialCtx, cancel := context.WithTimeout(ctx, dialBudget)
		err := w.n.dialer.dial(dialCtx, d)
		cancel()
		if err != nil {
			w.route.avoidDirect = time.Now().Add(avoidFor)
			return fmt.Errorf("%w: %w", errNoConnection, err)
		}
	}
	err := w.deliver(ctx, d)
	if err == nil || errors.Is(err, errBetterPath) || errors.Is(err, errRefused) || ctx.Err() != nil {
		return err
	}
	w.n.log.Debug("direct delivery failed", "device", w.to, "err", err)
	if w.broken++; w.broken <= 2 && errors.Is(err, errConnLost) {
		return errBetterPath // there may be another, or it may be had
	}
	w.route.avoidDirect = time.Now().Add(avoidFor)
	return err
}

// connectedSince tells whether there is a connection newer than the failure for
// which direct ones are avoided.
func (w *worker) connectedSince(d device) bool {
	c := w.n.dialer.best(d.peer)
	return c != nil && c.Stat().Opened.Add(avoidFor).After(w.route.avoidDirect)
}

// worthDialing tells whether the device is likely to be there. Who is not a
// contact yet lets nobody in.
func (w *worker) worthDialing(d device, first engine.Queued) bool {
	online, known := w.n.home.presence.of(d.account)
	return first.Kind == wire.MailKind_MESSAGE && (online || !known)
}

// mailbox stores the queue at the rendezvous.
func (w *worker) mailbox(ctx context.Context) error {
	if wait := time.Until(w.route.mailboxFrom); wait > 0 {
		return &protocol.Error{Code: protocol.RateLimited, RetryAfter: wait}
	}
	for {
		rows, err := w.queue(ctx, 0, mailboxCount)
		if err != nil || len(rows) == 0 {
			return err
		}
		put := &wire.Put{}
		for _, r := range rows {
			put.Items = append(put.Items, &wire.PutItem{Device: r.To[:], Envelope: r.Envelope, Kind: r.Kind})
		}
		resp, err := w.n.home.call(ctx, &wire.Request{Call: &wire.Request_Put{Put: put}})
		if err != nil {
			return w.notStored(ctx, err)
		}
		if err := w.stored(ctx, rows, resp.GetPutResults().GetResults()); err != nil {
			return err
		}
	}
}

// notStored handles a refusal of the whole call, or no call at all.
func (w *worker) notStored(ctx context.Context, err error) error {
	reason := "the rendezvous cannot be reached, and neither can the recipient"
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		reason = "the rendezvous refused: " + e.Error()
		w.route.mailboxFrom = time.Now().Add(e.RetryAfter)
	}
	if ctx.Err() != nil {
		return err
	}
	return errors.Join(err, w.n.waiting(ctx, w.to, reason))
}

// stored commits what the rendezvous answered for each row.
func (w *worker) stored(ctx context.Context, rows []engine.Queued, results []*wire.PutResult) error {
	if len(results) != len(rows) {
		return fmt.Errorf("the rendezvous answered %d of %d envelopes", len(results), len(rows))
	}
	outcomes := make([]*protocol.Error, len(rows))
	for i, r := range results {
		if r.GetCode() != 0 {
			outcomes[i] = &protocol.Error{Code: protocol.Code(r.GetCode()), RetryAfter: retryAfter(r.GetRetryAfterMs())}
		}
	}
	refused, err := w.settle(ctx, rows, outcomes, nil, func(tx store.Tx, ok []protocol.EnvelopeID) (engine.Hint, error) {
		return w.n.eng.Stored(tx, w.n.now(), w.to, ok)
	})
	if err != nil {
		return err
	}
	if refused != nil {
		return refused
	}
	return nil
}

// settle commits the outcome of a batch: good takes the ids that arrived, the
// engine is told of each refusal, and of the keys that the device offered with
// them. It returns the first refusal.
func (w *worker) settle(ctx context.Context, rows []engine.Queued, outcomes []*protocol.Error, offer *wire.Bundle,
	good func(store.Tx, []protocol.EnvelopeID) (engine.Hint, error)) (refused *protocol.Error, err error) {
	var ok []protocol.EnvelopeID
	for i, e := range outcomes {
		switch {
		case e == nil:
			ok = append(ok, rows[i].ID)
		case refused == nil:
			refused = e
		}
	}
	err = w.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		var all engine.Hint
		if len(ok) > 0 {
			h, err := good(tx, ok)
			if err != nil {
				return engine.Hint{}, err
			}
			all.Merge(h)
		}
		for i, e := range outcomes {
			if e == nil {
				continue
			}
			h, err := w.n.eng.Refused(tx, w.n.now(), w.to, rows[i].ID, e, offer)
			if err != nil {
				return engine.Hint{}, err
			}
			all.Merge(h)
		}
		return all, nil
	})
	if err != nil {
		return nil, fmt.Errorf("commit outcome: %w", err)
	}
	return refused, nil
}
