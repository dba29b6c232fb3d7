package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/protocol/file"
)

const (
	// MaxRequest is how many pieces are asked for at a time. The next request of a
	// transfer takes the best way there is by then.
	MaxRequest = 16

	// Requests is how many requests one source has at a time: while one is answered
	// the next is on its way. Each holds one piece in memory.
	Requests = 2

	// Step is how many bytes are read or given at a time, and so the least burst of a
	// limit.
	Step = 64 << 10

	beginWithin = 30 * time.Second // to find a way to a source, and for its answer to begin
	stallAfter  = 20 * time.Second // without a byte
	pieceWithin = 10 * time.Minute // that it is waited for the bytes of a piece: less than 2 KiB a second
)

var (
	// ErrGone is what a Source says that does not have the file, or not any more, or
	// not for us. It is not asked again.
	ErrGone = errors.New("the file is not to be had there")

	// ErrStalled is why a request was ended in which no byte came for a while. The
	// source is asked again, on a way it finds anew.
	ErrStalled = errors.New("nothing came in time")

	// ErrSlow is why a source was left that gives something now and then, so that a
	// piece takes longer than pieceWithin. It is not asked again: others may wait.
	ErrSlow = errors.New("it is too slow")

	// ErrNoSource is returned when none of the sources has given what is missing.
	ErrNoSource = errors.New("nobody gives the rest of the file just now")
)

// Source is where sealed pieces come from. It is asked by several at once, and trusted
// with nothing: what it gives is compared with the list.
type Source interface {
	// Pieces asks for count pieces from first on, at most MaxRequest: the answer is
	// them, sealed, one behind another. It ends with ctx.
	Pieces(ctx context.Context, first, count int) (Answer, error)

	// List asks for the list of the pieces.
	List(ctx context.Context) (Answer, error)

	fmt.Stringer // for the log
}

// Answer is what a Source sends. Close may come at any time, also twice.
type Answer struct {
	io.ReadCloser
	Path string // the way it comes, as users are told: direct, relayed, stored
}

// Options say how to fetch. The zero value is a good one.
type Options struct {
	Limit *rate.Limiter       // bytes per second; its burst is at least Step; nil: none
	Meter *Meter              // nil: nothing is measured
	Heard func(Source, error) // told why a request ended that gave not all; nil: nobody
}

// Fetch gets the missing pieces of a file from several sources at once. A source that
// gives a wrong piece, says ErrGone, or is too slow is not asked again; one that stalls
// is. It returns nil when nothing is missing; ErrNoSource with the reasons of each;
// what Part.Write returned, if no source can help; or the cause of the context's end. What
// was fetched until then stays. It can be called again. If there is no room for a piece
// nobody is asked: ErrDiskFull.
func Fetch(ctx context.Context, p *Part, sources []Source, o Options) error {
	if p.Missing() == 0 {
		return nil
	}
	if err := p.room(min(file.PieceSize, p.d.Size-p.Done())); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	f := &fetch{part: p, opts: o, queue: newQueue(p), end: cancel}
	var workers sync.WaitGroup
	var all []*supply
	for _, s := range sources {
		s := newSupply(ctx, s)
		all = append(all, s)
		for range Requests {
			workers.Go(func() { f.draw(s) })
		}
	}
	workers.Wait()
	cause := context.Cause(ctx)
	here, ok := errors.AsType[unwritten](cause)
	switch {
	case p.Missing() == 0:
		return nil
	case ok:
		return here.error
	case cause != nil:
		return cause
	}
	err := ErrNoSource
	for _, s := range all {
		err = fmt.Errorf("%w; %s: %w", err, s, context.Cause(s.ctx))
	}
	return err
}

// FetchList gets the list of the file that d describes from the first source that has
// it.
func FetchList(ctx context.Context, d *file.Descriptor, sources []Source, o Options) (file.List, error) {
	if d.Inline != nil {
		return d.Inline, nil
	}
	err := ErrNoSource
	for _, s := range sources {
		b := make([]byte, file.PieceCount(d.Size)*len(file.Hash{}))
		failed := o.ask(ctx, s.List, func(in *stream) error { return in.fill(b) })
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if failed == nil {
			var l file.List
			if l, failed = file.ParseList(b, d.Size); failed == nil {
				failed = d.CheckList(l)
			}
			if failed == nil {
				return l, nil
			}
		}
		o.heard(s, failed)
		err = fmt.Errorf("%w; %s: %w", err, s, failed)
	}
	return nil, err
}

func (o *Options) heard(s Source, err error) {
	if o.Heard != nil {
		o.Heard(s, err)
	}
}

// fetch is one call of Fetch.
type fetch struct {
	part  *Part
	opts  Options
	queue *queue
	end   context.CancelCauseFunc // of all that is running
}

var errWhole = errors.New("nothing is missing")

// draw asks a source for one piece of work after the other, until nothing is missing or
// it is of no use.
func (f *fetch) draw(s *supply) {
	buf := make([]byte, file.SealedPieceSize)
	for {
		s.rest()
		r := f.queue.take(s)
		if r == nil {
			return
		}
		err := f.request(s, r, buf)
		f.queue.release(r)
		if err == nil {
			continue
		}
		if s.ctx.Err() == nil {
			f.opts.heard(s.Source, err)
		}
		switch {
		case isHere(err):
			f.end(err)
		case errors.Is(err, file.ErrWrongPiece), errors.Is(err, ErrGone), errors.Is(err, ErrSlow):
			s.drop(err)
		default:
			s.failed(err)
		}
	}
}

// unwritten is an error of this end: other sources do not help.
type unwritten struct{ error }

func (u unwritten) Unwrap() error { return u.error }

func isHere(err error) bool {
	_, ok := errors.AsType[unwritten](err)
	return ok
}

// request gets the pieces of one request.
func (f *fetch) request(s *supply, r *request, buf []byte) error {
	ask := func(ctx context.Context) (Answer, error) { return s.Pieces(ctx, r.first, r.count) }
	return f.opts.ask(s.ctx, ask, func(in *stream) error {
		for k := r.first; f.queue.wants(r, k); k++ {
			sealed := buf[:file.SealedLen(f.part.d.Size, k)]
			if err := in.fill(sealed); err != nil {
				return err
			}
			err := f.part.Write(k, sealed)
			switch {
			case errors.Is(err, file.ErrWrongPiece):
				return err
			case err != nil:
				return unwritten{err}
			}
			s.worked()
			if f.part.Missing() == 0 {
				f.end(errWhole)
			}
		}
		return nil
	})
}

// ask sends one request and reads its answer. It ends with ErrStalled when nothing comes.
func (o *Options) ask(ctx context.Context, request func(context.Context) (Answer, error), read func(*stream) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	silence := time.AfterFunc(beginWithin, func() { stop(ErrStalled) })
	defer silence.Stop()
	answer, err := request(ctx)
	if err == nil {
		defer answer.Close()
		defer context.AfterFunc(ctx, func() { answer.Close() })()
		err = read(&stream{ctx, answer, silence, o})
	}
	if err != nil && errors.Is(context.Cause(ctx), ErrStalled) {
		return ErrStalled
	}
	return err
}

// stream reads an answer: no faster than it may, and no longer than something comes.
type stream struct {
	ctx     context.Context
	answer  Answer
	silence *time.Timer
	opts    *Options
}

// fill reads all of b: a piece, or a list, which may be longer.
func (s *stream) fill(b []byte) error {
	patience := pieceWithin * time.Duration(1+len(b)>>21)
	for len(b) > 0 {
		if err := s.ctx.Err(); err != nil {
			return err
		}
		began := time.Now()
		s.silence.Reset(stallAfter)
		n, err := s.answer.Read(b[:min(len(b), Step)])
		s.silence.Stop()
		if s.opts.Meter != nil {
			s.opts.Meter.Add(n, s.answer.Path)
		}
		if b = b[n:]; err != nil && len(b) > 0 {
			return fmt.Errorf("read an answer: %w", err)
		}
		if patience -= time.Since(began); patience < 0 && len(b) > 0 {
			return ErrSlow
		}
		if s.opts.Limit == nil {
			continue
		}
		if err := s.opts.Limit.WaitN(s.ctx, n); err != nil {
			return fmt.Errorf("wait for the limit of the rate: %w", err)
		}
	}
	return nil
}
