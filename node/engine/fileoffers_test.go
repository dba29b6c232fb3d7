package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/store"
)

// Small files of a verified contact come by themselves, if the user wants that; of one
// only so many at a time.
func TestAutoAccept(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	b.e.AutoAccept(4, "/home/bob/Downloads")
	a.sendsFile(b.account(), "", aFile(t, "unverified", "abc"))
	b.do(func(tx store.Tx) (Hint, error) { return b.e.SetVerified(tx, w.now, a.account(), true) })
	w.settle()
	a.sendsFile(b.account(), "", aFile(t, "large", "abcde"))
	small := a.sendsFile(b.account(), "", aFile(t, "small", "abcd"))
	if got := b.fetches(); !slices.Equal(got, []string{"small"}) {
		t.Errorf("fetched by itself: %q", got)
	}
	if got := b.fileOf(small); got.Path != "/home/bob/Downloads" || got.Asks {
		t.Errorf("it goes to %q, asks %v", got.Path, got.Asks)
	}
	for range 2 * maxAutoFiles {
		a.sendsFile(b.account(), "", aFile(t, "small", "abc"))
	}
	if got := len(b.fetches()); got != maxAutoFiles {
		t.Errorf("%d fetched by themselves", got)
	}
}

// In a day so much of a contact comes by itself, however fast it is fetched.
func TestAutoAcceptOfADay(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	b.e.AutoAccept(4, "/home/bob/Downloads")
	b.do(func(tx store.Tx) (Hint, error) { return b.e.SetVerified(tx, w.now, a.account(), true) })
	w.settle()
	comes := func(text string) bool {
		t.Helper()
		id := a.sendsFile(b.account(), "", aFile(t, "a", text))
		if b.fileOf(id).State != FileWanted {
			return false
		}
		b.hasFile(id)
		return true
	}
	for i := range maxAutoFiles - 1 {
		if !comes("abcd") {
			t.Fatalf("file %d does not come", i)
		}
	}
	if !comes("abc") || comes("ab") || !comes("a") || comes("a") {
		t.Error("what comes in a day is not 16 times the largest")
	}
	w.pass(autoDay)
	if !comes("abcd") {
		t.Error("nothing comes the next day")
	}
}

// The user is asked about so many files of a conversation; the others can be had too.
func TestManyOffers(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	first := a.sendsFile(b.account(), "", aFile(t, "first", "abc"))
	for range maxOpenFiles {
		_, err := a.draft(b.account(), Draft{File: aFile(t, "a", "abc")})
		w.check(err)
	}
	w.pass(5 * time.Minute)
	if got := len(b.rows(tableOpenFile)); got != maxOpenFiles {
		t.Errorf("%d open files", got)
	}
	if f := b.fileOf(first); f.Asks || f.State != FileOffered {
		t.Errorf("the first is in state %q, asks %v", f.State, f.Asks)
	}
	w.check(b.wantsFile(first))
	if got := b.fetches(); !slices.Equal(got, []string{"first"}) {
		t.Errorf("to be fetched: %q", got)
	}
}
