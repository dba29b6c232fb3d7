package node

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/store"
)

// setTime stores a time in a row: milliseconds since 1970, u64.
func setTime(tx store.Tx, row []byte, at time.Time) error {
	return tx.Set(row, binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli())))
}

// timeIn returns the time that setTime stored; zero if none was.
func timeIn(tx store.Tx, row []byte) (time.Time, error) {
	b, err := tx.Get(row)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return time.Time{}, nil
	case err != nil:
		return time.Time{}, err
	case len(b) != 8:
		return time.Time{}, fmt.Errorf("time: %w", store.ErrDamaged)
	}
	return time.UnixMilli(int64(binary.BigEndian.Uint64(b))).UTC(), nil
}
