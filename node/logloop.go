package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	logEvery = time.Hour // the log is read also if nobody says that it has grown
	logRetry = time.Minute
)

// logReader reads on in the directory's log: after each connect, when a look-up or
// a head that somebody was shown is beyond what is known of it, and every hour.
// What a page says is judged by the engine.
type logReader struct {
	n    *Node
	more nudge
}

func newLogReader(n *Node) *logReader { return &logReader{n: n, more: newNudge()} }

// run works until ctx ends.
func (l *logReader) run(ctx context.Context) error {
	for {
		wait := time.Duration(float64(logEvery) * (0.75 + rand.Float64()/2))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-l.more:
		case <-timer.C:
		}
		timer.Stop()
		for ctx.Err() == nil && l.n.home.isUp() {
			err := l.read(ctx)
			if err == nil || ctx.Err() != nil {
				break
			}
			l.n.log.Warn("the directory's log was not read to its end", "err", err)
			if engine.IsAlarm(err) {
				break
			}
			if !l.rest(ctx, err) {
				break
			}
		}
		if ctx.Err() != nil {
			return nil
		}
	}
}

// rest waits for as long as the rendezvous wants, and tells whether to go on: not
// without a connection, the next one begins anew.
func (l *logReader) rest(ctx context.Context, err error) bool {
	wait := logRetry
	if refusal, ok := errors.AsType[*protocol.Error](err); ok && refusal.RetryAfter > 0 {
		wait = min(refusal.RetryAfter, logEvery)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return l.n.home.isUp()
	}
}

// read reads the log to its end. Each page is a transaction of its own, so what
// was read stays read.
func (l *logReader) read(ctx context.Context) error {
	for more := true; more; {
		err := untilSettled(func() (err error) {
			more, err = l.page(ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *logReader) page(ctx context.Context) (more bool, err error) {
	req := &wire.ReadLog{}
	err = l.n.kv.View(ctx, func(tx store.Tx) (err error) {
		req.From, req.LogSize, err = l.n.eng.LogQuestion(tx)
		return err
	})
	if err != nil {
		return false, err
	}
	resp, err := l.n.home.call(ctx, &wire.Request{Call: &wire.Request_ReadLog{ReadLog: req}})
	if err != nil {
		return false, fmt.Errorf("read the directory's log: %w", err)
	}
	page := resp.GetLogPage()
	if page.GetLog() != nil {
		page.Log.From = req.LogSize // we know what was asked
	}
	err = l.n.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		more, h, err = l.n.eng.FoldPage(tx, l.n.now(), req.From, page)
		return h, err
	})
	if !engine.IsAlarm(err) {
		return more, err
	}
	return false, errors.Join(err, l.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return l.n.eng.LogFailed(tx, l.n.now(), err)
	}))
}

// AcceptLog ends the alarm of the directory's log: from now on the log is believed
// as it is.
func (n *Node) AcceptLog(ctx context.Context) error {
	return answer(n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.AcceptLog(tx, n.now()) }))
}
