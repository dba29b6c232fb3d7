package engine

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/wire"
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

// TestHonestLog: whatever is looked up, read, cut off and judged while an honest log
// grows, nothing of it is an alarm.
func TestHonestLog(t *testing.T) {
	origin, _, _ := pair(t)
	rapid.Check(t, func(rt *rapid.T) {
		w := origin.clone(rt)
		a, b := w.nodes[0], w.nodes[1]
		dies := false
		a.crash = func() bool { return dies }
		safely := func(fn func()) {
			defer func() {
				r := recover()
				if _, died := r.(crashed); died {
					dies = false
					a.load()
				} else if r != nil {
					panic(r)
				}
			}()
			fn()
		}
		log := w.home.log
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			dies = rapid.IntRange(0, 3).Draw(rt, "dies") == 0
			switch rapid.IntRange(0, 5).Draw(rt, "what") {
			case 0:
				log.grow(rapid.IntRange(1, 100).Draw(rt, "entries"))
			case 1: // bob's chain grows
				chain := b.addDeviceChain(w)
				w.home.names["bob"].chain = chain.Bytes()
				log.enter(w.entryOf("bob", chain))
				safely(func() { b.do(func(tx store.Tx) (Hint, error) { return b.e.SetOwnChain(tx, w.now, chain.Bytes()) }) })
			case 2:
				safely(func() { a.lookUp(rapid.SampledFrom([]*node{a, b}).Draw(rt, "whom").account(), false) })
			case 3:
				safely(func() { w.check(a.readLog(rapid.IntRange(1, 64).Draw(rt, "page"))) })
			case 4:
				h := log.headOf(w, rapid.Uint64Range(0, log.size()).Draw(rt, "size"))
				safely(func() {
					if v := a.judge(h); v != headSame && v != headAhead {
						t.Fatalf("verdict %d", v)
					}
				})
			default:
				w.now = w.now.Add(time.Duration(rapid.IntRange(1, 5000).Draw(rt, "seconds")) * time.Second)
			}
		}
		dies = false
		w.settle()
		w.check(a.readLog(64))
		if _, stands := a.alarmOfLog(); stands || len(a.events(KindNotice)) != a.notices(NoticeDeviceAdded) {
			t.Fatalf("alarm %v, notices %+v", stands, a.events(KindNotice))
		}
		if m := a.mirror(); m.size != log.size() || m.full.Size != log.size() {
			t.Fatalf("%d of %d entries are mirrored", m.size, log.size())
		}
	})
}

// TestFoldMalicious: a page that does not continue what is mirrored changes nothing,
// and is told once.
func TestFoldMalicious(t *testing.T) {
	w := newWorldWith(t, keytest.RSA(t, 0))
	a := w.add("alice")
	log := w.home.log
	log.grow(20)
	w.check(a.readLog(8))
	log.grow(10)
	honest := func() *wire.LogPage { return w.home.page(20, 20, 100) }
	of := func(l *logbook, from, size uint64) *wire.LogPage {
		w.home.log = l
		defer func() { w.home.log = log }()
		return w.home.page(from, size, 100)
	}
	fork := rebuilt(&logbook{host: log.host, signer: log.signer, leaves: log.leaves[:19]})
	fork.grow(1)
	longer := fork.clone()
	longer.grow(10)
	for name, c := range map[string]struct {
		page   *wire.LogPage
		want   error
		proven bool // the alarm convicts
		alarm  bool
	}{
		"nothing":             {&wire.LogPage{}, ErrUnproven, false, false},
		"no entries":          {func() *wire.LogPage { p := honest(); p.Leaves = nil; return p }(), ErrUnproven, false, false},
		"half an entry":       {func() *wire.LogPage { p := honest(); p.Leaves = p.Leaves[1:]; return p }(), ErrUnproven, false, false},
		"an entry too few":    {func() *wire.LogPage { p := honest(); p.Leaves = p.Leaves[directory.LeafSize:]; return p }(), ErrUnproven, false, false},
		"an entry changed":    {func() *wire.LogPage { p := honest(); p.Leaves[500] ^= 1; return p }(), ErrUnproven, false, false},
		"a proof too much":    {func() *wire.LogPage { p := honest(); p.Proof = make([]byte, 32); return p }(), ErrUnproven, false, false},
		"half a hash":         {func() *wire.LogPage { p := honest(); p.Proof = make([]byte, 16); return p }(), ErrUnproven, false, false},
		"truncated":           {func() *wire.LogPage { p := w.home.page(20, 20, 5); p.Proof = nil; return p }(), ErrUnproven, false, false},
		"entries from before": {func() *wire.LogPage { p := w.home.page(19, 20, 100); return p }(), ErrUnproven, false, false},
		"too many entries":    {func() *wire.LogPage { p := honest(); p.Leaves = make([]byte, 3000*directory.LeafSize); return p }(), ErrUnproven, false, false},
		"shrunk":              {of(rebuilt(&logbook{host: log.host, signer: log.signer, leaves: log.leaves[:5]}), 20, 20), ErrLogChanged, false, true},
		"forked":              {of(fork, 20, 20), ErrLogChanged, true, true},
		"forked and grown":    {of(longer, 20, 20), ErrLogChanged, false, true},
		"another log":         {of(newLogbook(), 20, 20), ErrUnproven, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			rows := len(a.rows(tableLogHash)) + len(a.rows(tableLogLeaf)) + len(a.rows(tableLogLabel))
			told := len(a.events(KindNotice))
			for range 2 {
				err := a.update(func(tx store.Tx) (Hint, error) {
					_, h, err := a.e.FoldPage(tx, w.now, 20, c.page)
					return h, err
				})
				if !errors.Is(err, c.want) || !IsAlarm(err) {
					t.Fatalf("%v, want %v", err, c.want)
				}
				a.do(func(tx store.Tx) (Hint, error) { return a.e.LogFailed(tx, w.now, err) })
			}
			if n := len(a.rows(tableLogHash)) + len(a.rows(tableLogLeaf)) + len(a.rows(tableLogLabel)); n != rows || a.mirror().size != 20 {
				t.Error("something was mirrored")
			}
			if n := len(a.events(KindNotice)) - told; n != 1 {
				t.Errorf("told %d times", n)
			}
			alarm, stands := a.alarmOfLog()
			_, err := directory.CheckEvidence(alarm.Evidence)
			if stands != c.alarm || (err == nil) != c.proven {
				t.Errorf("alarm %v: %+v", stands, alarm)
			}
			m := a.mirror().mirrorRow
			m.problem, m.told = "", ""
			a.do(func(tx store.Tx) (Hint, error) { // as if it had not been
				return Hint{}, errors.Join(tx.Delete(a.e.keyLogAlarm()), tx.Set(keyMirror(), m.encode()))
			})
		})
	}
	w.t = t
	w.check(a.readLog(100))
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

// TestLongLog: of a log that is longer than what is mirrored, heads are followed and
// look-ups proven; a head of others that would need the rest is not judged.
func TestLongLog(t *testing.T) {
	w, a, b := pair(t)
	a.do(func(tx store.Tx) (Hint, error) {
		return Hint{}, tx.Set(keyMirror(), (&mirrorRow{gen: 1, size: maxMirror}).encode())
	})
	w.home.log.grow(5)
	w.check(a.readLog(10))
	if a.logSize() != w.home.log.size() || len(a.rows(tableLogLeaf)) > 1 {
		t.Errorf("head of %d entries; rows %d", a.logSize(), len(a.rows(tableLogLeaf)))
	}
	smaller := w.home.log.headOf(w, 3)
	w.home.log.grow(1)
	for name, c := range map[string]struct {
		head directory.Head
		want verdict
	}{
		"smaller": {smaller, headUnknown},
		"larger":  {w.home.log.head(w), headAhead},
	} {
		if v := a.judge(c.head); v != c.want {
			t.Errorf("%s: verdict %d, want %d", name, v, c.want)
		}
	}
	a.lookUp(b.account(), false)
	if p := a.contact(b); !p.Checked.Equal(w.now) {
		t.Errorf("the look-up was not believed: %v", p.Checked)
	}
}
