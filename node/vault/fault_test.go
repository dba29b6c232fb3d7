package vault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

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
				_, err = kv.Rotate(t.Context())
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
		steps := map[string]func(){
			"set": func() {
				k, value := key.Draw(t, "key"), rapid.String().Draw(t, "value")
				if err := kv.Update(context.Background(), func(tx store.Tx) error { return tx.Set([]byte(k), []byte(value)) }); err != nil {
					t.Fatal(err)
				}
				model[k] = value
			},
			"delete": func() {
				k := key.Draw(t, "key")
				if err := kv.Update(context.Background(), func(tx store.Tx) error { return tx.Delete([]byte(k)) }); err != nil {
					t.Fatal(err)
				}
				delete(model, k)
			},
			"rotate": func() { mustRotate(t, kv) },
			"fail": func() {
				f.fail, f.stored = rapid.IntRange(1, 6).Draw(t, "step"), rapid.Bool().Draw(t, "stored")
				if _, err := kv.Rotate(context.Background()); err != nil && !errors.Is(err, errFault) {
					t.Fatal(err)
				}
				f.fail = 0
			},
			"reopen": func() { kv = mustSeal(t, v, f) },
		}
		// Few steps: each rotation costs a dozen syncs.
		for _, step := range rapid.SliceOfN(rapid.SampledFrom(slices.Sorted(maps.Keys(steps))), 1, 10).Draw(t, "steps") {
			steps[step]()
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
		}
	})
}
