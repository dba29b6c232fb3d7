package badger

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/dgraph-io/badger/v4"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/store"
)

// TestDiskFull: writes that grow the store stop first, then all writes; what
// is stored can be read throughout; and all is well when there is space again.
func TestDiskFull(t *testing.T) {
	var free atomic.Int64
	disk := func(string) (int64, int64) { return free.Load(), 1 << 40 }
	free.Store(1 << 30)
	db, err := Open(Options{Dir: t.TempDir(), MinFree: 100 << 20, Ballast: -1, disk: disk})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	grow := func(tx store.Tx) error { return tx.Set([]byte("new"), make([]byte, 10<<10)) }
	add := func(tx store.Tx) error { return tx.Set([]byte("small"), nil) }
	ack := func(tx store.Tx) error {
		return errors.Join(tx.Delete([]byte("new")), tx.Set([]byte("counter"), []byte{1}))
	}
	refuse := func(store.Tx) error { return store.ErrReadOnly }
	for i, c := range []struct {
		free   int64
		fn     func(store.Tx) error
		want   error
		stored bool // whether "new" is there afterwards
	}{
		{1 << 30, grow, nil, true},
		{99 << 20, grow, store.ErrFull, true},
		{99 << 20, add, store.ErrFull, true},
		{99 << 20, refuse, store.ErrReadOnly, true},
		{99 << 20, ack, nil, false},
		{49 << 20, ack, store.ErrFull, false},
		{99 << 20, grow, store.ErrFull, false},
		{101 << 20, grow, nil, true},
	} {
		free.Store(c.free)
		if err := db.Update(t.Context(), c.fn); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("step %d: %v, want %v", i, err, c.want)
		}
		err := db.View(t.Context(), func(tx store.Tx) error {
			_, err := tx.Get([]byte("new"))
			return err
		})
		if stored := err == nil; stored != c.stored {
			t.Errorf("step %d: stored %v (%v), want %v", i, stored, err, c.stored)
		}
	}
}

// TestAckOnFullDisk: acknowledging mail of many senders writes a counter for
// each, and makes room all the same.
func TestAckOnFullDisk(t *testing.T) {
	var free atomic.Int64
	free.Store(1 << 30)
	disk := func(string) (int64, int64) { return free.Load(), 1 << 40 }
	db, err := Open(Options{Dir: t.TempDir(), MinFree: 100 << 20, Ballast: -1, disk: disk})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ack := func(value int) func(store.Tx) error {
		return func(tx store.Tx) error {
			for i := range byte(100) {
				err := errors.Join(tx.Delete([]byte{'m', i}), tx.Delete([]byte{'w', i}), tx.Set([]byte{'f', i}, make([]byte, value)))
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	free.Store(99 << 20)
	if err := db.Update(t.Context(), ack(100)); err != nil {
		t.Errorf("acknowledge: %v", err)
	}
	if err := db.Update(t.Context(), ack(1000)); !errors.Is(err, store.ErrFull) {
		t.Errorf("writes more than it deletes: %v, want ErrFull", err)
	}
}

func TestBallast(t *testing.T) {
	dir := t.TempDir()
	free := int64(1 << 30)
	reopen := func(now int64) bool {
		t.Helper()
		free = now
		db, err := Open(Options{
			Dir: dir, MinFree: 1 << 20, Ballast: 4 << 20, Log: slog.New(slog.DiscardHandler),
			disk: func(string) (int64, int64) { return free, 1 << 40 },
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, ballastName))
		return err == nil && info.Size() == 4<<20 && info.Sys().(*syscall.Stat_t).Blocks*512 >= 4<<20 // no holes
	}
	for i, c := range []struct {
		free int64
		want bool
	}{
		{5<<20 - 1, false}, // too little to make it
		{5 << 20, true},
		{4 << 20, true},  // enough to open without giving it up
		{3 << 20, false}, // given up
		{1 << 30, true},
	} {
		if got := reopen(c.free); got != c.want {
			t.Errorf("step %d: ballast there %v, want %v", i, got, c.want)
		}
	}
	if err := os.Truncate(filepath.Join(dir, ballastName), 100); err != nil { // a crash while making it
		t.Fatal(err)
	}
	if !reopen(1 << 30) {
		t.Error("a part of the ballast was not made whole")
	}
}

// TestCommitFails: after a commit that failed nothing is written any more.
func TestCommitFails(t *testing.T) {
	db, err := Open(Options{Dir: t.TempDir(), Ballast: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	write := func(tx store.Tx) error { return tx.Set([]byte("a"), nil) }
	if err := db.Update(t.Context(), write); err != nil {
		t.Fatal(err)
	}
	if err := db.badger.Close(); err != nil { // pull the disk
		t.Fatal(err)
	}
	for range 2 {
		if err := db.Update(t.Context(), write); !errors.Is(err, store.ErrFailed) {
			t.Errorf("update: %v, want ErrFailed", err)
		}
	}
	if err := db.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// TestRowChecksum: a value that changed on disk is not returned.
func TestRowChecksum(t *testing.T) {
	db, err := Open(Options{Dir: t.TempDir(), Ballast: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	good := seal(rowKey([]byte("a")), []byte("value"))
	for name, row := range map[string][]byte{
		"value":   append([]byte("Value"), good[5:]...),
		"key":     seal(rowKey([]byte("b")), []byte("value")),
		"nothing": {},
	} {
		err := db.badger.Update(func(txn *badger.Txn) error { return txn.Set(rowKey([]byte("a")), row) })
		if err != nil {
			t.Fatal(err)
		}
		err = db.View(t.Context(), func(tx store.Tx) error {
			if _, err := tx.Get([]byte("a")); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("%s changed: get returns %v", name, err)
			}
			for pair, err := range tx.Scan(nil, nil) {
				if !errors.Is(err, store.ErrDamaged) {
					t.Errorf("%s changed: scan yields %q, %v", name, pair.Value, err)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestCloseEndsEverything: no goroutine is left, neither ours nor Badger's.
func TestCloseEndsEverything(t *testing.T) {
	before := goleak.IgnoreCurrent()
	db, err := Open(Options{Dir: t.TempDir(), Ballast: -1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Set([]byte("a"), nil) }); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, before)
}
