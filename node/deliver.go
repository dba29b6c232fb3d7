package node

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/sync/errgroup"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	openTimeout = 5 * time.Second
	ackTimeout  = 20 * time.Second // the other end may have to look us up first
	streamIdle  = time.Minute
	silence     = 3 * time.Second // then the connection is suspect
	framesAhead = 4               // sent and not yet acknowledged
)

// errBetterPath ends a stream on a relayed connection once there is a direct
// one: libp2p leaves streams where they are.
var errBetterPath = errors.New("a better path is open")

// delivery is one stream to a device: a writer, which sends frames of queued
// envelopes, a reader, which commits what comes back for each, and a watch over
// the connection.
type delivery struct {
	w       *worker
	d       device
	s       network.Stream
	via     engine.Path
	sent    chan []engine.Queued // frames on their way, in order; closed by the writer
	settled nudge                // the reader finished a frame
	ended   chan struct{}        // closed by the reader when it has finished all
	news    atomic.Int64         // unix nanoseconds of the last sign of life
	refused atomic.Bool
}

// deliver sends the queue over one stream. It returns nil when the queue has
// been empty for streamIdle.
func (w *worker) deliver(ctx context.Context, d device) error {
	openCtx, cancel := context.WithTimeout(onlyConnected(ctx), openTimeout)
	defer cancel()
	s, err := w.n.host.NewStream(openCtx, d.peer, protocol.MsgProtocol)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	f := &delivery{
		w: w, d: d, s: s, via: w.n.pathOf(s.Conn()),
		sent: make(chan []engine.Queued, framesAhead-1), settled: newNudge(), ended: make(chan struct{}),
	}
	w.flying.Store(0)
	defer w.flying.Store(0)
	ctx, fail := context.WithCancel(ctx)
	defer fail()
	stop := context.AfterFunc(ctx, func() { s.Reset() }) // unblocks the others; a good end is a Close
	var g errgroup.Group
	for _, part := range []func(context.Context) error{f.write, f.read, f.watch} {
		g.Go(func() error {
			err := part(ctx)
			if err != nil {
				fail()
			}
			return err
		})
	}
	err = g.Wait()
	if stop() {
		s.Close()
	}
	if err != nil && s.Conn().IsClosed() {
		return fmt.Errorf("%w: %w", errConnLost, err)
	}
	return err
}

func (f *delivery) write(ctx context.Context) error {
	var after uint64
	for {
		rows, err := f.w.queue(ctx, after, batchCount)
		if err != nil {
			return err
		}
		if len(rows) == 0 {
			if err := f.rest(ctx); err != nil {
				return f.finish(err)
			}
			if f.w.flying.Load() == 0 && !f.refused.Load() { // else what was refused would go at once again
				after = 0 // what was held back may have come before
			}
			continue
		}
		if f.w.flying.Add(1) == 1 {
			f.news.Store(time.Now().UnixNano())
		}
		select {
		case f.sent <- rows:
		case <-ctx.Done():
			return ctx.Err()
		}
		frame := &wire.Deliver{}
		for _, r := range rows {
			frame.Envelopes = append(frame.Envelopes, r.Envelope)
		}
		f.s.SetWriteDeadline(time.Now().Add(ackTimeout))
		if err := wire.WriteMsg(f.s, frame); err != nil {
			return err
		}
		after = rows[len(rows)-1].N
	}
}

var errIdle = errors.New("nothing to send")

// rest waits for something to do. Its error ends the stream, in good order.
func (f *delivery) rest(ctx context.Context) error {
	if f.w.flying.Load() == 0 {
		if f.refused.Load() {
			return f.afterRefusal()
		}
		if f.s.Conn().IsClosed() || isRelayed(f.s.Conn().RemoteMultiaddr()) && f.w.n.dialer.direct(f.d.peer) {
			return errBetterPath
		}
	}
	idle := time.NewTimer(streamIdle)
	defer idle.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-f.w.more:
		return nil
	case <-f.settled:
		return nil
	case <-idle.C:
		return errIdle
	}
}

// afterRefusal ends the stream, unless there is more to send, such as what was
// sealed anew: what was refused and is still in the queue is not to be sent again
// at once.
func (f *delivery) afterRefusal() error {
	select {
	case <-f.w.more:
		return nil
	default:
		return errRefused
	}
}

// finish lets the reader end.
func (f *delivery) finish(why error) error {
	close(f.sent)
	if errors.Is(why, errIdle) {
		return nil
	}
	return why
}

func (f *delivery) read(ctx context.Context) error {
	for {
		var rows []engine.Queued
		var ok bool
		select {
		case rows, ok = <-f.sent:
			if !ok {
				close(f.ended)
				return nil
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		f.s.SetReadDeadline(time.Now().Add(ackTimeout))
		answer := &wire.Delivered{}
		if err := wire.ReadMsg(f.s, answer); err != nil {
			return fmt.Errorf("wait for acknowledgement: %w", err)
		}
		f.news.Store(time.Now().UnixNano())
		if err := f.settle(ctx, rows, answer); err != nil {
			return err
		}
		f.w.broken = 0
		f.w.flying.Add(-1)
		f.settled.push()
	}
}

// watch closes the connection when no acknowledgement comes and it does not
// answer a ping either. A connection whose other end moved or died looks alive
// for half a minute and more, and libp2p would go on preferring it.
func (f *delivery) watch(ctx context.Context) error {
	look := time.NewTicker(silence / 2)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.ended:
			return nil
		case <-look.C:
		}
		quiet := time.Since(time.Unix(0, f.news.Load()))
		if f.w.flying.Load() == 0 || quiet < silence {
			continue
		}
		if !answers(ctx, f.s.Conn(), silence) {
			f.s.Conn().Close()
			if !isRelayed(f.s.Conn().RemoteMultiaddr()) {
				f.w.n.home.suspect()
			}
			return errConnLost
		}
	}
}

func (f *delivery) settle(ctx context.Context, rows []engine.Queued, answer *wire.Delivered) error {
	codes := answer.GetCodes()
	if len(codes) != len(rows) {
		return fmt.Errorf("the device answered %d of %d envelopes", len(codes), len(rows))
	}
	outcomes := make([]*protocol.Error, len(rows))
	for i, c := range codes {
		if c != 0 {
			outcomes[i] = &protocol.Error{Code: protocol.Code(c)}
		}
	}
	refused, err := f.w.settle(ctx, rows, outcomes, answer.GetBundle(), func(tx store.Tx, ok []protocol.EnvelopeID) (engine.Hint, error) {
		return f.w.n.eng.Delivered(tx, f.w.n.now(), f.w.to, ok, f.via)
	})
	if refused != nil {
		f.refused.Store(true)
	}
	return err
}
