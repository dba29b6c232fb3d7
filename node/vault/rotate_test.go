package vault

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

func mustRotate(t tester, s *Store) {
	t.Helper()
	if err := s.Rotate(context.Background()); err != nil {
		t.Fatal(err)
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
	if err := again.Rotate(t.Context()); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("rotation over it: %v", err)
	}
	if got, _, err := rows(t, kv); err != nil || len(got) != 1 {
		t.Errorf("the failed rotation destroyed it: %q, %v", got, err)
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
			go func() { rotated <- kv.Rotate(context.Background()) }()
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
		go func() { rotated <- kv.Rotate(context.Background()) }()
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

// faulty fails one update, before or after it has been stored.
type faulty struct {
	store.KV
	fail   int // the update that fails, counted down
	stored bool
}

var errFault = errors.New("fault")

func (f *faulty) Update(ctx context.Context, fn func(store.Tx) error) error {
	f.fail--
	if f.fail == 0 && !f.stored {
		return errFault
	}
	if err := f.KV.Update(ctx, fn); err != nil {
		return err
	}
	if f.fail == 0 {
		return errFault
	}
	return nil
}

// Each update of a rotation fails, stored and not stored; then the node goes
// on, or dies and is started again.
func TestRotateSurvivesFailedUpdates(t *testing.T) {
	for step := 1; ; step++ {
		for _, stored := range []bool{false, true} {
			for _, restart := range []bool{false, true} {
				dir, secret := newDir(t)
				raw := memory.New()
				f := &faulty{KV: raw, stored: stored}
				kv := mustSeal(t, mustOpen(t, dir, secret), f)
				for i := range 2*batchRows + 1 {
					set(t, kv, fmt.Sprintf("S%03d", i), fmt.Sprint("state ", i))
				}
				before, _, err := rows(t, kv)
				if err != nil {
					t.Fatal(err)
				}
				f.fail = step
				err = kv.Rotate(t.Context())
				if err == nil && f.fail > 0 {
					if step < 4 {
						t.Fatalf("a rotation of %d updates", step-1)
					}
					return
				}
				if !errors.Is(err, errFault) {
					t.Fatalf("step %d: %v", step, err)
				}
				if restart {
					kv = mustSeal(t, mustOpen(t, dir, secret), raw)
				}
				for range 2 {
					if after, _, err := rows(t, kv); err != nil || !slices.Equal(before, after) {
						t.Fatalf("step %d, stored %v, restart %v: rows have changed, %v", step, stored, restart, err)
					}
					mustRotate(t, kv)
				}
				if ids := underKeys(t, raw, 'S'); len(ids) != 1 || kv.ring.Load().old != nil {
					t.Errorf("step %d: rows under %v", step, ids)
				}
			}
		}
	}
}

// What a crash may leave beside a file that was being replaced.
func TestLeftoversOfACrash(t *testing.T) {
	for name, leave := range map[string]func(path string) error{
		"half a successor": func(path string) error { return os.WriteFile(path+newSuffix, []byte("par"), 0o600) },
		"a second name":    func(path string) error { return os.Link(path, path+oldSuffix) },
		"the old one":      func(path string) error { return os.WriteFile(path+oldSuffix, []byte("old"), 0o600) },
		"successor, two names": func(path string) error {
			return errors.Join(os.WriteFile(path+newSuffix, nil, 0o600), os.Link(path, path+oldSuffix))
		},
		"both names, unrelated": func(path string) error {
			return errors.Join(os.WriteFile(path+newSuffix, nil, 0o600), os.WriteFile(path+oldSuffix, nil, 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, secret := newDir(t)
			raw := memory.New()
			v := mustOpen(t, dir, secret)
			set(t, mustSeal(t, v, raw), "S", "state")
			for _, file := range []string{fileName, wrapName} {
				if err := leave(v.path(file)); err != nil {
					t.Fatal(err)
				}
			}
			kv := mustSeal(t, mustOpen(t, dir, secret), raw)
			if names := list(t, dir); fmt.Sprint(names) != "[vault wrap]" {
				t.Errorf("files %v", names)
			}
			if got, _, err := rows(t, kv); err != nil || fmt.Sprint(got) != "[S=state]" {
				t.Errorf("rows %q, %v", got, err)
			}
		})
	}
}

// A store that rotates, fails and is reopened at will holds what a map does.
func TestRotatingStoreIsAMap(t *testing.T) {
	keyPath := filepath.Join(t.TempDir(), "key")
	secret, err := CreateKeyFile(keyPath)
	if err != nil {
		t.Fatal(err)
	}
	parent := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		dir := filepath.Join(parent, fmt.Sprint(n))
		if err := Create(dir, secret); err != nil {
			t.Fatal(err)
		}
		v, err := Open(dir, secret)
		if err != nil {
			t.Fatal(err)
		}
		f := &faulty{KV: memory.New()}
		kv := mustSeal(t, v, f)
		model := map[string]string{}
		key := rapid.SampledFrom([]string{"S1", "S2", "m1", "h1", "h2"})
		t.Repeat(map[string]func(*rapid.T){
			"set": func(t *rapid.T) {
				k, value := key.Draw(t, "key"), rapid.String().Draw(t, "value")
				if err := kv.Update(context.Background(), func(tx store.Tx) error { return tx.Set([]byte(k), []byte(value)) }); err != nil {
					t.Fatal(err)
				}
				model[k] = value
			},
			"delete": func(t *rapid.T) {
				k := key.Draw(t, "key")
				if err := kv.Update(context.Background(), func(tx store.Tx) error { return tx.Delete([]byte(k)) }); err != nil {
					t.Fatal(err)
				}
				delete(model, k)
			},
			"rotate": func(t *rapid.T) { mustRotate(t, kv) },
			"fail": func(t *rapid.T) {
				f.fail, f.stored = rapid.IntRange(1, 6).Draw(t, "step"), rapid.Bool().Draw(t, "stored")
				if err := kv.Rotate(context.Background()); err != nil && !errors.Is(err, errFault) {
					t.Fatal(err)
				}
				f.fail = 0
			},
			"reopen": func(t *rapid.T) { kv = mustSeal(t, v, f) },
			"": func(t *rapid.T) { // after each of them
				got := map[string]string{}
				err := kv.View(context.Background(), func(tx store.Tx) error {
					for pair, err := range tx.Scan(nil, nil) {
						if err != nil {
							return err
						}
						got[string(pair.Key)] = string(pair.Value)
					}
					return nil
				})
				if err != nil || fmt.Sprint(got) != fmt.Sprint(model) {
					t.Fatalf("holds %q, want %q, %v", got, model, err)
				}
			},
		})
	})
}
