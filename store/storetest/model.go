package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/store"
)

var errUndo = errors.New("undo")

// model is what a KV should be: a map.
type model map[string]string

func (m model) rows(start, end string, down bool) (rows []string) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if key >= start && (end == "" || key < end) {
			rows = append(rows, key+"="+m[key])
		}
	}
	if down {
		slices.Reverse(rows)
	}
	return rows
}

// op is one step of a transaction.
type op struct {
	kind       int // 0 set, 1 delete, 2 get, 3 scan, 4 scan down
	key, value string
}

func drawOps(t *rapid.T) []op {
	key := rapid.SampledFrom([]string{"a", "a\x00", "a\xff", "ab", "b", "ba", "c", "\x00", "\xff", "\xff\xff"})
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) op {
		return op{rapid.IntRange(0, 4).Draw(t, "kind"), key.Draw(t, "key"), rapid.StringN(0, 3, 9).Draw(t, "value")}
	}), 0, 12).Draw(t, "ops")
}

// apply runs ops on both and compares what they return.
func apply(tx store.Tx, m model, ops []op) error {
	for _, o := range ops {
		var err error
		switch o.kind {
		case 0:
			m[o.key] = o.value
			err = tx.Set([]byte(o.key), []byte(o.value))
		case 1:
			delete(m, o.key)
			err = tx.Delete([]byte(o.key))
		case 2:
			want, ok := m[o.key]
			got, getErr := tx.Get([]byte(o.key))
			if string(got) != want || ok != (getErr == nil) || !ok && !errors.Is(getErr, store.ErrNotFound) {
				err = fmt.Errorf("get %q: %q, %v, want %q", o.key, got, getErr, want)
			}
		default:
			err = compare(tx, m, o.key, o.value, o.kind == 4)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func compare(tx store.Tx, m model, start, end string, down bool) error {
	got, err := all(tx, start, end, down)
	if want := m.rows(start, end, down); err == nil && !slices.Equal(got, want) {
		err = fmt.Errorf("scan %q to %q, down %v: got %q, want %q", start, end, down, got, want)
	}
	return err
}

// testModel runs random transactions, several at a time, on the store and on a
// map. Some return an error, some panic; their writes must be undone.
func testModel(t *testing.T, kv store.KV) {
	rapid.Check(t, func(t *rapid.T) {
		m := model{}
		err := kv.Update(ctx, func(tx store.Tx) error {
			for pair := range tx.Scan(nil, nil) {
				if err := tx.Delete(pair.Key); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for range rapid.IntRange(1, 4).Draw(t, "batches") {
			runTogether(t, kv, m)
			err := kv.View(ctx, func(tx store.Tx) error {
				return errors.Join(compare(tx, m, "", "", false), compare(tx, m, "", "", true))
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// runTogether starts up to eight updates at once. The store runs them in some
// order; the model follows in the same order, inside them.
func runTogether(t *rapid.T, kv store.KV, m model) {
	type plan struct {
		ops []op
		end int // 0 and 1 commit, 2 error, 3 panic
	}
	var plans []plan
	for range rapid.IntRange(1, 8).Draw(t, "together") {
		plans = append(plans, plan{drawOps(t), rapid.IntRange(0, 3).Draw(t, "end")})
	}
	var wg sync.WaitGroup
	errs := make(chan error, len(plans))
	for _, p := range plans {
		wg.Go(func() {
			defer func() { recover() }() // the panic of a plan
			err := kv.Update(ctx, func(tx store.Tx) error {
				mine := maps.Clone(m)
				if err := apply(tx, mine, p.ops); err != nil {
					return err
				}
				switch p.end {
				case 2:
					return errUndo
				case 3:
					panic(errUndo)
				}
				clear(m)
				maps.Copy(m, mine)
				return nil
			})
			if err != nil && !(p.end == 2 && errors.Is(err, errUndo)) {
				errs <- err
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Fatal(err)
	}
}
