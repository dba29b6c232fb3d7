package badger

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/parley-chat/parley/store"
)

// Badger opens a damaged store without a word in most cases: it leaves out a
// table with a wrong checksum, cuts a log at the first bad entry, and starts
// empty when its manifest says so. Two checks find that:
//
//   - the checksums of all tables are verified before Badger sees them;
//   - each commit is counted in the store and, after it is durable, in a small
//     file beside it. The store must never have fewer than the file.

// damaged turns a panic of Badger over broken data into ErrDamaged. Defer it
// only around Badger's code, never around a caller's.
func damaged(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: badger: %v", store.ErrDamaged, p)
	}
}

// verifyTables reads every table that the manifest names.
func verifyTables(dir string) error {
	file, err := os.Open(filepath.Join(dir, badger.ManifestFilename))
	if errors.Is(err, fs.ErrNotExist) {
		return verifyNew(dir)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	manifest, _, err := badger.ReplayManifestFile(file, 0, badger.DefaultOptions(dir))
	if err != nil {
		return fmt.Errorf("%w: %v", store.ErrDamaged, err)
	}
	for id, t := range manifest.Tables {
		if err := verifyTable(table.NewFilename(id, dir), t); err != nil {
			return fmt.Errorf("table %d: %w", id, err)
		}
	}
	return nil
}

// verifyNew makes sure that a store without manifest is empty: Badger would
// delete the tables.
func verifyNew(dir string) error {
	for _, pattern := range []string{"*.sst", "*.mem"} {
		if files, _ := filepath.Glob(filepath.Join(dir, pattern)); len(files) > 0 {
			return fmt.Errorf("%w: the manifest is missing", store.ErrDamaged)
		}
	}
	return nil
}

func verifyTable(path string, m badger.TableManifest) (err error) {
	defer damaged(&err)
	file, err := z.OpenMmapFile(path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("%w: %v", store.ErrDamaged, err)
	}
	t, err := table.OpenTable(file, table.Options{
		ReadOnly:    true,
		ChkMode:     options.OnTableRead,
		Compression: m.Compression,
		BlockSize:   4 << 10,
	})
	if err != nil {
		return fmt.Errorf("%w: %v", store.ErrDamaged, err)
	}
	return t.Close(-1)
}

// counter is the number of commits, in the store and in a file.
//
//	0  8  magic and version
//	8  8  commits, big-endian
type counter struct {
	file    *os.File
	commits uint64 // owned by the committer
}

const (
	counterName  = "commits"
	counterMagic = "parleyk1"
)

var counterKey = []byte{0} // rows of users start with userPrefix

func openCounter(dir string, db *badger.DB) (*counter, error) {
	file, err := os.OpenFile(filepath.Join(dir, counterName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	c := &counter{file: file}
	if err := c.compare(db); err != nil {
		file.Close()
		return nil, err
	}
	return c, c.write()
}

// compare reads both counters; the store's is the one that counts.
func (c *counter) compare(db *badger.DB) error {
	var noted uint64
	buf := make([]byte, 16)
	switch n, _ := c.file.ReadAt(buf, 0); {
	case n == 0: // a new store
	case n < len(buf) || string(buf[:8]) != counterMagic:
		return fmt.Errorf("%w: %s is not a file of this version", store.ErrDamaged, counterName)
	default:
		noted = binary.BigEndian.Uint64(buf[8:])
	}

	txn := db.NewTransaction(false)
	defer txn.Discard()
	value, err := readRow(txn, counterKey)
	if errors.Is(err, store.ErrNotFound) {
		value, err = make([]byte, 8), nil
	}
	if err != nil {
		return err
	}
	if c.commits = binary.BigEndian.Uint64(value); c.commits < noted {
		return fmt.Errorf("%w: %d of %d commits are missing", store.ErrDamaged, noted-c.commits, noted)
	}
	return nil
}

// write notes the commits in the file. It is not synced: after a power cut an
// older number is there, which is never more than the store has.
func (c *counter) write() error {
	buf := binary.BigEndian.AppendUint64([]byte(counterMagic), c.commits)
	_, err := c.file.WriteAt(buf, 0)
	return err
}
