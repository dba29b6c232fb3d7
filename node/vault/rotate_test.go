package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

func mustRotate(t tester, s *Store) {
	t.Helper()
	if damaged, err := s.Rotate(context.Background()); err != nil || damaged > 0 {
		t.Fatal(damaged, err)
	}
}

// underKeys tells by which keys the rows of a table are sealed.
func underKeys(t testing.TB, raw store.KV, table byte) map[uint16]int {
	t.Helper()
	ids := map[uint16]int{}
	err := raw.View(context.Background(), func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{table}, []byte{table + 1}) {
			if err != nil {
				return err
			}
			ids[binary.BigEndian.Uint16(pair.Value[1:])]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestRotate(t *testing.T) {
	dir, secret := newDir(t)
	raw := memory.New()
	kv := mustSeal(t, mustOpen(t, dir, secret), raw)
	const n = 3*batchRows + 1
	for i := range n {
		set(t, kv, fmt.Sprintf("S%03d", i), fmt.Sprint("state ", i))
		set(t, kv, fmt.Sprintf("h%03d", i), fmt.Sprint("text ", i))
	}
	set(t, kv, "m", string(make([]byte, store.MaxValue-Overhead))) // more than a batch by itself
	set(t, kv, "m2", string(make([]byte, store.MaxValue-Overhead)))
	before, _, err := rows(t, kv)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(underKeys(t, raw, 'S'), underKeys(t, raw, 'h')); got != "map[1:193] map[0:193]" {
		t.Fatalf("sealed under %s", got)
	}
	for round := range 3 {
		mustRotate(t, kv)
		if got, want := fmt.Sprint(underKeys(t, raw, 'S'), underKeys(t, raw, 'm'), underKeys(t, raw, 'h')), fmt.Sprintf("map[%d:193] map[%[1]d:2] map[0:193]", round+2); got != want {
			t.Fatalf("sealed under %s, want %s", got, want)
		}
		if kv.ring.Load().old != nil {
			t.Fatal("the old key is still there")
		}
		for _, s := range []*Store{kv, mustSeal(t, mustOpen(t, dir, secret), raw)} {
			if after, _, err := rows(t, s); err != nil || !slices.Equal(before, after) {
				t.Fatalf("round %d: rows have changed, %v", round, err)
			}
		}
		if names := list(t, dir); fmt.Sprint(names) != "[vault wrap]" {
			t.Fatalf("files %v", names)
		}
	}
}

// A store of before wrap keys has everything under key 0.
func TestRotateTakesOldStoresOver(t *testing.T) {
	dir, secret := newDir(t)
	raw := memory.New()
	v := mustOpen(t, dir, secret)
	none, err := v.Seal(raw, func([]byte) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	set(t, none, "Session", "state")
	set(t, none, "history", "text")
	kv := mustSeal(t, v, raw)
	for range 2 {
		if got, _, err := rows(t, kv); err != nil || fmt.Sprint(got) != "[Session=state history=text]" {
			t.Fatalf("rows %q, %v", got, err)
		}
		mustRotate(t, kv)
	}
	if got := fmt.Sprint(underKeys(t, raw, 'S'), underKeys(t, raw, 'h')); got != "map[3:1] map[0:1]" {
		t.Errorf("sealed under %s", got)
	}
}

func TestWrapKeyIDsStartAgain(t *testing.T) {
	dir, secret := newDir(t)
	raw := memory.New()
	v := mustOpen(t, dir, secret)
	last, err := newWrapKey(65534)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.writeRing(&ring{current: last}); err != nil {
		t.Fatal(err)
	}
	kv := mustSeal(t, v, raw)
	set(t, kv, "Session", "state")
	for _, want := range []string{"map[65535:1]", "map[1:1]", "map[2:1]"} {
		if got := fmt.Sprint(underKeys(t, raw, 'S')); got != want {
			t.Fatalf("sealed under %s, want %s", got, want)
		}
		if got, _, err := rows(t, mustSeal(t, mustOpen(t, dir, secret), raw)); err != nil || fmt.Sprint(got) != "[Session=state]" {
			t.Fatalf("rows %q, %v", got, err)
		}
		mustRotate(t, kv)
	}
}

func TestRowUnderAnUnknownKeyIsDamaged(t *testing.T) {
	dir, secret := newDir(t)
	raw := memory.New()
	v := mustOpen(t, dir, secret)
	kv := mustSeal(t, v, raw)
	mustRotate(t, kv)
	mustRotate(t, kv)
	set(t, kv, "Session", "state") // under key 3; a new wrap file begins with 1
	if err := os.Remove(v.path(wrapName)); err != nil {
		t.Fatal(err)
	}
	again := mustSeal(t, v, raw)
	if _, _, err := rows(t, again); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("wrap file lost: %v", err)
	}
	if damaged, err := again.Rotate(t.Context()); damaged != 1 || err != nil {
		t.Errorf("rotation over it: %d are damaged, %v", damaged, err)
	}
	if got, _, err := rows(t, kv); err != nil || len(got) != 1 {
		t.Errorf("the rotation changed it: %q, %v", got, err)
	}
}

// A damaged row is counted and left; the others' key is replaced, and nothing
// opens with the one before.
func TestRotatePassesDamagedRows(t *testing.T) {
	dir, secret := newDir(t)
	raw := memory.New()
	kv := mustSeal(t, mustOpen(t, dir, secret), raw)
	for i := range 2*batchRows + 1 {
		set(t, kv, fmt.Sprintf("S%03d", i), "state")
	}
	flipped, short := []byte("S002"), fmt.Appendf(nil, "S%03d", batchRows)
	damage := func(key []byte, fn func(sealed []byte) []byte) (left []byte) {
		t.Helper()
		err := raw.Update(t.Context(), func(tx store.Tx) error {
			sealed, err := tx.Get(key)
			if err != nil {
				return err
			}
			left = fn(sealed)
			return tx.Set(key, left)
		})
		if err != nil {
			t.Fatal(err)
		}
		return left
	}
	want := map[string][]byte{
		string(flipped): damage(flipped, func(b []byte) []byte { b[len(b)-1] ^= 1; return b }),
		string(short):   damage(short, func(b []byte) []byte { return b[:2] }),
	}
	for range 2 {
		if damaged, err := kv.Rotate(t.Context()); damaged != len(want) || err != nil {
			t.Fatalf("%d rows are damaged, %v", damaged, err)
		}
	}
	if kv.ring.Load().old != nil {
		t.Error("the old key is still there")
	}
	sound := 0
	for i := range 2*batchRows + 1 {
		key := fmt.Appendf(nil, "S%03d", i)
		err := kv.View(t.Context(), func(tx store.Tx) error { _, err := tx.Get(key); return err })
		left, isDamaged := want[string(key)]
		if !isDamaged && err == nil {
			sound++
		}
		if isDamaged && !errors.Is(err, store.ErrDamaged) {
			t.Errorf("row %s: %v", key, err)
		}
		if now := damage(key, func(b []byte) []byte { return b }); isDamaged && !bytes.Equal(now, left) {
			t.Errorf("row %s was changed", key)
		}
	}
	if sound != 2*batchRows-1 {
		t.Errorf("%d rows open", sound)
	}
}

func TestDamagedWrapFile(t *testing.T) {
	dir, secret := newDir(t)
	v := mustOpen(t, dir, secret)
	mustSeal(t, v, memory.New())
	path := v.path(wrapName)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	otherDir, other := newDir(t)
	stranger := mustOpen(t, otherDir, other)
	mustSeal(t, stranger, memory.New())
	foreign, err := os.ReadFile(stranger.path(wrapName))
	if err != nil {
		t.Fatal(err)
	}
	bad := [][]byte{nil, good[:len(good)-1], append(bytes.Clone(good), 0), foreign, make([]byte, 1<<20)}
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1
		bad = append(bad, flipped)
	}
	for _, plain := range [][]byte{nil, make([]byte, wrapEntry-1), make([]byte, wrapEntry+1), make([]byte, 3*wrapEntry)} {
		sealed, err := v.wraps.seal([]byte(wrapHead), plain, []byte(wrapHead))
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, sealed)
	}
	for i, b := range bad {
		os.WriteFile(path, b, 0o600)
		if _, err := v.Seal(memory.New(), ephemeral); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("wrap file %d: %v", i, err)
		}
	}
	os.WriteFile(path, good, 0o600)
	mustSeal(t, v, memory.New())
}

// A view that began before a rotation reads what it saw then.
func TestViewAcrossRotations(t *testing.T) {
	dir, secret := newDir(t)
	kv := mustSeal(t, mustOpen(t, dir, secret), memory.New())
	set(t, kv, "S", "state")
	err := kv.View(t.Context(), func(tx store.Tx) error {
		for range 3 {
			rotated := make(chan error)
			go func() {
				_, err := kv.Rotate(context.Background())
				rotated <- err
			}()
			if err := <-rotated; err != nil {
				return err
			}
			if value, err := tx.Get([]byte("S")); err != nil || string(value) != "state" {
				return fmt.Errorf("%q, %w", value, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// hooked calls before, if there is one, when a view or an update is asked for.
type hooked struct {
	store.KV
	before func(write bool)
}

func (h *hooked) View(ctx context.Context, fn func(store.Tx) error) error {
	h.call(false)
	return h.KV.View(ctx, fn)
}

func (h *hooked) Update(ctx context.Context, fn func(store.Tx) error) error {
	h.call(true)
	return h.KV.Update(ctx, fn)
}

func (h *hooked) call(write bool) {
	if h.before != nil {
		h.before(write)
	}
}

// A view for which keys rotate between its start and its snapshot.
func TestViewOvertakenByARotation(t *testing.T) {
	dir, secret := newDir(t)
	h := &hooked{KV: memory.New()}
	kv := mustSeal(t, mustOpen(t, dir, secret), h)
	set(t, kv, "S", "state")
	h.before = func(bool) {
		h.before = nil
		mustRotate(t, kv)
		mustRotate(t, kv)
	}
	if got, _, err := rows(t, kv); err != nil || fmt.Sprint(got) != "[S=state]" {
		t.Errorf("rows %q, %v", got, err)
	}
}

// An update that began before the rotation, and writes after the new key is in
// force, writes under the old one: the rotation has to wait for it.
func TestRotateWaitsForEarlierUpdates(t *testing.T) {
	dir, secret := newDir(t)
	h := &hooked{KV: memory.New()}
	kv := mustSeal(t, mustOpen(t, dir, secret), h)
	waiting, rotated := make(chan struct{}), make(chan error, 1)
	err := kv.Update(t.Context(), func(tx store.Tx) error {
		h.before = func(write bool) {
			if write {
				h.before = nil
				close(waiting)
			}
		}
		go func() {
			_, err := kv.Rotate(context.Background())
			rotated <- err
		}()
		select {
		case <-waiting:
		case err := <-rotated:
			rotated <- err
		}
		return tx.Set([]byte("S"), []byte("state"))
	})
	if err := errors.Join(err, <-rotated); err != nil {
		t.Fatal(err)
	}
	if got, _, err := rows(t, kv); err != nil || fmt.Sprint(got) != "[S=state]" {
		t.Errorf("rows %q, %v", got, err)
	}
}

// Writers lose nothing while keys rotate, and see no error: each adds to its
// own row and to one of all, and replaces, deletes and reads others.
func TestKLC03_WritersDuringRotationLoseNothing(t *testing.T) {
	dir, secret := newDir(t)
	raw := memory.New()
	kv := mustSeal(t, mustOpen(t, dir, secret), raw)
	for i := range 300 {
		set(t, kv, fmt.Sprintf("Sfixed%03d", i), "fixed")
	}
	const writers, adds = 4, 300
	add := func(tx store.Tx, key string) error {
		value, err := tx.Get([]byte(key))
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return tx.Set([]byte(key), append(value, '+'))
	}
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range adds {
				passing := []byte(fmt.Sprintf("mpassing%d-%d", w, i%3))
				err := kv.Update(context.Background(), func(tx store.Tx) error {
					if i%2 == 0 {
						return errors.Join(add(tx, fmt.Sprintf("Sown%d", w)), add(tx, "Sall"), tx.Set(passing, []byte("x")))
					}
					return errors.Join(add(tx, fmt.Sprintf("Sown%d", w)), add(tx, "Sall"), tx.Delete(passing))
				})
				if err != nil {
					t.Errorf("writer %d: %v", w, err)
					return
				}
				err = kv.View(context.Background(), func(tx store.Tx) error {
					for _, err := range tx.Scan(nil, nil) {
						if err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Errorf("reader %d: %v", w, err)
					return
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { all.Wait(); close(done) }()
	rotations := 0
	for running := true; running; rotations++ {
		mustRotate(t, kv)
		select {
		case <-done:
			running = false
		default:
		}
	}
	if rotations < 2 {
		t.Errorf("only %d rotations", rotations)
	}
	reopened := mustSeal(t, mustOpen(t, dir, secret), raw)
	if got, _, err := rows(t, reopened); err != nil || len(got) < 300+writers+1 {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	err := reopened.View(t.Context(), func(tx store.Tx) error {
		for key, want := range map[string]int{"Sall": writers * adds, "Sown0": adds, "Sown3": adds} {
			if value, err := tx.Get([]byte(key)); err != nil || len(value) != want {
				t.Errorf("%s was added to %d times, want %d, %v", key, len(value), want, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
