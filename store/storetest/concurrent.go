package storetest

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/parley-chat/parley/store"
)

// add changes a counter by n and returns its new value.
func add(tx store.Tx, key string, n int64) (int64, error) {
	old, err := tx.Get([]byte(key))
	if errors.Is(err, store.ErrNotFound) {
		old, err = make([]byte, 8), nil
	}
	if err != nil {
		return 0, err
	}
	sum := int64(binary.BigEndian.Uint64(old)) + n
	return sum, tx.Set([]byte(key), binary.BigEndian.AppendUint64(nil, uint64(sum)))
}

func counterValue(t testing.TB, kv store.KV, key string) (n int64) {
	t.Helper()
	view(t, kv, func(tx store.Tx) error {
		value, err := tx.Get([]byte(key))
		if err == nil {
			n = int64(binary.BigEndian.Uint64(value))
		}
		return err
	})
	return n
}

// testOneAfterTheOther: increments are not lost, and no view sees half of a
// transfer.
func testOneAfterTheOther(t *testing.T, kv store.KV) {
	const writers, rounds = 16, 40
	update(t, kv, func(tx store.Tx) error {
		_, err1 := add(tx, "left", 1000)
		_, err2 := add(tx, "right", 0)
		return errors.Join(err1, err2)
	})
	var writing, watching sync.WaitGroup
	done := make(chan struct{})
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := kv.View(ctx, sumIs1000); err != nil {
				t.Errorf("view: %v", err)
				return
			}
		}
	})
	for w := range writers {
		writing.Go(func() {
			for range rounds {
				err := kv.Update(ctx, func(tx store.Tx) error {
					_, err1 := add(tx, "left", -1)
					_, err2 := add(tx, "right", 1)
					_, err3 := add(tx, fmt.Sprint("writer", w), 1)
					return errors.Join(err1, err2, err3, sumIs1000(tx))
				})
				if err != nil {
					t.Errorf("update: %v", err)
					return
				}
			}
		})
	}
	writing.Wait()
	close(done)
	watching.Wait()
	if got := counterValue(t, kv, "right"); got != writers*rounds {
		t.Errorf("right is %d, want %d", got, writers*rounds)
	}
}

func sumIs1000(tx store.Tx) error {
	left, err1 := tx.Get([]byte("left"))
	right, err2 := tx.Get([]byte("right"))
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if sum := binary.BigEndian.Uint64(left) + binary.BigEndian.Uint64(right); sum != 1000 {
		return fmt.Errorf("left and right are %d, want 1000", sum)
	}
	return nil
}

// testErrorsSideBySide: of updates that may share a commit, each gets its own
// answer, and only the writes of those that succeed stay.
func testErrorsSideBySide(t *testing.T, kv store.KV) {
	wrong := errors.New("wrong")
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			defer func() {
				if p := recover(); (p != nil) != (i%7 == 6) {
					t.Errorf("update %d: panic %v", i, p)
				}
			}()
			err := kv.Update(ctx, func(tx store.Tx) error {
				_, err1 := add(tx, "all", 1)
				err2 := tx.Set(fmt.Appendf(nil, "row%03d", i), nil)
				if i%7 == 6 {
					panic("boo")
				}
				if i%3 == 0 {
					return wrong
				}
				return errors.Join(err1, err2)
			})
			if want := i%3 == 0; errors.Is(err, wrong) != want || !want && err != nil {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	var want int64
	view(t, kv, func(tx store.Tx) error {
		for i := range 200 {
			_, err := tx.Get(fmt.Appendf(nil, "row%03d", i))
			kept := i%3 != 0 && i%7 != 6
			if kept {
				want++
			}
			if kept != (err == nil) {
				t.Errorf("row %d: %v, want it kept: %v", i, err, kept)
			}
		}
		return nil
	})
	if got := counterValue(t, kv, "all"); got != want {
		t.Errorf("counter %d, want %d", got, want)
	}
}

// testBigUpdatesTogether: updates that fit one by one but not together all
// succeed, and one that does not fit at all fails alone.
func testBigUpdatesTogether(t *testing.T, kv store.KV) {
	value := bytes.Repeat([]byte("v"), 600<<10)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			err := kv.Update(ctx, func(tx store.Tx) error {
				if _, err := add(tx, "all", 1); err != nil {
					return err
				}
				for part := range 1 + i%4*i%4 { // some write 600 KiB, some 2.4 MiB
					if err := tx.Set(fmt.Appendf(nil, "row%d.%d", i, part), value); err != nil {
						return err
					}
				}
				return nil
			})
			if tooBig := 1+i%4*i%4 > 3; errors.Is(err, store.ErrTooBig) != tooBig || !tooBig && err != nil {
				t.Errorf("update %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	var want int64
	for i := range 12 {
		if 1+i%4*i%4 <= 3 {
			want++
		}
	}
	if got := counterValue(t, kv, "all"); got != want {
		t.Errorf("counter %d, want %d", got, want)
	}
}

// testCancelledInQueue: when Update returns the context's error, the function
// has not run and never will.
func testCancelledInQueue(t *testing.T, kv store.KV) {
	ended, cancelNow := context.WithCancel(ctx)
	cancelNow()
	for _, call := range []func(context.Context, func(store.Tx) error) error{kv.Update, kv.View} {
		err := call(ended, func(store.Tx) error { t.Error("ran"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("with an ended context: %v", err)
		}
	}

	inside, goOn, first := make(chan bool), make(chan bool), make(chan error)
	go func() {
		first <- kv.Update(ctx, func(tx store.Tx) error {
			inside <- true
			<-goOn
			return tx.Set([]byte("first"), nil)
		})
	}()
	<-inside
	waiting, cancel := context.WithCancel(ctx)
	second := make(chan error)
	go func() {
		second <- kv.Update(waiting, func(tx store.Tx) error { t.Error("ran"); return nil })
	}()
	cancel()
	if err := <-second; !errors.Is(err, context.Canceled) { // although the first still runs
		t.Errorf("cancelled in the queue: %v", err)
	}
	close(goOn)
	if err := <-first; err != nil {
		t.Error(err)
	}
	update(t, kv, set("third", ""))
	wantStored(t, kv, "first=", "third=")

	// Once the function runs, the outcome counts, not the context.
	running, stop := context.WithCancel(ctx)
	if err := kv.Update(running, func(tx store.Tx) error { stop(); return tx.Set([]byte("x"), nil) }); err != nil {
		t.Errorf("cancelled while running: %v", err)
	}
	wantStored(t, kv, "first=", "third=", "x=")
}
