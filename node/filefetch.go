package node

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

var (
	errNotNoted = errors.New("it is not noted that the file is here") // the store does not know
	errNobody   = fmt.Errorf("nobody who has it is online: %w", transfer.ErrNoSource)
)

// fetchJob is the fetching of one file, until it is here or not wanted any more.
type fetchJob struct {
	n     *Node
	file  engine.File
	meter transfer.Meter

	// These are files's, guarded by its mu.
	cancel   context.CancelCauseFunc // nil: it does not run
	since    time.Time               // it runs, or does not
	width    int                     // how many sources it may ask at once
	again    time.Time               // not to be run before
	failures int
	missing  int // pieces, when it last ended

	part *transfer.Part // open and checked; nil: not. Whoever runs the job owns it, else files

	mu      sync.Mutex
	doing   string                     // as api.Progress tells
	began   time.Time                  // to do it
	checked int64                      // bytes that were looked at
	why     string                     // it waits
	started *transfer.Part             // part, for progress
	liars   map[protocol.DeviceID]bool // theHome among them
	slow    map[protocol.DeviceID]bool
}

// theHome stands for the rendezvous among devices.
var theHome protocol.DeviceID

func (j *fetchJob) does(what string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.doing != what {
		j.began = time.Now()
	}
	j.doing, j.why = what, ""
}

func (j *fetchJob) waits(why string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.doing, j.why = api.Waiting, why
}

func (j *fetchJob) progress() *api.Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := &api.Progress{Doing: j.doing, Waits: j.why}
	switch {
	case j.doing == api.Checking:
		p.Done = j.checked
	case j.started != nil:
		p.Done = j.started.Done()
	}
	if j.doing == api.Fetching {
		rate, path := j.meter.Rate()
		p.Rate, p.Path = int64(rate), path
	}
	return p
}

// run fetches the file from whoever has it. ErrNoSource when nobody is there who gives
// it now.
func (j *fetchJob) run(ctx context.Context) error {
	if j.part != nil && j.part.Missing() == 0 { // what comes after could not be done
		return j.finish(ctx)
	}
	j.waits("looking for who has it")
	err := j.fromDevices(ctx)
	if errors.Is(err, transfer.ErrNoSource) && j.n.home.isUp() && j.n.home.takesBlob(&j.file.Descriptor) && !j.lied(theHome) {
		failed := j.fromHome(ctx)
		if !errors.Is(failed, transfer.ErrNoSource) && !errors.Is(failed, engine.ErrNotFound) {
			err = failed
		}
	}
	if err != nil {
		return err
	}
	return j.finish(ctx)
}

// fromDevices gets what is missing from devices that are there, one group after the other.
func (j *fetchJob) fromDevices(ctx context.Context) error {
	candidates, err := j.candidates(ctx)
	if err != nil {
		return err
	}
	var all error
	for len(candidates) > 0 {
		var sources []transfer.Source
		if sources, candidates = j.reach(ctx, candidates); len(sources) == 0 {
			break
		}
		err := j.fetch(ctx, sources)
		if !errors.Is(err, transfer.ErrNoSource) {
			return err
		}
		all = errors.Join(all, err)
	}
	if all == nil {
		return errNobody
	}
	return all
}

// fetch gets what is missing from sources that are there.
func (j *fetchJob) fetch(ctx context.Context, sources []transfer.Source) error {
	options := transfer.Options{Limit: j.n.files.limit, Meter: &j.meter, Heard: j.heard}
	if j.part == nil {
		list, err := j.list(ctx, sources, options)
		if err != nil {
			return err
		}
		if err := j.openPart(ctx, list); err != nil {
			return err
		}
	}
	j.does(api.Fetching)
	return transfer.Fetch(ctx, j.part, sources, options)
}

// fromHome gets what is missing from the rendezvous, where the author may have put it.
// engine.ErrNotFound if it is not known any more who that is.
func (j *fetchJob) fromHome(ctx context.Context) error {
	by, err := read(ctx, j.n.kv, func(tx store.Tx) (protocol.AccountID, error) { return j.n.files.authorOf(tx, j.file.FileRef) })
	if err != nil {
		return err
	}
	return j.fetch(ctx, []transfer.Source{&storedFile{j.n.home, by, &j.file.Descriptor}})
}

// heard looks after a source that failed.
func (j *fetchJob) heard(s transfer.Source, err error) {
	j.n.log.Debug("a source failed", "file", j.file.ID, "source", s, "err", err)
	who := theHome
	if d, ok := s.(*deviceSource); ok {
		if who = d.d.id; errors.Is(err, transfer.ErrStalled) {
			j.n.dialer.doubt(d.d, stallDoubt)
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case errors.Is(err, file.ErrWrongPiece), errors.Is(err, file.ErrMalformed):
		j.liars[who] = true
	case errors.Is(err, transfer.ErrSlow):
		j.slow[who] = true
	}
}

// someLied tells whether anybody gave something else than the file.
func (j *fetchJob) someLied() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.liars) > 0
}

// lied tells whether a device gave something else than the file. It is not asked again.
func (j *fetchJob) lied(d protocol.DeviceID) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.liars[d]
}

// list reads the list of the pieces, or gets it and keeps it.
func (j *fetchJob) list(ctx context.Context, sources []transfer.Source, o transfer.Options) (file.List, error) {
	path := j.n.listPath(j.file.List)
	if list, err := transfer.LoadList(path, &j.file.Descriptor); err == nil {
		return list, nil
	}
	list, err := transfer.FetchList(ctx, &j.file.Descriptor, sources, o)
	if err != nil || j.file.Inline != nil {
		return list, err
	}
	return list, transfer.SaveList(path, list)
}

// openPart opens what is here of the file, and checks it.
func (j *fetchJob) openPart(ctx context.Context, list file.List) error {
	part, err := transfer.OpenPart(j.file.Path, j.n.partTag(j.file.FileRef, j.file.ID), &j.file.Descriptor, list)
	if err != nil {
		return err
	}
	j.does(api.Checking)
	err = part.Check(ctx, func(done int64) {
		j.mu.Lock()
		defer j.mu.Unlock()
		j.checked = max(j.checked, done)
	})
	if err != nil {
		return errors.Join(err, part.Close())
	}
	j.part = part
	j.mu.Lock()
	defer j.mu.Unlock()
	j.started = part
	return nil
}

// partTag names what is received of the file of a message. Its id alone does not: the author
// chose it, and another may choose the same; nor does the place of the message alone, if two
// nodes receive into one folder.
func (n *Node) partTag(at engine.FileRef, id protocol.FileID) string {
	hash := sha256.Sum256(fmt.Appendf(nil, "%s %s %d", n.self.Device, at.With, at.Position))
	return id.String() + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(hash[:8]))
}

func (j *fetchJob) closePart() {
	if j.part == nil {
		return
	}
	if err := j.part.Close(); err != nil {
		j.n.log.Warn("what was received of a file is not closed", "file", j.file.ID, "err", withoutNames(err))
	}
	j.part = nil
}

// finish gives the file its name, and notes where it is. The hidden file goes after that
// (clear), so that after a crash all of this can be done again.
func (j *fetchJob) finish(ctx context.Context) error {
	path, err := j.part.Finish(ctx)
	if err != nil {
		return err
	}
	err = j.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return j.n.eng.FileDone(tx, j.n.now(), j.file.FileRef, path)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", errNotNoted, err)
	}
	return nil
}

// problem says for the user why the file cannot be fetched.
func (j *fetchJob) problem(tx store.Tx, err error) string {
	switch {
	case errors.Is(err, errCancelled):
		by, failed := j.n.files.authorOf(tx, j.file.FileRef)
		if failed != nil {
			return errCancelled.Error()
		}
		return j.n.names(tx).in(j.file.With, by) + " cancelled it"
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Sprintf("the folder %s is not there any more: make it, or take another: parley file accept ID --to FOLDER", j.file.Path)
	}
	return problemOf(err)
}

// candidates are those that may have the file, the likeliest first, and of them first
// who is connected, and last who was slow. Who is known to be offline is none.
func (j *fetchJob) candidates(ctx context.Context) (list []device, err error) {
	var ids []protocol.DeviceID
	err = j.n.kv.View(ctx, func(tx store.Tx) (err error) {
		ids, err = j.n.eng.FileSources(tx, j.n.now(), j.file.FileRef)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read who may have the file: %w", err)
	}
	for _, id := range ids {
		d, ok := j.n.gate.device(id)
		if !ok || j.lied(id) {
			continue
		}
		online, known := j.n.home.presence.of(d.account)
		told := known && !d.mate && d.account != j.n.self.Account
		if online || !told || j.n.dialer.connected(d.peer) {
			list = append(list, d)
		}
	}
	slices.SortStableFunc(list, func(a, b device) int { return j.rank(a) - j.rank(b) })
	return list, nil
}

func (j *fetchJob) rank(d device) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.slow[d.id]:
		return 2
	case j.n.dialer.connected(d.peer):
		return 0
	}
	return 1
}

// reach connects to as many candidates as are asked at once, and returns the others.
func (j *fetchJob) reach(ctx context.Context, candidates []device) (sources []transfer.Source, rest []device) {
	for len(candidates) > 0 && len(sources) < j.width && ctx.Err() == nil {
		d := candidates[0]
		candidates = candidates[1:]
		if err := j.n.dialer.dial(ctx, d); err != nil {
			j.n.log.Debug("a source is not reached", "file", j.file.ID, "device", d.id, "err", err)
			continue
		}
		sources = append(sources, &deviceSource{n: j.n, d: d, file: &j.file})
	}
	return sources, candidates
}
