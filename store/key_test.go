package store_test

import (
	"bytes"
	"cmp"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

type tuple struct {
	id   [4]byte
	text string
	n    uint64
}

func (t tuple) key() []byte { return store.Key('k', t.id[:], t.text, t.n) }

func (t tuple) compare(o tuple) int {
	return cmp.Or(bytes.Compare(t.id[:], o.id[:]), cmp.Compare(t.text, o.text), cmp.Compare(t.n, o.n))
}

// drawTuple prefers values that are close to each other and to the escapes.
func drawTuple(t *rapid.T, name string) (tp tuple) {
	copy(tp.id[:], rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 255}), 4, 4).Draw(t, name+" id"))
	tp.text = string(rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 2, 'a', 254, 255}), 0, 4).Draw(t, name+" text"))
	tp.n = rapid.OneOf(rapid.Uint64(), rapid.Uint64Range(0, 2)).Draw(t, name+" n")
	return tp
}

func TestKeyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := drawTuple(t, "a"), drawTuple(t, "b")
		if got, want := bytes.Compare(a.key(), b.key()), a.compare(b); got != want {
			t.Fatalf("keys compare %d, tuples %d:\n%x\n%x", got, want, a.key(), b.key())
		}
	})
}

func TestReadKey(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := drawTuple(t, "a")
		r := store.ReadKey(want.key())
		got := tuple{id: [4]byte(r.Bytes(4)), text: r.Text(), n: r.Uint64()}
		if r.Err() != nil || got != want {
			t.Fatalf("%+v, %v, want %+v", got, r.Err(), want)
		}
		cut := store.ReadKey(want.key()[:rapid.IntRange(0, len(want.key())-1).Draw(t, "cut")])
		cut.Bytes(4)
		cut.Text()
		cut.Uint64()
		if cut.Err() == nil {
			t.Fatal("a key that was cut off reads well")
		}
		long := store.ReadKey(append(want.key(), 0))
		long.Bytes(4)
		long.Text()
		long.Uint64()
		if long.Err() == nil {
			t.Fatal("a key with more behind it reads well")
		}
	})
}

func FuzzReadKey(f *testing.F) {
	f.Add(tuple{text: "a\x00b"}.key())
	f.Fuzz(func(t *testing.T, key []byte) {
		r := store.ReadKey(key)
		got := tuple{id: [4]byte(r.Bytes(4)), text: r.Text(), n: r.Uint64()}
		if r.Err() == nil && !bytes.Equal(got.key()[1:], key[1:]) {
			t.Errorf("%x reads as %+v, which writes as %x", key, got, got.key())
		}
	})
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ prefix, want string }{
		{"a", "b"}, {"a\xff", "b"}, {"a\xfe\xff\xff", "a\xff"}, {"\x00", "\x01"}, {"\xff", ""}, {"\xff\xff", ""}, {"", ""},
	} {
		got := store.PrefixEnd([]byte(c.prefix))
		if string(got) != c.want || c.want == "" && got != nil {
			t.Errorf("%q: %q, want %q", c.prefix, got, c.want)
		}
	}
}

func TestKeyPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a part of a wrong type is accepted")
		}
	}()
	store.Key('k', 5)
}

func TestContactsDigest(t *testing.T) {
	a, b := protocol.AccountID{1}, protocol.AccountID{2}
	if store.ContactsDigest([]protocol.AccountID{b, a, b}) != store.ContactsDigest([]protocol.AccountID{a, b}) {
		t.Error("order or repeats matter")
	}
	if store.ContactsDigest([]protocol.AccountID{a}) == store.ContactsDigest([]protocol.AccountID{b}) {
		t.Error("the accounts do not matter")
	}
}
