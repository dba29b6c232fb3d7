package vault

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

func set(t *testing.T, kv store.KV, key, value string) {
	t.Helper()
	if err := kv.Update(t.Context(), func(tx store.Tx) error { return tx.Set([]byte(key), []byte(value)) }); err != nil {
		t.Fatal(err)
	}
}

// rows returns what a store holds, ascending, then what ScanDown says.
func rows(t *testing.T, kv store.KV) (up, down []string, err error) {
	t.Helper()
	err = kv.View(t.Context(), func(tx store.Tx) error {
		for pair, err := range tx.Scan(nil, nil) {
			if err != nil {
				return err
			}
			up = append(up, string(pair.Key)+"="+string(pair.Value))
		}
		for pair, err := range tx.ScanDown(nil, nil) {
			if err != nil {
				return err
			}
			down = append(down, string(pair.Key)+"="+string(pair.Value))
		}
		return nil
	})
	return up, down, err
}

// ephemeral are the tables of these tests' stores that hold secrets.
func ephemeral(key []byte) bool { return key[0] == 'S' || key[0] == 'm' }

// tester is a *testing.T or a *rapid.T.
type tester interface {
	Helper()
	Fatal(args ...any)
}

func mustSeal(t tester, v *Vault, kv store.KV) *Store {
	t.Helper()
	s, err := v.Seal(kv, ephemeral)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSealedStore(t *testing.T) {
	dir, s := newDir(t)
	raw := memory.New()
	kv := mustSeal(t, mustOpen(t, dir, s), raw)
	set(t, kv, "a", "")
	set(t, kv, "b", "two")
	set(t, kv, "c", "three")
	err := kv.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Get([]byte("x")); !errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("missing row: %w", err)
		}
		return tx.Delete([]byte("c"))
	})
	if err != nil {
		t.Fatal(err)
	}
	reopened := mustSeal(t, mustOpen(t, dir, s), raw)
	up, down, err := rows(t, reopened)
	if err != nil || fmt.Sprint(up, down) != "[a= b=two] [b=two a=]" {
		t.Errorf("rows %q %q, %v", up, down, err)
	}
	if up, _, _ := rows(t, raw); bytes.Contains([]byte(fmt.Sprint(up)), []byte("two")) {
		t.Error("a value is in clear")
	}
	if err := kv.Close(); err != nil {
		t.Fatal(err)
	}
	if err := raw.View(t.Context(), func(store.Tx) error { return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("the store below is open: %v", err)
	}
}

func TestSealedValueStaysInItsRow(t *testing.T) {
	dir, s := newDir(t)
	raw := memory.New()
	kv := mustSeal(t, mustOpen(t, dir, s), raw)
	set(t, kv, "alice", "secret")
	var sealed []byte
	err := raw.Update(t.Context(), func(tx store.Tx) (err error) {
		if sealed, err = tx.Get([]byte("alice")); err != nil {
			return err
		}
		return tx.Set([]byte("mallory"), sealed)
	})
	if err != nil {
		t.Fatal(err)
	}
	get := func(kv store.KV, key string) error {
		return kv.View(t.Context(), func(tx store.Tx) error {
			_, err := tx.Get([]byte(key))
			return err
		})
	}
	if err := get(kv, "mallory"); !errors.Is(err, store.ErrDamaged) { // also into a table of the other kind
		t.Errorf("moved value: %v", err)
	}
	if _, _, err := rows(t, kv); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("scan over a moved value: %v", err)
	}
	otherDir, other := newDir(t)
	if err := get(mustSeal(t, mustOpen(t, otherDir, other), raw), "alice"); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("another vault: %v", err)
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 1
		set(t, raw, "alice", string(bad))
		if err := get(kv, "alice"); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		set(t, raw, "alice", string(sealed[:i]))
		if err := get(kv, "alice"); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
}

func TestSealedValueLimit(t *testing.T) {
	dir, s := newDir(t)
	kv := mustSeal(t, mustOpen(t, dir, s), memory.New())
	set(t, kv, "full", string(make([]byte, store.MaxValue-Overhead)))
	err := kv.Update(t.Context(), func(tx store.Tx) error {
		return tx.Set([]byte("over"), make([]byte, store.MaxValue-Overhead+1))
	})
	if !errors.Is(err, store.ErrTooBig) {
		t.Errorf("one byte over: %v", err)
	}
}

func TestSealOpensToTheSame(t *testing.T) {
	dir, s := newDir(t)
	kv := mustSeal(t, mustOpen(t, dir, s), memory.New())
	v := sealedTx{kv, kv.ring.Load(), nil}
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOfN(rapid.Byte(), 1, 64).Draw(t, "key")
		value := rapid.SliceOfN(rapid.Byte(), 0, 512).Draw(t, "value")
		one, err1 := v.seal(key, value)
		two, err2 := v.seal(key, value)
		opened, err := v.open(key, one)
		if err1 != nil || err2 != nil || err != nil || !bytes.Equal(opened, value) {
			t.Fatalf("opened %x, %v %v %v", opened, err1, err2, err)
		}
		if bytes.Equal(one, two) || len(one) != len(value)+Overhead {
			t.Fatalf("sealed twice: %x %x", one, two)
		}
	})
}

// TestIM02_DataDirectoryHoldsNoPlaintext plants keys and text and looks for
// them, raw and in the usual encodings, in everything the disk would hold.
func TestIM02_DataDirectoryHoldsNoPlaintext(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := Create(dir, passphrase); err != nil {
		t.Fatal(err)
	}
	v := mustOpen(t, dir, passphrase)
	raw := memory.New()
	kv := mustSeal(t, v, raw)
	const marker = "PLANTED-private-key-and-message-0123456789"
	set(t, kv, "row", marker)
	up, _, err := rows(t, raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "rows"), []byte(fmt.Sprint(up)), 0o600); err != nil {
		t.Fatal(err)
	}
	disk := readAll(t, dir)
	for what, secret := range map[string][]byte{
		"message": []byte(marker), "passphrase": passphrase.bytes, "master key": v.master[:],
	} {
		for _, form := range encodings(secret) {
			if bytes.Contains(disk, form) {
				t.Errorf("%s is on disk as %q", what, form)
			}
		}
	}
}

func encodings(secret []byte) [][]byte {
	return [][]byte{
		secret,
		fmt.Appendf(nil, "%x", secret),
		fmt.Appendf(nil, "%X", secret),
		[]byte(base64.StdEncoding.EncodeToString(secret)[:len(secret)]),
		[]byte(base64.URLEncoding.EncodeToString(secret)[:len(secret)]),
	}
}
