// Package storetest is the contract of package store as tests: every backend
// runs the same suites. RunKV and RunModel are for a KV, RunRendezvous for a
// store.Rendezvous, and Crash kills a process that writes and looks at what it
// left behind.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/parley-chat/parley/store"
)

// RunKV runs the whole contract but durability. open returns a new, empty
// store and closes it with the test.
func RunKV(t *testing.T, open func(t *testing.T) store.KV) {
	for name, test := range map[string]func(*testing.T, store.KV){
		"GetSetDelete":       testGetSetDelete,
		"GrowingValue":       testGrowingValue,
		"Ownership":          testOwnership,
		"Scan":               testScan,
		"ScanAndWrite":       testScanAndWrite,
		"ReadOnly":           testReadOnly,
		"Limits":             testLimits,
		"ErrorUndoes":        testErrorUndoes,
		"PanicUndoes":        testPanicUndoes,
		"ExitUndoes":         testExitUndoes,
		"Snapshot":           testSnapshot,
		"CancelledInQueue":   testCancelledInQueue,
		"OneAfterTheOther":   testOneAfterTheOther,
		"ErrorsSideBySide":   testErrorsSideBySide,
		"BigUpdatesTogether": testBigUpdatesTogether,
		"Close":              testClose,
		"Model":              testModel,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

var ctx = context.Background()

func update(t testing.TB, kv store.KV, fn func(store.Tx) error) {
	t.Helper()
	if err := kv.Update(ctx, fn); err != nil {
		t.Fatalf("update: %v", err)
	}
}

func view(t testing.TB, kv store.KV, fn func(store.Tx) error) {
	t.Helper()
	if err := kv.View(ctx, fn); err != nil {
		t.Fatalf("view: %v", err)
	}
}

func set(pairs ...string) func(store.Tx) error {
	return func(tx store.Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Set([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	}
}

// all returns the rows from start to end as "key=value".
func all(tx store.Tx, start, end string, down bool) (rows []string, err error) {
	var upper []byte
	if end != "" {
		upper = []byte(end)
	}
	seq := tx.Scan([]byte(start), upper)
	if down {
		seq = tx.ScanDown([]byte(start), upper)
	}
	for pair, err := range seq {
		if err != nil {
			return nil, err
		}
		rows = append(rows, fmt.Sprintf("%s=%s", pair.Key, pair.Value))
	}
	return rows, nil
}

func wantRows(t testing.TB, tx store.Tx, start, end string, down bool, want ...string) {
	t.Helper()
	got, err := all(tx, start, end, down)
	if err != nil {
		t.Fatalf("scan %q to %q: %v", start, end, err)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("scan %q to %q, down %v: got %q, want %q", start, end, down, got, want)
	}
}

func wantStored(t testing.TB, kv store.KV, want ...string) {
	t.Helper()
	view(t, kv, func(tx store.Tx) error {
		wantRows(t, tx, "", "", false, want...)
		return nil
	})
}

func testGetSetDelete(t *testing.T, kv store.KV) {
	check := func(tx store.Tx) error {
		if v, err := tx.Get([]byte("a")); err != nil || string(v) != "1" {
			t.Errorf("a: %q, %v", v, err)
		}
		if v, err := tx.Get([]byte("empty")); err != nil || len(v) != 0 {
			t.Errorf("empty: %q, %v", v, err)
		}
		for _, gone := range []string{"b", "never", "aa"} {
			if v, err := tx.Get([]byte(gone)); !errors.Is(err, store.ErrNotFound) {
				t.Errorf("%s: %q, %v, want ErrNotFound", gone, v, err)
			}
		}
		return nil
	}
	update(t, kv, set("a", "0", "b", "2"))
	update(t, kv, func(tx store.Tx) error {
		return errors.Join(set("a", "1", "empty", "")(tx), tx.Delete([]byte("b")), tx.Delete([]byte("never")), check(tx))
	})
	view(t, kv, check)
}

// testGrowingValue: a value is never older than the last update, whatever its
// size was before.
func testGrowingValue(t *testing.T, kv store.KV) {
	for i, size := range []int{10, 3000, 5, 1000, 100_000, 0, 2000} {
		want := bytes.Repeat([]byte{byte(i)}, size)
		update(t, kv, func(tx store.Tx) error {
			if i > 0 {
				if old, err := tx.Get([]byte("a")); err != nil || len(old) > 0 && old[0] != byte(i-1) {
					t.Errorf("before step %d: %d bytes, %v", i, len(old), err)
				}
			}
			return tx.Set([]byte("a"), want)
		})
		check := func(tx store.Tx) error {
			got, err := tx.Get([]byte("a"))
			if !bytes.Equal(got, want) {
				t.Errorf("step %d: got %d bytes, want %d", i, len(got), len(want))
			}
			return err
		}
		update(t, kv, check)
		view(t, kv, check)
	}
}

func testOwnership(t *testing.T, kv store.KV) {
	key, value := []byte("key"), []byte("value")
	update(t, kv, func(tx store.Tx) error {
		if err := tx.Set(key, value); err != nil {
			return err
		}
		copy(key, "xxx")
		copy(value, "xxxxx")
		got, err := tx.Get([]byte("key"))
		if err != nil {
			return err
		}
		clear(got)
		for pair := range tx.Scan(nil, nil) {
			clear(pair.Key)
			clear(pair.Value)
		}
		return nil
	})
	wantStored(t, kv, "key=value")
	view(t, kv, func(tx store.Tx) error {
		got, err := tx.Get([]byte("key"))
		clear(got)
		for pair := range tx.Scan(nil, nil) {
			clear(pair.Key)
			clear(pair.Value)
		}
		return err
	})
	wantStored(t, kv, "key=value")
}

func testScan(t *testing.T, kv store.KV) {
	check := func(tx store.Tx) error {
		for _, c := range []struct {
			start, end string
			want       []string
		}{
			{"", "", []string{"a=1", "ab=3", "b=4", "c=5", "\xff\xff=6"}},
			{"a", "b", []string{"a=1", "ab=3"}},
			{"a\x00", "b\x00", []string{"ab=3", "b=4"}},
			{"aa", "ac", []string{"ab=3"}},
			{"b", "", []string{"b=4", "c=5", "\xff\xff=6"}},
			{"b", "b", nil},
			{"c", "b", nil},
			{"d", "e", nil},
			{"\xff", "", []string{"\xff\xff=6"}},
		} {
			wantRows(t, tx, c.start, c.end, false, c.want...)
			slices.Reverse(c.want)
			wantRows(t, tx, c.start, c.end, true, c.want...)
		}
		return nil
	}
	update(t, kv, set("a", "0", "aa", "0", "c", "0", "\xff\xff", "6"))
	update(t, kv, func(tx store.Tx) error {
		err := errors.Join(set("a", "1", "ab", "3", "b", "4", "c", "5", "zz", "0")(tx),
			tx.Delete([]byte("aa")), tx.Delete([]byte("zz")))
		return errors.Join(err, check(tx)) // the transaction's own writes, over stored rows
	})
	view(t, kv, check)
}

func testScanAndWrite(t *testing.T, kv store.KV) {
	update(t, kv, set("a", "1", "b", "2", "c", "3", "d", "4"))
	update(t, kv, func(tx store.Tx) error {
		var seen []string
		for pair, err := range tx.Scan([]byte("a"), []byte("e")) {
			if err != nil {
				return err
			}
			seen = append(seen, string(pair.Key))
			inner, err := all(tx, "x", "", true) // a second scan inside the first
			if err != nil {
				return err
			}
			if len(inner) != len(seen)-1 {
				t.Errorf("inner scan saw %q after %d writes", inner, len(seen)-1)
			}
			if err := errors.Join(tx.Delete(pair.Key), tx.Set(append([]byte("x"), pair.Key...), pair.Value)); err != nil {
				return err
			}
			if len(seen) == 3 {
				break
			}
		}
		if !slices.Equal(seen, []string{"a", "b", "c"}) {
			t.Errorf("saw %q", seen)
		}
		return nil
	})
	wantStored(t, kv, "d=4", "xa=1", "xb=2", "xc=3")
}

func testReadOnly(t *testing.T, kv store.KV) {
	view(t, kv, func(tx store.Tx) error {
		for what, err := range map[string]error{"set": tx.Set([]byte("a"), nil), "delete": tx.Delete([]byte("a"))} {
			if !errors.Is(err, store.ErrReadOnly) {
				t.Errorf("%s in a view: %v, want ErrReadOnly", what, err)
			}
		}
		return nil
	})
	wrong := errors.New("wrong")
	if err := kv.View(ctx, func(store.Tx) error { return wrong }); err != wrong {
		t.Errorf("view returned %v, want the function's error", err)
	}
}

func testLimits(t *testing.T, kv store.KV) {
	key, value := bytes.Repeat([]byte("k"), store.MaxKey), bytes.Repeat([]byte("v"), store.MaxValue)
	update(t, kv, func(tx store.Tx) error {
		for what, err := range map[string]error{
			"empty key":  tx.Set(nil, nil),
			"long key":   tx.Set(append(key, 'k'), nil),
			"long value": tx.Set(key, append(value, 'v')),
			"delete":     tx.Delete(append(key, 'k')),
		} {
			if !errors.Is(err, store.ErrTooBig) {
				t.Errorf("%s: %v, want ErrTooBig", what, err)
			}
		}
		return tx.Set(key, value)
	})
	view(t, kv, func(tx store.Tx) error {
		got, err := tx.Get(key)
		if !bytes.Equal(got, value) {
			t.Error("the biggest pair did not come back")
		}
		return err
	})

	err := kv.Update(ctx, func(tx store.Tx) error { // writes of 3 MiB
		for i := range 3 {
			tx.Set([]byte{'x', byte(i)}, value) // the function overlooks the error
		}
		return nil
	})
	if !errors.Is(err, store.ErrTooBig) {
		t.Errorf("3 MiB at once: %v, want ErrTooBig", err)
	}
	view(t, kv, func(tx store.Tx) error {
		wantRows(t, tx, "x", "", false)
		return nil
	})
}

func testErrorUndoes(t *testing.T, kv store.KV) {
	update(t, kv, set("a", "1", "b", "2"))
	wrong := errors.New("wrong")
	err := kv.Update(ctx, func(tx store.Tx) error {
		return errors.Join(set("a", "9", "c", "9")(tx), tx.Delete([]byte("b")), wrong)
	})
	if !errors.Is(err, wrong) {
		t.Fatalf("update returned %v", err)
	}
	wantStored(t, kv, "a=1", "b=2")
}

func testPanicUndoes(t *testing.T, kv store.KV) {
	update(t, kv, set("a", "1"))
	func() {
		defer func() {
			if p := recover(); p != "boo" {
				t.Errorf("recovered %v, want the function's own panic", p)
			}
		}()
		kv.Update(ctx, func(tx store.Tx) error {
			set("a", "9", "b", "9")(tx)
			panic("boo")
		})
	}()
	update(t, kv, set("c", "3")) // the store still works
	wantStored(t, kv, "a=1", "c=3")
}

func testExitUndoes(t *testing.T, kv store.KV) {
	var wg sync.WaitGroup
	wg.Go(func() {
		kv.Update(ctx, func(tx store.Tx) error { // as t.Fatal in a function does
			set("a", "9")(tx)
			runtime.Goexit()
			return nil
		})
	})
	wg.Wait()
	update(t, kv, set("c", "3"))
	wantStored(t, kv, "c=3")
}

func testSnapshot(t *testing.T, kv store.KV) {
	update(t, kv, set("a", "1"))
	view(t, kv, func(tx store.Tx) error {
		wrote := make(chan error)
		go func() { wrote <- kv.Update(ctx, set("a", "2", "b", "2")) }() // does not wait for the view
		if err := <-wrote; err != nil {
			return err
		}
		wantRows(t, tx, "", "", false, "a=1")
		wantRows(t, tx, "", "", true, "a=1")
		return nil
	})
	wantStored(t, kv, "a=2", "b=2")
}

func testClose(t *testing.T, kv store.KV) {
	update(t, kv, set("a", "1"))
	inside, goOn, viewed := make(chan bool), make(chan bool), make(chan error)
	go func() {
		viewed <- kv.View(ctx, func(tx store.Tx) error {
			inside <- true
			<-goOn
			_, err := tx.Get([]byte("a"))
			return err
		})
	}()
	<-inside
	closed := make(chan error)
	go func() { closed <- kv.Close() }()
	close(goOn)
	if err := <-viewed; err != nil {
		t.Errorf("a view during close: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("close: %v", err)
	}
	nothing := func(store.Tx) error { return nil }
	if err := kv.View(ctx, nothing); !errors.Is(err, store.ErrClosed) {
		t.Errorf("view after close: %v", err)
	}
	if err := kv.Update(ctx, nothing); !errors.Is(err, store.ErrClosed) {
		t.Errorf("update after close: %v", err)
	}
	if err := kv.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}
