package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/parley-chat/parley/store"
)

func TestStoreFormat(t *testing.T) {
	w := newWorld(t)
	for format, want := range map[uint32]error{storeFormat: nil, storeFormat + 1: ErrNewer, storeFormat - 1: ErrOlder, 0: ErrOlder} {
		a := w.add(fmt.Sprintf("alice%d", format))
		err := a.kv.Update(t.Context(), func(tx store.Tx) error {
			e := newRow(4)
			e.u32(format)
			if err := tx.Set(keyFormat(), e.b); err != nil || format != 0 {
				return err
			}
			return tx.Delete(keyFormat())
		})
		w.check(err)
		err = a.kv.Update(t.Context(), func(tx store.Tx) error { _, err := Load(tx); return err })
		if !errors.Is(err, want) {
			t.Errorf("format %d: %v", format, err)
		}
		n := w.newcomer("x")
		if err := a.kv.Update(t.Context(), func(tx store.Tx) error { return InitMember(tx, w.now, n, Membership{}) }); err == nil {
			t.Errorf("format %d is written over", format)
		}
	}
}
