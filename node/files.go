package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

const (
	maxFetches   = 3  // files fetched at a time
	wideSources  = 3  // that one of them asks at once; the others ask one
	maxOpenParts = 16 // files that wait for a source and are not to be checked anew

	slowAfter = 5 * time.Minute // a fetch gives its place to one that waits,
	slowRate  = 64 << 10        // if fewer bytes a second come then
)

// errTurn ends a slow fetch when another waits.
var errTurn = errors.New("it is slow, and others have their turn")

// files fetches what is wanted: the engine's rows say what that is, what lies in the
// folder says how far it came. One job per wanted file; at most maxFetches run.
type files struct {
	n      *Node
	change nudge         // wakes run
	ends   nudge         // wakes clear
	away   nudge         // wakes store
	limit  *rate.Limiter // of what is fetched

	storing atomic.Pointer[storing] // nil: none

	mu       sync.Mutex
	jobs     map[engine.FileRef]*fetchJob
	clearing map[engine.FileRef]bool // what is left of them is being deleted

	before []os.DirEntry // what was in filesDir at the start; owned by clear
}

func newFiles(n *Node, perSecond int64) *files {
	return &files{
		n: n, change: newNudge(), ends: newNudge(), away: newNudge(), limit: bytesPerSecond(perSecond),
		jobs: map[engine.FileRef]*fetchJob{}, clearing: map[engine.FileRef]bool{},
	}
}

// bytesPerSecond is a limit for files; 0: none.
func bytesPerSecond(n int64) *rate.Limiter {
	if n <= 0 {
		return rate.NewLimiter(rate.Inf, transfer.Step)
	}
	return rate.NewLimiter(rate.Limit(n), transfer.Step)
}

// wake says that rows changed.
func (f *files) wake() {
	f.change.push()
	f.ends.push()
	f.away.push()
}

// retry says that something changed that may make what failed work: somebody came
// online, or a connection was made.
func (f *files) retry() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.jobs {
		j.again, j.failures = time.Time{}, 0
	}
	f.wake()
}

// run fetches until ctx ends. It begins when the rendezvous was asked about our store.
func (f *files) run(ctx context.Context) error {
	if !f.n.home.awaitAsked(ctx) {
		return nil
	}
	var running sync.WaitGroup
	defer f.close(&running)
	for {
		next, err := f.round(ctx, &running)
		if err != nil {
			return err
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-f.change:
		case <-timer.C:
		}
		timer.Stop()
		f.n.gives.sweep()
	}
}

// close waits for the jobs that are running and closes what is open.
func (f *files) close(running *sync.WaitGroup) {
	running.Wait()
	f.n.gives.close()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, j := range f.jobs {
		j.closePart()
	}
}

// round ends jobs whose file is not wanted any more, starts others, and returns when the
// next is due.
func (f *files) round(ctx context.Context, running *sync.WaitGroup) (time.Duration, error) {
	var wanted []engine.File
	err := f.n.kv.View(ctx, func(tx store.Tx) (err error) {
		wanted, err = f.n.eng.FilesToFetch(tx)
		return err
	})
	if err != nil {
		if ctx.Err() != nil {
			return 0, nil
		}
		return 0, fmt.Errorf("read which files are wanted: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(wanted)
	start, next := f.pickLocked(wanted)
	for _, j := range start {
		f.startLocked(ctx, j, running)
	}
	return next, nil
}

// pickLocked returns the jobs that are to be started, and when the next is due.
func (f *files) pickLocked(wanted []engine.File) (start []*fetchJob, next time.Duration) {
	jobs := f.jobsLocked(wanted)
	busy, wide, full := 0, false, false
	for _, j := range f.jobs {
		if j.cancel != nil {
			busy, wide = busy+1, wide || j.width > 1
		}
	}
	next = openFileIdle
	for _, j := range jobs {
		switch wait := time.Until(j.again); {
		case j.cancel != nil:
		case wait > 0:
			next = min(next, wait)
		case busy == maxFetches:
			j.waits(fmt.Sprintf("waits for %d others", busy))
			full = true
		default:
			j.width = 1
			if !wide {
				j.width, wide = wideSources, true
			}
			busy++
			start = append(start, j)
		}
	}
	if full {
		f.makeRoomLocked()
	}
	return start, next
}

// jobsLocked returns the jobs of files, and makes those that are not there. Who has not run
// for longest comes first.
func (f *files) jobsLocked(wanted []engine.File) (list []*fetchJob) {
	now := time.Now()
	for _, row := range wanted {
		j := f.jobs[row.FileRef]
		if j == nil {
			if f.clearing[row.FileRef] { // it wakes run
				continue
			}
			j = &fetchJob{
				n: f.n, file: row, since: now, missing: math.MaxInt,
				liars: map[protocol.DeviceID]bool{}, slow: map[protocol.DeviceID]bool{},
			}
			f.jobs[row.FileRef] = j
		}
		list = append(list, j)
	}
	slices.SortStableFunc(list, func(a, b *fetchJob) int { return a.since.Compare(b.since) })
	return list
}

// makeRoomLocked ends the run of the slow job that has run for longest, if there is one.
func (f *files) makeRoomLocked() {
	var slow *fetchJob
	for _, j := range f.jobs {
		if j.cancel != nil && time.Since(j.since) > slowAfter && j.isSlow() && (slow == nil || j.since.Before(slow.since)) {
			slow = j
		}
	}
	if slow != nil {
		slow.cancel(errTurn)
	}
}

// isSlow tells whether less than slowRate comes, after a time to begin. To look at what is
// here, and to give it its name, takes as long as it takes.
func (j *fetchJob) isSlow() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.doing == api.Checking || time.Since(j.began) <= slowAfter || j.started != nil && j.started.Missing() == 0 {
		return false
	}
	rate, _ := j.meter.Rate()
	return rate < slowRate
}

// endLocked ends the jobs of all files but these.
func (f *files) endLocked(wanted []engine.File) {
	keep := make(map[engine.FileRef]string, len(wanted))
	for _, row := range wanted {
		keep[row.FileRef] = row.Path
	}
	for at, j := range f.jobs {
		switch {
		case keep[at] == j.file.Path: // it may be wanted elsewhere by now
		case j.cancel != nil:
			j.cancel(nil) // it comes back to ended
		default:
			j.closePart()
			delete(f.jobs, at)
			f.ends.push()
		}
	}
}

func (f *files) startLocked(ctx context.Context, j *fetchJob, running *sync.WaitGroup) {
	ctx, j.cancel = context.WithCancelCause(ctx)
	j.since = time.Now()
	running.Go(func() {
		err := j.run(ctx)
		if err != nil && errors.Is(context.Cause(ctx), errTurn) {
			err = errTurn
		}
		if noted := f.note(ctx, j, err); noted != nil {
			f.n.log.Error("the end of a file is not noted", "file", j.file.ID, "err", withoutNames(noted))
		}
		f.ended(j, err)
	})
}

// note tells the engine of a file that cannot be fetched. What may work later it is not
// told.
func (f *files) note(ctx context.Context, j *fetchJob, err error) error {
	if err == nil || ctx.Err() != nil || j.worksLater(err) {
		return nil
	}
	return f.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return f.n.eng.FileFailed(tx, f.n.now(), j.file.FileRef, j.problem(tx, err))
	})
}

// worksLater tells whether a fetch that ended so is tried again by itself: not if somebody
// had the file and has it no more as it was, or does not give it any more, and nobody else
// does. A file for which there was room, until something else took that, waits for it; a
// folder of which all is here is not unpacked in vain again and again.
func (j *fetchJob) worksLater(err error) bool {
	switch {
	case errors.Is(err, errNotNoted), errors.Is(err, errTurn):
		return true
	case errors.Is(err, transfer.ErrDiskFull):
		return j.part != nil && j.part.Missing() > 0
	}
	return errors.Is(err, transfer.ErrNoSource) && !errors.Is(err, errChangedThere) && !errors.Is(err, errCancelled)
}

// waitsFor says for the user why a fetch that is tried again waits.
func (j *fetchJob) waitsFor(err error) string {
	why := "who has it does not give it just now"
	switch {
	case errors.Is(err, errTurn):
		why = errTurn.Error()
	case errors.Is(err, transfer.ErrDiskFull):
		why = transfer.ErrDiskFull.Error()
	case errors.Is(err, errNobody) && j.someLied():
		why = "who has it gives something else"
	case errors.Is(err, errNobody):
		why = "nobody who has it is online"
	case errors.Is(err, errNotNoted):
		why = "it is here, and your node could not note that"
	}
	return why + "; it is tried again by itself"
}

// ended takes a job back. It stays if it is to be tried again.
func (f *files) ended(j *fetchJob, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	j.cancel(nil)
	j.cancel, j.since = nil, time.Now()
	f.wake()
	if err == nil || !j.worksLater(err) {
		j.closePart()
		delete(f.jobs, j.file.FileRef)
		return
	}
	j.waits(j.waitsFor(err))
	if j.part != nil && j.part.Missing() < j.missing {
		j.missing, j.failures = j.part.Missing(), 0
	}
	wait := min(againFirst<<min(j.failures, 10), againMax)
	if errors.Is(err, transfer.ErrDiskFull) {
		wait = againMax
	}
	j.again = time.Now().Add(wait)
	j.failures++
	open := 0
	for _, o := range f.jobs {
		if o.cancel == nil && o.part != nil {
			open++
		}
	}
	if open > maxOpenParts {
		j.closePart()
	}
	f.n.log.Debug("a file waits", "file", j.file.ID, "err", err)
}

// job returns the job of a file; nil: none.
func (f *files) job(at engine.FileRef) *fetchJob {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.jobs[at]
}

// progress tells what is done with a file; nil: nothing.
func (f *files) progress(at engine.FileRef) *api.Progress {
	if j := f.job(at); j != nil {
		return j.progress()
	}
	if s := f.storing.Load(); s != nil && s.file == at {
		return s.progress()
	}
	return f.n.gives.progress(at)
}

// busy returns the files that something is done with.
func (f *files) busy() []engine.FileRef {
	list := f.n.gives.refs()
	if s := f.storing.Load(); s != nil {
		list = append(list, s.file)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.AppendSeq(list, maps.Keys(f.jobs))
}

// openPieces opens a file that is here, to be given.
func (f *files) openPieces(row engine.File) (transfer.Pieces, file.List, error) {
	list, err := transfer.LoadList(f.n.listPath(row.List), &row.Descriptor)
	if err != nil {
		return nil, nil, err
	}
	if row.Spool {
		p, err := transfer.OpenSpooled(row.Path, &row.Descriptor, list)
		return p, list, err
	}
	content, _, err := transfer.Open(row.Path)
	if err != nil {
		return nil, nil, err
	}
	p, err := transfer.NewOriginal(content, &row.Descriptor, list)
	if err != nil {
		return nil, nil, errors.Join(err, content.Close())
	}
	return p, list, nil
}
