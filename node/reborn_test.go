package node

import (
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// A rendezvous that takes a folder for a copy again and again does not fill the
// account with devices.
func TestOneRebirthADay(t *testing.T) {
	now := time.UnixMilli(1_800_000_000_000)
	n := &Node{now: func() time.Time { return now }}
	for name, c := range map[string]struct {
		row  []byte
		want error
	}{
		"never":               {nil, nil},
		"just now":            {millisRow(now), ErrRebornToday},
		"some hours ago":      {millisRow(now.Add(-23 * time.Hour)), ErrRebornToday},
		"a day ago":           {millisRow(now.Add(-24 * time.Hour)), nil},
		"the clock went back": {millisRow(now.Add(time.Hour)), nil},
		"damaged":             {[]byte{1}, store.ErrDamaged},
	} {
		err := memory.New().Update(t.Context(), func(tx store.Tx) error {
			if c.row != nil {
				if err := tx.Set(rebornRow, c.row); err != nil {
					return err
				}
			}
			return n.mayBeReborn(tx)
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func millisRow(at time.Time) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(at.UnixMilli()))
}
