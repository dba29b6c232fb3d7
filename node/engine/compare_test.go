package engine

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/compare"
	"github.com/parley-chat/parley/store"
)

func (n *node) tryCompare(with *node) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.Compare(tx, n.w.now, with.account()) })
}

func (n *node) compare(with *node) {
	n.w.t.Helper()
	n.w.check(n.tryCompare(with))
}

func (n *node) compared(with *node, match bool) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.Compared(tx, n.w.now, with.account(), match) })
}

func (n *node) stopComparing(with *node) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.StopComparing(tx, n.w.now, with.account()) })
}

// comparison is the zero value if there is none.
func (n *node) comparison(with *node) (c Comparison) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		if c, err = n.e.Comparison(tx, n.w.now, with.account()); err == ErrNoComparison {
			return nil
		}
		return err
	})
	return c
}

func (w *world) wantStages(a, b *node, atA, atB Stage) {
	w.t.Helper()
	if x, y := a.comparison(b).Stage, b.comparison(a).Stage; x != atA || y != atB {
		w.t.Fatalf("%s is at %q, %s at %q; want %q and %q", a.name, x, b.name, y, atA, atB)
	}
}

func (w *world) wantVerified(a, b *node, atA, atB bool) {
	w.t.Helper()
	if x, y := a.contact(b).Verified, b.contact(a).Verified; x != atA || y != atB {
		w.t.Fatalf("verified at %s: %v, at %s: %v; want %v and %v", a.name, x, b.name, y, atA, atB)
	}
}

// picturesOf begins on one side, answers on the other, and returns what both see.
func (w *world) picturesOf(a, b *node) []compare.Picture {
	w.t.Helper()
	a.compare(b)
	w.settle()
	w.wantStages(a, b, CompareWaiting, CompareOffered)
	b.compare(a)
	w.settle()
	w.wantStages(a, b, ComparePictures, ComparePictures)
	x, y := a.comparison(b).Pictures, b.comparison(a).Pictures
	if len(x) != compare.Count || !slices.Equal(x, y) {
		w.t.Fatalf("one sees %v, the other %v", x, y)
	}
	return x
}

func TestCompareVerifies(t *testing.T) {
	w, a, b := pair(t)
	w.picturesOf(a, b)
	a.compared(b, true)
	a.compared(b, true) // again
	w.settle()
	w.wantVerified(a, b, false, false)
	w.wantStages(a, b, ComparePictures, ComparePictures)
	b.compared(a, true)
	w.settle()
	w.wantVerified(a, b, true, true)
	w.wantStages(a, b, CompareMatched, CompareMatched)
	if a.notices(NoticeCompareMatched) != 1 || b.notices(NoticeCompareMatched) != 1 {
		t.Error("the two were not told once each")
	}
	w.pass(compareTime)
	if len(a.rows(tableCompare)) != 0 || len(b.rows(tableCompare)) != 0 {
		t.Error("something is left of it")
	}
}

func TestCompareDiffers(t *testing.T) {
	w, a, b := pair(t)
	for _, n := range []*node{a, b} {
		other := map[*node]*node{a: b, b: a}[n]
		n.do(func(tx store.Tx) (Hint, error) { return n.e.SetVerified(tx, w.now, other.account(), true) })
	}
	w.picturesOf(a, b)
	a.compared(b, true)
	b.compared(a, false)
	w.settle()
	w.wantStages(a, b, CompareDiffers, CompareDiffers)
	w.wantVerified(a, b, false, false)
	if a.notices(NoticeCompareDiffers) != 1 || b.notices(NoticeCompareDiffers) != 1 {
		t.Error("the two were not warned once each")
	}
	err := a.update(func(tx store.Tx) (Hint, error) { return a.e.Compared(tx, w.now, b.account(), true) })
	if err != ErrNoComparison {
		t.Errorf("a second thought: %v", err)
	}
}

// Both begin before either has heard of the other.
func TestCompareBothBegin(t *testing.T) {
	for range 8 { // whose id is the smaller is chance
		w, a, b := pair(t)
		a.compare(b)
		b.compare(a)
		w.settle()
		w.wantStages(a, b, ComparePictures, ComparePictures)
		if !slices.Equal(a.comparison(b).Pictures, b.comparison(a).Pictures) {
			t.Fatal("they see different pictures")
		}
		a.compared(b, true)
		b.compared(a, true)
		w.settle()
		w.wantVerified(a, b, true, true)
	}
}

func TestCompareSurvivesRestarts(t *testing.T) {
	w, a, b := pair(t)
	both := func() {
		a.load()
		b.load()
		w.settle()
	}
	a.compare(b)
	both()
	b.compare(a)
	both()
	want := a.comparison(b).Pictures
	a.compared(b, true)
	both()
	if got := b.comparison(a).Pictures; len(want) != compare.Count || !slices.Equal(got, want) {
		t.Fatalf("one sees %v, the other %v", want, got)
	}
	b.compared(a, true)
	both()
	w.wantVerified(a, b, true, true)
}

func TestCompareTimesOut(t *testing.T) {
	w, a, b := pair(t)
	for _, until := range []Stage{CompareOffered, ComparePictures} {
		a.compare(b)
		w.settle()
		if until == ComparePictures {
			b.compare(a)
			w.settle()
		}
		if got := b.comparison(a).Stage; got != until {
			t.Fatalf("at %q", got)
		}
		w.pass(compareTime + time.Second)
		w.wantStages(a, b, "", "")
		w.wantVerified(a, b, false, false)
	}
	if got := a.notices(NoticeCompareEnded); got != 2 {
		t.Errorf("alice was told %d times", got)
	}
	// One that answers too late hears it at once.
	b.offline, b.away = true, true
	a.compare(b)
	w.pass(compareTime - 30*time.Second)
	b.offline, b.away = false, false
	w.pass(time.Second)
	w.wantStages(a, b, CompareWaiting, CompareOffered)
	a.offline, a.away = true, true
	b.compare(a)
	w.pass(time.Minute)
	a.offline, a.away = false, false
	w.pass(time.Second)
	w.wantStages(a, b, "", CompareEnded)
}

func TestCompareIsStopped(t *testing.T) {
	w, a, b := pair(t)
	a.compare(b)
	w.settle()
	a.stopComparing(b)
	w.settle()
	w.wantStages(a, b, CompareEnded, "") // nothing bob would have to know
	w.picturesOf(b, a)
	a.stopComparing(b)
	a.stopComparing(b)
	w.settle()
	w.wantStages(a, b, CompareEnded, CompareEnded)
	w.picturesOf(a, b)
	a.compare(b) // goes on
	w.settle()
	w.wantStages(a, b, ComparePictures, ComparePictures)
}

// Who begins anew while pictures are shown: those are not to be compared any more.
func TestCompareBeginsAnew(t *testing.T) {
	w, a, b := pair(t)
	w.picturesOf(a, b)
	b.do(func(tx store.Tx) (Hint, error) { return Hint{}, tx.Delete(keyCompare(a.account())) })
	b.compare(a)
	w.settle()
	w.wantStages(a, b, CompareOffered, CompareWaiting)
	a.compare(b)
	w.settle()
	w.wantStages(a, b, ComparePictures, ComparePictures)
}

// The first device that answers is the one; the others are told.
func TestCompareWithSeveralDevices(t *testing.T) {
	w, a, b := crowd(t, 2, 2)
	a[0].compare(b[0])
	w.settle()
	for _, n := range b {
		if got := n.comparison(a[0]).Stage; got != CompareOffered {
			t.Fatalf("a device of bob is at %q", got)
		}
	}
	b[1].compare(a[0])
	b[0].compare(a[0]) // before it heard of that
	w.settle()
	stages := []Stage{b[0].comparison(a[0]).Stage, b[1].comparison(a[0]).Stage}
	slices.Sort(stages)
	if !slices.Equal(stages, []Stage{CompareEnded, ComparePictures}) {
		t.Fatalf("bob's devices are at %q", stages)
	}
	at := b[0]
	if at.comparison(a[0]).Stage != ComparePictures {
		at = b[1]
	}
	if !slices.Equal(at.comparison(a[0]).Pictures, a[0].comparison(b[0]).Pictures) {
		t.Fatal("they see different pictures")
	}
	a[0].compared(b[0], true)
	at.compared(a[0], true)
	w.pass(time.Minute)
	for _, n := range slices.Concat(a, b) {
		other := b[0]
		if slices.Contains(b, n) {
			other = a[0]
		}
		if !n.contact(other).Verified {
			t.Errorf("not verified on every device")
		}
	}
}

// A device that was revoked has nothing more to say.
func TestCompareWithRevokedDevice(t *testing.T) {
	w, a, b := crowd(t, 1, 2)
	a[0].compare(b[0])
	w.settle()
	b[1].compare(a[0])
	w.settle()
	w.wantStages(a[0], b[1], ComparePictures, ComparePictures)
	chain, err := b[0].change(func(tx store.Tx) ([]byte, error) { return b[0].e.Revoke(tx, w.now, b[1].device(), account.Lost) })
	w.check(err)
	w.check(b[0].setOwnChain(chain))
	w.publish("bob", b[0].chain())
	w.settle()
	if got := a[0].comparison(b[0]).Stage; got != "" {
		t.Errorf("at %q", got)
	}
}
