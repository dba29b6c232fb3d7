package engine

import (
	"fmt"

	"github.com/parley-chat/parley/store"
)

// storeFormat is the number of the form of all rows together. A release that
// reads the rows of an older format raises it; rows of a newer one may mean
// anything, so nothing is read or written there.
const storeFormat = 3

func keyFormat() []byte { return store.Key(tableFormat) }

func setFormat(tx store.Tx) error {
	e := newRow(4)
	e.u32(storeFormat)
	return tx.Set(keyFormat(), e.b)
}

// checkFormat refuses a store of another format; an empty store has none.
func checkFormat(tx store.Tx) error {
	b, err := get(tx, keyFormat())
	if err != nil {
		return err
	}
	if b == nil {
		old, err := get(tx, keyOwnIdentity())
		if err == nil && old != nil {
			err = fmt.Errorf("%w: format 1", ErrOlder)
		}
		return err
	}
	d := readRow(b)
	format := d.u32()
	switch {
	case format > storeFormat || b[0] > rowVersion:
		return fmt.Errorf("%w: format %d", ErrNewer, format)
	case format < storeFormat && !d.bad:
		return fmt.Errorf("%w: format %d", ErrOlder, format)
	}
	return d.end("format")
}
