package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

// storeAgain is how long a file that the rendezvous refused is not brought again.
const storeAgain = 10 * time.Minute

// store brings files to the rendezvous whose recipients are away, one after the other,
// until ctx ends.
func (f *files) store(ctx context.Context) error {
	refused := map[engine.FileRef]time.Time{} // by when; only of files that are still to be stored
	for {
		var later <-chan time.Time
		switch again, err := f.storeAll(ctx, refused); {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			f.n.log.Debug("files are not brought to the rendezvous", "err", err)
			later = time.After(againMax)
		case again:
			later = time.After(storeAgain)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.away:
		case <-later:
		}
	}
}

// storeAll tells whether there are files that were refused, to be brought later.
func (f *files) storeAll(ctx context.Context, refused map[engine.FileRef]time.Time) (again bool, err error) {
	if !f.n.home.isUp() {
		return false, nil // retry comes with it
	}
	var rows []engine.File
	err = f.n.kv.View(ctx, func(tx store.Tx) (err error) {
		rows, err = f.n.eng.FilesToStore(tx, f.n.now())
		return err
	})
	if err != nil {
		return false, fmt.Errorf("read which files are to be stored: %w", err)
	}
	waiting := map[engine.FileRef]bool{}
	for _, row := range rows {
		waiting[row.FileRef] = true
	}
	for at := range refused {
		if !waiting[at] {
			delete(refused, at)
		}
	}
	for _, row := range rows {
		if !f.n.home.takesBlob(&row.Descriptor) || time.Since(refused[row.FileRef]) < storeAgain {
			again = again || !refused[row.FileRef].IsZero()
			continue
		}
		to, away, err := f.audience(ctx, row)
		if err == nil && away {
			err = f.storeOne(ctx, row, to)
		}
		if errors.Is(err, ErrOffline) || ctx.Err() != nil {
			return again, err
		}
		if err != nil {
			f.n.log.Info("a file is not stored at the rendezvous", "file", row.ID, "err", withoutNames(err))
			refused[row.FileRef], again = time.Now(), true
		}
	}
	return again, nil
}

// audience tells who may get a file, and whether it is of use to store it: a contact is
// away, or it is in a room, where somebody always is.
func (f *files) audience(ctx context.Context, row engine.File) (to blobAudience, away bool, err error) {
	err = f.n.kv.View(ctx, func(tx store.Tx) error {
		room, err := f.roomOf(tx, row.FileRef)
		if err == nil {
			to.room = room
		}
		return err
	})
	if !errors.Is(err, engine.ErrNoRoom) {
		return to, true, err
	}
	online, known := f.n.home.presence.of(row.With)
	to.accounts = []protocol.AccountID{row.With}
	return to, known && !online, nil
}

// roomOf returns the room of a file; engine.ErrNoRoom if a contact sent it or got it.
func (f *files) roomOf(tx store.Tx, at engine.FileRef) (protocol.RoomID, error) {
	r, err := f.n.eng.Room(tx, f.n.now(), protocol.RoomID(at.With))
	return r.ID, err
}

// storeOne brings a file to the rendezvous and notes that it is there. It ends when that is
// not to be stored any more: what is there of it by then is taken back by clear, which waits
// for this.
func (f *files) storeOne(ctx context.Context, row engine.File, to blobAudience) error {
	pieces, list, err := f.openPieces(row)
	if err != nil {
		return f.n.gives.lost(row, err)
	}
	defer pieces.Close()
	f.storing.Store(&storing{file: row.FileRef})
	defer f.ends.push()
	defer f.storing.Store(nil)
	if err := f.mayStore(ctx, row.FileRef); err != nil {
		return ignoreUnwanted(err)
	}
	upload, stop := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { stop(f.untilUnwanted(upload, row.FileRef)) })
	until, err := f.n.home.putBlob(upload, to, &row.Descriptor, list, pieces, func(done int64) {
		f.storing.Store(&storing{row.FileRef, min(done, row.Size)})
	})
	stop(nil)
	watch.Wait()
	if why := context.Cause(upload); why != context.Canceled {
		return ignoreUnwanted(why)
	}
	if errors.Is(err, file.ErrChanged) {
		return f.n.gives.lost(row, err)
	}
	if err != nil {
		return err
	}
	return f.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return f.n.eng.FileStored(tx, f.n.now(), row.FileRef, until)
	})
}

// mayStore notes that a file is about to be brought to the rendezvous, or goes on to be;
// engine.ErrFileState if nobody wants that any more.
func (f *files) mayStore(ctx context.Context, at engine.FileRef) error {
	return f.n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return f.n.eng.FileStoring(tx, f.n.now(), at) })
}

// untilUnwanted looks, while a file is brought to the rendezvous, whether it still is to be.
func (f *files) untilUnwanted(ctx context.Context, at engine.FileRef) error {
	woken := false
	defer func() {
		if woken { // what else there is to store is for store to see
			f.away.push()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.away:
			woken = true
			if err := f.mayStore(ctx, at); err != nil {
				return err
			}
		}
	}
}

func ignoreUnwanted(err error) error {
	if errors.Is(err, engine.ErrFileState) {
		return nil
	}
	return err
}

// storing is the file that is being brought to the rendezvous.
type storing struct {
	file engine.FileRef
	done int64
}

func (s *storing) progress() *api.Progress { return &api.Progress{Doing: api.Storing, Done: s.done} }

// authorOf returns who sent a file; ErrNotFound if that is not known any more.
func (f *files) authorOf(tx store.Tx, at engine.FileRef) (protocol.AccountID, error) {
	row, err := f.n.eng.File(tx, at)
	if err != nil || row.Mine {
		return f.n.self.Account, err
	}
	room, err := f.roomOf(tx, at)
	if errors.Is(err, engine.ErrNoRoom) {
		return row.With, nil
	}
	if err == nil {
		var by protocol.AccountID
		if by, err = f.n.eng.RoomAuthor(tx, f.n.now(), room, row.Device); err == nil {
			return by, nil
		}
	}
	return protocol.AccountID{}, fmt.Errorf("find who sent a file: %w", err)
}

// clearBlob tells the rendezvous what is left to tell of a file that is done with.
func (f *files) clearBlob(ctx context.Context, e engine.FileEnd) error {
	switch e.Blob {
	case engine.BlobDrop:
		return f.n.home.dropBlob(ctx, e.ID)
	case engine.BlobTaken:
		by, err := read(ctx, f.n.kv, func(tx store.Tx) (protocol.AccountID, error) { return f.authorOf(tx, e.FileRef) })
		if errors.Is(err, engine.ErrNotFound) { // its time there will be over
			return nil
		}
		if err != nil {
			return err
		}
		return f.n.home.takenBlob(ctx, by, e.ID)
	}
	return nil
}
