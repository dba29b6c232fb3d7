package badger

import (
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Badger writes through mapped files, so a full disk kills the process with
// SIGBUS, and kills it again when it opens the store. Two things prevent that:
// updates are refused while there is still space (spaceLevel), and a ballast
// file is given up when there was none at opening.

const ballastName = "ballast"

type level int

const (
	ample    level = iota
	low            // only updates that free space
	critical       // no updates
)

// planSpace fills in the defaults.
func (db *DB) planSpace(o Options) {
	_, total := db.disk(db.dir)
	db.minFree, db.ballast = o.MinFree, o.Ballast
	if db.minFree == 0 {
		db.minFree = min(256<<20, total/4)
	}
	if db.ballast == 0 {
		db.ballast = min(128<<20, total/8)
	}
	if total < 1<<30 {
		db.log.Warn("small disk: the store may not survive it filling up", "bytes", total)
	}
}

func (db *DB) spaceLevel() level {
	free, _ := db.disk(db.dir)
	switch {
	case free < db.minFree/2:
		return critical
	case free < db.minFree:
		return low
	}
	return ample
}

func (db *DB) ballastPath() string { return filepath.Join(db.dir, ballastName) }

// shedBallast frees the ballast when Badger could not open without it.
func (db *DB) shedBallast() {
	if free, _ := db.disk(db.dir); free >= db.ballast {
		return
	}
	err := os.Remove(db.ballastPath())
	switch {
	case err == nil:
		db.log.Warn("disk full: the store's ballast was given up so that it can open")
	case !errors.Is(err, fs.ErrNotExist):
		db.log.Error("disk full and the store's ballast cannot be removed", "err", err)
	}
}

// makeBallast makes the file when there is space for it.
func (db *DB) makeBallast() {
	if db.ballast <= 0 {
		return
	}
	if info, err := os.Stat(db.ballastPath()); err == nil && info.Size() == db.ballast {
		return
	}
	if free, _ := db.disk(db.dir); free < db.ballast+db.minFree {
		return
	}
	if err := makeFile(db.ballastPath(), db.ballast); err != nil {
		db.log.Warn("make the store's ballast", "err", err)
		os.Remove(db.ballastPath()) // a part of it is of no use; the next tidy tries again
	}
}

// makeFile makes a file that takes its space. What cannot be held is filled with noise,
// because a sparse or compressed file would take none.
func makeFile(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if !hold(file, size) {
		_, err = io.CopyN(file, rand.NewChaCha8([32]byte{}), size)
	}
	return errors.Join(err, file.Close())
}
