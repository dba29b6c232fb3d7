package engine

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/store"
)

func (n *node) mirror() (m *mirror) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		v, err := n.e.logView(tx)
		if err != nil {
			return err
		}
		m, err = n.e.mirrored(tx, v.Log)
		return err
	})
	return m
}

// TestMirror: a log that is read in pages of any sizes, while it grows, is
// mirrored entry by entry and hash by hash, and heads of it are known as its
// own.
func TestMirror(t *testing.T) {
	rsa := keytest.RSA(t, 0)
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorldWith(t, rsa)
		a := w.add("alice")
		log := w.home.log
		var heads []directory.Head
		for range rapid.IntRange(1, 5).Draw(rt, "reads") {
			log.grow(rapid.IntRange(0, 300).Draw(rt, "entries"))
			w.check(a.readLog(rapid.IntRange(1, 400).Draw(rt, "page")))
			heads = append(heads, log.head(w))
		}
		m := a.mirror()
		a.view(func(tx store.Tx) error {
			m.tx = tx
			for i := range log.hashes {
				got, err := m.ReadHashes([]int64{int64(i)})
				if err != nil || got[0] != log.hashes[i] {
					t.Fatalf("hash %d of %d is wrong: %v", i, len(log.hashes), err)
				}
			}
			for i, leaf := range log.leaves {
				got, at, ok, err := m.Newest(leaf.Label)
				if err != nil || !ok || at != uint64(i) || got != leaf {
					t.Fatalf("entry %d is found at %d: %v, %v", i, at, ok, err)
				}
			}
			return nil
		})
		if m.size != log.size() {
			t.Fatalf("%d of %d entries", m.size, log.size())
		}
		for _, h := range heads {
			if got := a.judge(h); got != headSame {
				t.Fatalf("verdict %d of the log's own head of %d entries", got, h.Size)
			}
		}
		if _, stands := a.alarmOfLog(); stands {
			t.Fatal("an alarm of an honest log")
		}
	})
}

// TestJudgeHead: a head that somebody else was shown is of our log, not yet
// known, or convicts the rendezvous by what anybody can check.
func TestJudgeHead(t *testing.T) {
	w := newWorldWith(t, keytest.RSA(t, 0))
	a := w.add("alice")
	log := w.home.log
	log.grow(20)
	fork := log.clone()
	log.grow(20)
	fork.grow(60)
	w.check(a.readLog(7))
	for name, c := range map[string]struct {
		head directory.Head
		want verdict
	}{
		"none":            {log.headOf(w, 0), headSame},
		"smaller":         {log.headOf(w, 13), headSame},
		"before the fork": {fork.headOf(w, 20), headSame},
		"the same":        {log.headOf(w, 40), headSame},
		"smaller fork":    {fork.headOf(w, 21), headAlarm},
		"fork of a size":  {fork.headOf(w, 40), headAlarm},
		"larger fork":     {fork.headOf(w, 41), headAhead},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			defer a.do(func(tx store.Tx) (Hint, error) { return Hint{}, tx.Delete(a.e.keyLogAlarm()) })
			if got := a.judge(c.head); got != c.want {
				t.Fatalf("verdict %d, want %d", got, c.want)
			}
			alarm, stands := a.alarmOfLog()
			if stands != (c.want == headAlarm) {
				t.Fatalf("alarm %v: %s", stands, alarm.Problem)
			}
			if !stands {
				return
			}
			e, err := directory.CheckEvidence(alarm.Evidence)
			if err != nil || e.Kind != directory.Fork || !bytes.Equal(e.Log.Host().PeerID(), log.peer()) {
				t.Fatalf("%+v, %v", e, err)
			}
			if !bytes.Equal(alarm.Shown, c.head.Bytes()) {
				t.Error("the other head is not kept")
			}
		})
	}
}

// TestJudgeLargerHead: a head that is larger than our log is judged when the log
// was read on. One that stays larger was kept from us.
func TestJudgeLargerHead(t *testing.T) {
	w := newWorldWith(t, keytest.RSA(t, 0))
	a := w.add("alice")
	log := w.home.log
	log.grow(10)
	w.check(a.readLog(4))
	fork := log.clone()
	fork.grow(10)
	larger := fork.head(w)
	if got := a.judge(larger); got != headAhead || !a.hint.Log {
		t.Fatalf("verdict %d, the log is to be read: %v", got, a.hint.Log)
	}
	again := func(reads uint64) (v verdict) {
		a.do(func(tx store.Tx) (Hint, error) {
			x, err := a.e.begin(tx, w.now)
			if err != nil {
				return Hint{}, err
			}
			if v, err = x.judgeHead(larger, reads); err != nil {
				return Hint{}, err
			}
			return x.end()
		})
		return v
	}
	reads := a.mirror().reads
	w.check(a.readLog(4))
	if got := again(reads); got != headAhead {
		t.Fatalf("verdict %d after one read, which may have begun before", got)
	}
	w.check(a.readLog(4))
	if got := again(reads); got != headAlarm {
		t.Fatalf("verdict %d of a log that is kept short", got)
	}
	alarm, stands := a.alarmOfLog()
	if !stands || len(alarm.Evidence) > 0 || len(a.events(KindNotice)) != 1 {
		t.Fatalf("alarm %+v, notices %+v", alarm, a.events(KindNotice))
	}
	log.grow(15)
	w.check(a.readLog(4))
	if got := again(reads); got != headAlarm {
		t.Fatalf("verdict %d of a fork", got)
	}
	if alarm, _ := a.alarmOfLog(); len(alarm.Evidence) == 0 {
		t.Error("what convicts does not take the place of what does not")
	}
}

// TestFoldContradiction: a log that contradicts itself is convicted, and not
// mirrored any further.
func TestFoldContradiction(t *testing.T) {
	w := newWorldWith(t, keytest.RSA(t, 0))
	a := w.add("alice")
	log := w.home.log
	log.grow(20)
	w.check(a.readLog(8))
	twin := log.leaves[3]
	twin.Account[0]++
	back := log.leaves[4]
	back.Seq--
	for name, c := range map[string]struct {
		lie  func(*logbook)
		want error
		kind directory.Kind
	}{
		"rebound":  {func(l *logbook) { l.enter(twin) }, ErrLogChanged, directory.Rebound},
		"set back": {func(l *logbook) { l.enter(back) }, ErrLogChanged, directory.SetBack},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.home.log = log.clone()
			c.lie(w.home.log)
			before := a.rows(tableLogHash)
			err := a.readLog(100)
			if !errors.Is(err, c.want) || !IsAlarm(err) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			a.do(func(tx store.Tx) (Hint, error) { return a.e.LogFailed(tx, w.now, err) })
			alarm, _ := a.alarmOfLog()
			e, err := directory.CheckEvidence(alarm.Evidence)
			if err != nil || e.Kind != c.kind {
				t.Fatalf("%+v, %v", e, err)
			}
			if len(a.rows(tableLogHash)) != len(before) || a.mirror().size != 20 {
				t.Error("something was mirrored")
			}
			a.do(func(tx store.Tx) (Hint, error) { return Hint{}, tx.Delete(a.e.keyLogAlarm()) })
		})
	}
}
