package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

// open makes the folder for what is kept of files, or looks what is in it. Nothing else
// may have begun.
func (f *files) open() (err error) {
	dir := filesDir(f.n.dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder for lists of files: %w", err)
	}
	if f.before, err = os.ReadDir(dir); err != nil {
		return fmt.Errorf("read the folder for lists of files: %w", err)
	}
	return nil
}

// clear does what is left to do for files that are done with, until ctx ends.
func (f *files) clear(ctx context.Context) error {
	if !f.n.home.awaitAsked(ctx) {
		return nil
	}
	for {
		var later <-chan time.Time
		if err := errors.Join(f.sweep(ctx), f.clearAll(ctx)); err != nil && ctx.Err() == nil {
			f.n.log.Warn("what is left of files is not cleared", "err", withoutNames(err))
			later = time.After(againMax)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-f.ends:
		case <-later:
		}
	}
}

// sweep removes what a crash left of files that were not sent in the end, once.
func (f *files) sweep(ctx context.Context) error {
	if len(f.before) == 0 {
		return nil
	}
	kept, err := read(ctx, f.n.kv, f.n.eng.FilesKept)
	if err != nil {
		return fmt.Errorf("read what is kept of files: %w", err)
	}
	used := map[string]bool{}
	for _, e := range kept {
		used[filepath.Base(e.Spool)], used[filepath.Base(f.n.listPath(e.List))] = true, true
	}
	for _, entry := range f.before {
		if !used[entry.Name()] {
			err = errors.Join(err, removeFile(filepath.Join(filesDir(f.n.dir), entry.Name())))
		}
	}
	f.before = nil
	return err
}

// clearAll does all that can be done now, page by page. What fails does not keep the rest.
func (f *files) clearAll(ctx context.Context) (failed error) {
	tried := map[engine.FileEnd]bool{}
	for {
		var ends []engine.FileEnd
		err := f.n.kv.View(ctx, func(tx store.Tx) (err error) {
			ends, err = f.n.eng.FileEnds(tx, func(e engine.FileEnd) bool { return !tried[e] })
			return err
		})
		if err != nil {
			return fmt.Errorf("read what is left to do for files: %w", err)
		}
		if len(ends) == 0 {
			return failed
		}
		for _, e := range ends {
			tried[e] = true
			if !f.claim(e) { // it comes again when that has ended
				continue
			}
			if err := f.clearOne(ctx, e); err != nil {
				failed = err
			}
			f.unclaim(e.FileRef)
		}
	}
}

// claim keeps a file from being fetched while what is left of it is deleted. It returns
// false if it is being fetched, but not into another folder than what is left of it, or
// brought to the rendezvous.
func (f *files) claim(e engine.FileEnd) bool {
	if s := f.storing.Load(); s != nil && s.file == e.FileRef {
		return false
	}
	j := f.job(e.FileRef)
	if j != nil && (e.Part == "" || sameFolder(j.file.Path, e.Part)) {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.jobs[e.FileRef] != j {
		return false
	}
	f.clearing[e.FileRef] = true
	return true
}

// sameFolder tells whether two paths are of one folder.
func sameFolder(a, b string) bool {
	if a == b {
		return true
	}
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}

func (f *files) unclaim(at engine.FileRef) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.clearing, at)
	f.change.push()
}

func (f *files) clearOne(ctx context.Context, e engine.FileEnd) error {
	if e.Part != "" {
		if err := transfer.RemovePart(e.Part, e.Name, f.n.partTag(e.FileRef, e.ID)); err != nil {
			return err
		}
	}
	if e.Spool != "" {
		if err := removeFile(e.Spool); err != nil {
			return err
		}
	}
	if err := f.clearBlob(ctx, e); err != nil {
		return err
	}
	return f.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		used, err := f.n.eng.ListUsed(tx, e.ID, e.List)
		if err == nil && !used && e.List != (file.Hash{}) {
			err = removeFile(f.n.listPath(e.List))
		}
		if err != nil {
			return engine.Hint{}, err
		}
		return f.n.eng.FileEnded(tx, f.n.now(), e)
	})
}

// removeFile removes a file that may be gone.
func removeFile(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove what is left of a file: %w", err)
	}
	return nil
}
