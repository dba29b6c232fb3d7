package engine

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func (n *node) prekeyStatus() (s PrekeyStatus) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		s, err = n.e.PrekeyStatus(tx, n.w.now)
		return err
	})
	return s
}

// bothKinds runs a test against a rendezvous that tells the digest of the
// stock, and against one that does not.
func bothKinds(t *testing.T, fn func(t *testing.T, w *world)) {
	for name, terse := range map[string]bool{"with digest": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.home.terse = terse
			fn(t, w)
		})
	}
}

func (n *node) shelf() *shelf { return n.w.home.devices[n.device()] }

// Ten minutes in which every upload conflicts: few requests, one notice, and
// all is well afterwards.
func TestOTK03_ConflictsEndInOneRound(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		a := w.add("alice")
		s := a.shelf()
		s.oneTime = s.oneTime[90:]
		w.home.conflict = func(protocol.PrekeyID) bool { return true }
		requests := 0
		for range 600 {
			requests += a.syncPrekeys()
			w.now = w.now.Add(time.Second)
		}
		if requests >= 10 {
			t.Errorf("%d requests", requests)
		}
		if n := a.events(KindNotice); len(n) != 1 || n[0].Cause != NoticePrekeyConflict {
			t.Errorf("notices %+v", n)
		}
		if p := a.prekeyStatus().LastProblem; p != "key_conflict" {
			t.Errorf("problem %q", p)
		}
		w.home.conflict = nil
		w.now = w.now.Add(time.Hour)
		requests = a.syncPrekeys()
		if st := a.prekeyStatus(); requests != 1 || st.Published != protocol.PrekeyStock || st.LastProblem != "" {
			t.Errorf("%d requests, status %+v", requests, st)
		}
	})
}

func TestOTK03_OneConflictingKey(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		a := w.add("alice")
		s := a.shelf()
		s.oneTime = s.oneTime[50+1:]
		first := true
		w.home.conflict = func(protocol.PrekeyID) bool {
			defer func() { first = false }()
			return first
		}
		if n := a.syncPrekeys(); n != 1 {
			t.Errorf("%d requests", n)
		}
		if n := len(s.oneTime); n != protocol.PrekeyStock-1 {
			t.Errorf("%d published", n)
		}
		if n := len(a.rows(tableOneTime)); n != protocol.PrekeyStock+51-1 {
			t.Errorf("%d private halves", n) // those taken off the shelf are kept, the conflicting one is not
		}
	})
}

// The process dies at every point of an upload. The same keys are uploaded
// again, and no id ever has two keys.
func TestOTK04_CrashAtEveryPoint(t *testing.T) {
	die := errors.New("dies")
	points := []struct {
		name string
		fn   func(t *testing.T, w *world, a *node)
	}{
		{"while generating", func(t *testing.T, w *world, a *node) {
			err := a.kv.Update(context.Background(), func(tx store.Tx) error {
				_, err := a.e.PrekeyPlan(tx, w.now, w.home.counts(a.device()))
				return errors.Join(err, die)
			})
			if !errors.Is(err, die) {
				t.Fatal(err)
			}
		}},
		{"before sending", func(t *testing.T, w *world, a *node) { a.plan(w.home.counts(a.device())) }},
		{"response lost", func(t *testing.T, w *world, a *node) {
			w.home.upload(a.device(), a.plan(w.home.counts(a.device())))
		}},
		{"while noting the response", func(t *testing.T, w *world, a *node) {
			up := a.plan(w.home.counts(a.device()))
			got := w.home.upload(a.device(), up)
			err := a.kv.Update(context.Background(), func(tx store.Tx) error {
				_, _, err := a.e.PrekeysStored(tx, w.now, up, got)
				return errors.Join(err, die)
			})
			if !errors.Is(err, die) {
				t.Fatal(err)
			}
		}},
	}
	for _, p := range points {
		bothKinds(t, func(t *testing.T, w *world) {
			t.Log(p.name)
			a := w.add("alice")
			a.shelf().oneTime = a.shelf().oneTime[90:]
			p.fn(t, w, a)
			sent := pending(a)
			a.load()
			again := a.plan(nil)
			if got := recordsOf(again); !slices.Equal(got, sent) {
				t.Fatalf("%d keys are sent again, %d were planned", len(got), len(sent))
			}
			if n := a.syncPrekeys(); n > 1 {
				t.Errorf("%d requests", n)
			}
			if n := len(a.shelf().oneTime); n != protocol.PrekeyStock {
				t.Errorf("%d published", n)
			}
			if len(a.events(KindNotice)) != 0 {
				t.Errorf("notices %+v", a.events(KindNotice))
			}
			if a.plan(nil) != nil {
				t.Error("something is still not confirmed")
			}
		})
	}
}

func pending(n *node) (ids []protocol.PrekeyID) {
	n.do(func(tx store.Tx) (Hint, error) {
		w, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		_, stock, err := w.prekeys()
		for _, s := range stock {
			if s.pending {
				ids = append(ids, s.id)
			}
		}
		return Hint{}, err
	})
	return ids
}

func recordsOf(up *wire.UploadPrekeys) (ids []protocol.PrekeyID) {
	for _, b := range up.GetOneTimeRecords() {
		ids = append(ids, recordID(b))
	}
	return ids
}

func TestOTK05_SilenceChangesNothing(t *testing.T) {
	bothKinds(t, func(t *testing.T, w *world) {
		a := w.add("alice")
		uploads := a.shelf().uploads
		before := a.state()
		for range 1000 {
			a.syncPrekeys()
			if up := a.plan(nil); up != nil {
				t.Fatal("an upload without counts")
			}
			if a.stored(&wire.UploadPrekeys{}, nil) {
				t.Fatal("an answer without counts asks for more")
			}
			w.now = w.now.Add(time.Minute)
		}
		if n := a.shelf().uploads - uploads; n != 0 {
			t.Errorf("%d uploads", n)
		}
		if !slices.Equal(before, a.state()) {
			t.Error("the store changed")
		}
	})
}
