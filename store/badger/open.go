// Package badger is the durable store.KV of one process, on Badger.
//
// What it adds to Badger: every commit is synced before it is answered, and
// updates side by side share one commit (commit.go); a nearly full disk refuses
// writes instead of killing the process (space.go); damage is noticed
// (verify.go, tx.go); one process holds the store, also while Badger is not open
// yet (dirlock).
//
// Open a Badger directory only through this package. File bodies do not belong
// here: values stay below Badger's value threshold, so that nothing ever goes
// to its value log, whose sync errors Badger ignores and which would need
// garbage collection. Badger's lock guard is never bypassed.
package badger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/dirlock"
	"github.com/parley-chat/parley/store/disk"
)

// Options say where the store is and how careful it is. Only Dir is required.
type Options struct {
	Dir string // created if it is not there; nothing else may live in it

	// MinFree is how many bytes must be free on the disk for writes that grow
	// the store; below half of it nothing is written. Compaction needs as much
	// in passing. Zero means 256 MiB, or a quarter of a disk below 1 GiB.
	MinFree int64

	// Ballast is the size of a file that is given up when the disk is full,
	// because Badger needs space even to open: for its log, and to compact
	// right away. Zero means 128 MiB, or an eighth of a disk below 1 GiB;
	// negative means none.
	Ballast int64

	Log *slog.Logger // nil means slog.Default()

	disk func(dir string) (free, total int64) // nil means the real one
}

const (
	memtable = 16 << 20 // bytes; Badger's transactions are at most 15 % of it

	tidyEvery = time.Minute
)

// DB is an open store. It runs one goroutine of its own, until Close.
type DB struct {
	dir     string
	log     *slog.Logger
	disk    func(string) (free, total int64)
	minFree int64
	ballast int64

	lock    *os.File
	counter *counter
	badger  *badger.DB

	life   sync.RWMutex // held for reading by every call, so that Close waits
	closed bool         // guarded by life

	turn   chan struct{} // holds a token while somebody uses the three below
	open   *batch        // the one updates join; nil when nothing happens
	failed error         // of the first commit that failed
	recent recent        // rows of the latest commits

	wake    chan struct{} // there is an open batch; holds one
	stopped chan struct{} // closed when the committer has ended
}

var _ store.KV = (*DB)(nil)

// Open opens or creates a store. Errors: store.ErrLocked when another process
// holds it, store.ErrDamaged when something is missing or was changed.
func Open(o Options) (*DB, error) {
	db := &DB{
		dir:     o.Dir,
		log:     cmp.Or(o.Log, slog.Default()),
		disk:    o.disk,
		turn:    make(chan struct{}, 1),
		wake:    make(chan struct{}, 1),
		stopped: make(chan struct{}),
	}
	if db.disk == nil {
		db.disk = disk.Space
	}
	if err := db.start(o); err != nil {
		db.release()
		return nil, fmt.Errorf("open store %s: %w", o.Dir, err)
	}
	go db.commitLoop()
	return db, nil
}

func (db *DB) start(o Options) error {
	if err := os.MkdirAll(db.dir, 0o700); err != nil {
		return err
	}
	if err := os.Chmod(db.dir, 0o700); err != nil { // whatever the umask
		return err
	}
	var err error
	db.lock, err = dirlock.Take(db.dir)
	if errors.Is(err, dirlock.ErrHeld) {
		return fmt.Errorf("%w: %w", store.ErrLocked, err)
	}
	if err != nil {
		return err
	}
	db.planSpace(o)
	db.shedBallast()
	if err := verifyTables(db.dir); err != nil {
		return err
	}
	if db.badger, err = openBadger(badgerOptions(db.dir, db.log)); err != nil {
		return err
	}
	if db.counter, err = openCounter(db.dir, db.badger); err != nil {
		return err
	}
	db.tidy()
	return nil
}

// badgerOptions keep every acknowledged commit, and keep the process small:
// 16 MiB memtables, no caches (blocks are read from the mapped file; envelopes
// do not compress), few tables. Conflict detection is off because there is one
// writer. Checksums of tables are verified by verifyTables and those of values
// by tx, because Badger skips a damaged table and goes on.
func badgerOptions(dir string, log *slog.Logger) badger.Options {
	return badger.DefaultOptions(dir).
		WithSyncWrites(true).
		WithDetectConflicts(false).
		WithMemTableSize(memtable).
		WithNumMemtables(2).
		WithNumLevelZeroTables(2).
		WithNumLevelZeroTablesStall(8).
		WithNumCompactors(2).
		WithValueLogFileSize(64 << 20).
		WithValueThreshold(1 << 20).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithMetricsEnabled(false).
		WithLogger(logger{log})
}

func openBadger(o badger.Options) (db *badger.DB, err error) {
	defer damaged(&err)
	db, err = badger.Open(o)
	if err != nil {
		return nil, openError(err)
	}
	return db, nil
}

// openError sorts Badger's errors by their text: Badger does not wrap causes.
// What the system refused is passed on; all else means damage.
func openError(err error) error {
	for text, kind := range map[string]error{
		"Another process is using": store.ErrLocked,
		syscall.ENOSPC.Error():     store.ErrFull,
		syscall.EACCES.Error():     os.ErrPermission,
		syscall.EMFILE.Error():     syscall.EMFILE,
		syscall.ENFILE.Error():     syscall.ENFILE,
		syscall.ENOMEM.Error():     syscall.ENOMEM,
	} {
		if strings.Contains(err.Error(), text) {
			return fmt.Errorf("%w: %v", kind, err)
		}
	}
	return fmt.Errorf("%w: %v", store.ErrDamaged, err)
}

// Close implements store.KV. It waits for the updates that run.
func (db *DB) Close() error {
	db.life.Lock()
	defer db.life.Unlock()
	if db.closed {
		return nil
	}
	db.closed = true
	close(db.wake)
	<-db.stopped
	return db.release()
}

// release closes what start opened, as far as it got.
func (db *DB) release() error {
	var errs []error
	if db.badger != nil {
		errs = append(errs, db.badger.Close())
		db.restrictFiles()
	}
	if db.counter != nil {
		errs = append(errs, db.counter.file.Close())
	}
	if db.lock != nil {
		errs = append(errs, db.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// tidy runs when the store is opened and every minute after.
func (db *DB) tidy() {
	db.restrictFiles()
	db.makeBallast()
}

// restrictFiles takes the rights of others from files that Badger created with
// 0644. The directory is 0700, so this is the second lock on the door.
func (db *DB) restrictFiles() {
	entries, err := os.ReadDir(db.dir)
	if err != nil {
		db.log.Warn("list store directory", "err", err)
		return
	}
	for _, entry := range entries {
		info, err := entry.Info() // an error: compaction removed the file meanwhile
		if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
			continue
		}
		if err := os.Chmod(filepath.Join(db.dir, entry.Name()), 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
			db.log.Warn("restrict store file", "err", err)
		}
	}
}

// logger passes Badger's warnings on; its progress reports are of no use.
type logger struct{ log *slog.Logger }

func (l logger) Errorf(format string, args ...any)   { l.print(slog.LevelError, format, args) }
func (l logger) Warningf(format string, args ...any) { l.print(slog.LevelWarn, format, args) }
func (l logger) Infof(string, ...any)                {}
func (l logger) Debugf(string, ...any)               {}

func (l logger) print(level slog.Level, format string, args []any) {
	l.log.Log(context.Background(), level, strings.TrimSpace(fmt.Sprintf(format, args...)), "from", "badger")
}
