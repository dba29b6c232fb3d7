package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	logEvery = time.Hour // the log is read also if nobody says that it has grown
	logRetry = time.Minute

	// Each page costs a proof and a transaction, however few entries it has: a
	// rendezvous that gives them out one by one is not read in haste.
	shortPage = 512 // entries; those of an honest rendezvous have more, but for the last
	shortRest = time.Second / 4
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
	for {
		var more, short bool
		err := untilSettled(func() (err error) {
			more, short, err = l.page(ctx)
			return err
		})
		if err != nil || !more {
			return err
		}
		if short {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(shortRest):
			}
		}
	}
}

// page reads one page, and tells whether there is more and whether it was short.
func (l *logReader) page(ctx context.Context) (more, short bool, err error) {
	req := &wire.ReadLog{}
	err = l.n.kv.View(ctx, func(tx store.Tx) (err error) {
		req.From, req.LogSize, err = l.n.eng.LogQuestion(tx)
		return err
	})
	if err != nil {
		return false, false, err
	}
	resp, err := l.n.home.call(ctx, &wire.Request{Call: &wire.Request_ReadLog{ReadLog: req}})
	if err != nil {
		return false, false, fmt.Errorf("read the directory's log: %w", err)
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
		return more, len(page.GetLeaves()) < shortPage*directory.LeafSize, err
	}
	return false, false, errors.Join(err, l.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return l.n.eng.LogFailed(tx, l.n.now(), err)
	}))
}
