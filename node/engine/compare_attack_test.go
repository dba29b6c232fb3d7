package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/compare"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// takeStep takes a step as if a device of another node had sent it.
func (n *node) takeStep(from *node, step *wire.Compare) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		w, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		d, err := w.device(from.device())
		if err != nil {
			return Hint{}, err
		}
		p, err := w.peer(from.account())
		if err != nil {
			return Hint{}, err
		}
		if err := w.receiveCompare(&incoming{from: from.device(), d: d, p: p}, step); err != nil {
			return Hint{}, err
		}
		return w.end()
	})
}

func TestCompareIsForContacts(t *testing.T) {
	w, a, b := pair(t)
	stranger := w.add("stranger")
	if err := a.tryCompare(stranger); !errors.Is(err, ErrNotFound) {
		t.Errorf("with a stranger: %v", err)
	}
	a.ask(stranger)
	w.settle()
	if err := a.tryCompare(stranger); err != ErrNotContact {
		t.Errorf("with one who has not accepted: %v", err)
	}
	if err := stranger.tryCompare(a); err != ErrNotContact {
		t.Errorf("with one who was not accepted: %v", err)
	}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Remove(tx, w.now, b.account()) })
	before := len(a.events(KindNotice))
	b.compare(a)
	w.settle()
	if got := a.comparison(b).Stage; got != "" || len(a.events(KindNotice)) != before {
		t.Errorf("one who was removed got to %q", got)
	}
	c := w.add("carol")
	w.befriend(c, a)
	w.picturesOf(a, c)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Block(tx, w.now, c.account()) })
	if len(a.rows(tableCompare)) != 0 {
		t.Error("something is left of a comparison with one who is blocked")
	}
}

// What a peer sends that does not keep to the steps verifies nobody.
func TestCompareWithCheat(t *testing.T) {
	id, nonce, commitment := compare.Begin()
	_, other, _ := compare.Begin()
	wrong := compare.ID{1}
	first := &wire.Compare{Id: id[:], Commitment: commitment[:]}
	reveal := &wire.Compare{Id: id[:], Nonce: nonce[:]}
	match := &wire.Compare{Id: id[:], Match: true}
	answer := &wire.Compare{} // stands for what the user does
	for _, test := range []struct {
		name  string
		steps []*wire.Compare
		stage Stage
	}{
		{"honest", []*wire.Compare{first, answer, reveal}, ComparePictures},
		{"each step twice", []*wire.Compare{first, first, answer, first, reveal, reveal}, ComparePictures},
		{"reveals before the answer", []*wire.Compare{first, reveal}, CompareEnded},
		{"reveals something else", []*wire.Compare{first, answer, {Id: id[:], Nonce: other[:]}}, CompareEnded},
		{"reveals twice", []*wire.Compare{first, answer, reveal, {Id: id[:], Nonce: other[:]}}, CompareEnded},
		{"reveals half", []*wire.Compare{first, answer, {Id: id[:], Nonce: nonce[:31]}}, CompareEnded},
		{"reveals under another id", []*wire.Compare{first, answer, {Id: wrong[:], Nonce: nonce[:]}}, CompareWaiting},
		{"matches before the answer", []*wire.Compare{first, match}, CompareOffered},
		{"matches before the reveal", []*wire.Compare{first, answer, match}, CompareWaiting},
		{"matches under another id", []*wire.Compare{first, answer, reveal, {Id: wrong[:], Match: true}}, ComparePictures},
		{"commits to half", []*wire.Compare{{Id: id[:], Commitment: commitment[:31]}}, ""},
		{"half an id", []*wire.Compare{{Id: id[:15], Commitment: commitment[:]}}, ""},
		{"says nothing", []*wire.Compare{first, answer, {Id: id[:]}}, CompareWaiting},
		{"begins with the nonce", []*wire.Compare{reveal}, ""},
		{"cancels", []*wire.Compare{first, answer, reveal, {Id: id[:], Cancel: true}}, CompareEnded},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, a, m := pair(t)
			for _, step := range test.steps {
				if step == answer {
					a.compare(m)
					continue
				}
				a.takeStep(m, step)
			}
			if got := a.comparison(m).Stage; got != test.stage {
				t.Errorf("at %q", got)
			}
			if a.contact(m).Verified || len(a.comparison(m).Pictures) > 0 != (test.stage == ComparePictures) {
				t.Error("verified, or pictures where there are none")
			}
			if len(a.rows(tableCompare)) > 1 {
				t.Error("more than one comparison with a contact")
			}
		})
	}
}

// One that begins again and again is one notice and one row.
func TestCompareOffersAreBounded(t *testing.T) {
	w, a, m := pair(t)
	timers := len(a.rows(tableTimer))
	for range 50 {
		id, _, commitment := compare.Begin()
		a.takeStep(m, &wire.Compare{Id: id[:], Commitment: commitment[:]})
		w.now = w.now.Add(time.Second)
	}
	if got := a.notices(NoticeCompareOffered); got != 1 {
		t.Errorf("told %d times", got)
	}
	if rows, more := len(a.rows(tableCompare)), len(a.rows(tableTimer))-timers; rows != 1 || more != 1 {
		t.Errorf("%d rows, %d timers", rows, more)
	}
}

// A rendezvous that gave each of two people somebody else for the other cannot
// make them see the same, whatever it passes on.
func TestCompareShowsWhoIsInBetween(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	asBob := w.add("bob") // the one in between, as alice knows bob
	w.befriend(a, asBob)
	w.home.log = &logbook{host: w.home.log.host, signer: w.home.log.signer} // each is shown another log
	asAlice := w.add("alice")
	b := w.add("bob")
	w.befriend(asAlice, b)

	a.compare(asBob)
	seen := func(n, with *node) (r comparisonRow) {
		n.view(func(tx store.Tx) (err error) {
			r, _, err = load[comparisonRow](tx, keyCompare(with.account()))
			return err
		})
		return r
	}
	first := seen(a, asBob)
	b.takeStep(asAlice, &wire.Compare{Id: first.id[:], Commitment: first.commitment[:]})
	b.compare(asAlice)
	nonceOfB := seen(b, asAlice).own
	a.takeStep(asBob, &wire.Compare{Id: first.id[:], Nonce: nonceOfB[:]})
	nonceOfA := seen(a, asBob).own
	b.takeStep(asAlice, &wire.Compare{Id: first.id[:], Nonce: nonceOfA[:]})
	x, y := a.comparison(asBob).Pictures, b.comparison(asAlice).Pictures
	if len(x) != compare.Count || len(y) != compare.Count || slices.Equal(x, y) {
		t.Errorf("they see %v and %v", x, y)
	}
}

// After a recovery of a verified contact comparing goes both ways, and nothing
// else goes out until it is done; if the pictures differ, not even then.
func TestCompareWhileHeld(t *testing.T) {
	for _, match := range []bool{true, false} {
		w, a, b := pair(t)
		a.do(func(tx store.Tx) (Hint, error) { return a.e.SetVerified(tx, w.now, b.account(), true) })
		w.settle()
		b.away, b.offline = true, true
		chain, b2 := w.recovered(b)
		befriendDevice(w, b2, a)
		w.now = w.now.Add(time.Minute)
		w.publish("bob", chain)
		w.settle()
		if !a.contact(b).Held {
			t.Fatal("nothing is held")
		}
		b2.send(a, "it is me") // its receipt is held
		w.pass(time.Minute)
		w.picturesOf(a, b2)
		queued, _ := a.counts()
		if queued == 0 || b2.message(b2.history(a)[0].ID).State == StateRead {
			t.Error("something else went out")
		}
		b2.compared(a, match)
		w.settle()
		if match {
			a.compared(b2, true)
			w.settle()
		}
		if held := a.contact(b).Held; held == match {
			t.Errorf("match %v: held %v", match, held)
		}
		if err := a.trySend(b2, protocol.NewMsgID(), "welcome back"); match != (err == nil) {
			t.Errorf("match %v: %v", match, err)
		}
	}
}
