package engine

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

// entryOf is the entry of a name that the rendezvous should have.
func (w *world) entryOf(name string, chain *account.Chain) directory.Leaf {
	return directory.Leaf{
		Label: directory.Label(w.home.log.signer.Log().Origin(), name), Account: chain.Account(), Seq: chain.Seq(), Head: chain.Head(),
	}
}

// TestFalseEntries: an entry that contradicts no other, but what is known of a name,
// is kept with its proof, and told once; the honest ones are not.
func TestFalseEntries(t *testing.T) {
	other := func(l directory.Leaf) directory.Leaf { l.Account[0]++; return l }
	forked := func(l directory.Leaf) directory.Leaf { l.Head[0]++; return l }
	for name, c := range map[string]struct {
		of  string
		lie func(directory.Leaf) directory.Leaf
	}{
		"own name of another account":       {"alice", other},
		"another statement of own":          {"alice", forked},
		"contact's name of another account": {"bob", other},
		"another statement of a contact's":  {"bob", forked},
		"":                                  {"alice", func(l directory.Leaf) directory.Leaf { return l }},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b := pair(t)
			w.home.log = &logbook{host: w.home.log.host, signer: w.home.log.signer}
			a.do(func(tx store.Tx) (Hint, error) { // what was seen before is forgotten
				return Hint{}, errors.Join(tx.Set(keyMirror(), (&mirrorRow{gen: 1}).encode()), tx.Delete(a.e.keyLog()))
			})
			w.home.log.grow(3)
			leaf := w.entryOf(c.of, map[string]*node{"alice": a, "bob": b}[c.of].chain())
			lie := c.lie(leaf)
			index := w.home.log.enter(lie)
			w.home.log.grow(3)
			w.check(a.readLog(2))
			w.check(a.readLog(2))
			alarm, stands := a.alarmOfLog()
			if notices := a.notices(NoticeFalseEntry); stands != (lie != leaf) || (notices == 1) != stands {
				t.Fatalf("alarm %v (%s), %d notices", stands, alarm.Problem, notices)
			}
			if !stands {
				return
			}
			head, err := w.home.log.signer.Log().Open(alarm.Shown)
			w.check(err)
			w.check(alarm.Entry.Check(head.Size, head.Root))
			if alarm.Entry.Leaf != lie || alarm.Entry.Index != index {
				t.Errorf("another entry is kept: %+v", alarm.Entry)
			}
			a.acceptLog()
			w.settle()
			if _, stands := a.alarmOfLog(); stands || a.mirror().size != w.home.log.size() {
				t.Errorf("what was accepted is an alarm again, or the log is not read: %v, %d entries", stands, a.mirror().size)
			}
		})
	}
}

// TestUnknownOwnStatement: a statement of the own account that only the log knows is
// looked up. A device of ours made it, or else it is an alarm.
func TestUnknownOwnStatement(t *testing.T) {
	for _, mine := range []bool{true, false} {
		w := newWorld(t)
		a := w.add("alice")
		leaf := w.entryOf("alice", a.chain())
		w.home.log.enter(leaf)
		w.check(a.readLog(10))
		if mine {
			chain, err := a.chain().RotateRK(w.now, a.recovery(), key.NewRecovery())
			w.check(err)
			w.home.names["alice"].chain = chain.Bytes()
			leaf = w.entryOf("alice", chain)
		} else {
			leaf.Seq++
			leaf.Head[0]++
			w.home.noEntry = true // it answers with the old chain
		}
		index := w.home.log.enter(leaf)
		w.check(a.readLog(10))
		w.settle()
		alarm, stands := a.alarmOfLog()
		if stands == mine || !mine && alarm.Entry.Index != index {
			t.Errorf("made here: %v, alarm %v: %+v", mine, stands, alarm)
		}
		if mine && a.chain().Seq() != leaf.Seq {
			t.Error("the statement was not looked up")
		}
	}
}

// TestWithheld: a rendezvous that answers with an older chain than its own log says
// is refused, and nothing is sent until it tells.
func TestWithheld(t *testing.T) {
	w, a, b := pair(t)
	old := w.home.look("bob", false)
	w.home.proveFrom(0, old)
	chain := b.addDeviceChain(w)
	w.home.log.enter(w.entryOf("bob", chain))
	w.check(a.readLog(10)) // asks for bob, and is answered with the old chain
	w.home.noEntry = true
	w.pass(time.Minute)
	if n := a.notices(NoticeWithheld); n != 1 {
		t.Fatalf("%d notices", n)
	}
	sent := len(a.sent)
	id := a.send(b, "secret")
	w.pass(10 * time.Minute)
	if len(a.sent) != sent || a.message(id).State != StateQueued {
		t.Fatal("something was sent")
	}
	w.home.names["bob"].chain, w.home.noEntry = chain.Bytes(), false
	w.pass(30 * time.Minute)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Changed(tx, w.now, []protocol.AccountID{b.account()}) })
	w.settle()
	if s := a.message(id).State; s != StateDelivered {
		t.Fatalf("state %s after the truth was told", s)
	}
}

// addDeviceChain is the chain of n with one more device.
func (n *node) addDeviceChain(w *world) (c *account.Chain) {
	newcomer, err := NewNewcomerWith(w.now, "second", w.rsa)
	w.check(err)
	n.do(func(tx store.Tx) (Hint, error) {
		b, err := n.e.Certify(tx, w.now, newcomer.Request())
		if err != nil {
			return Hint{}, err
		}
		c, err = account.ParseChain(b)
		return Hint{}, err
	})
	return c
}

// raiseAlarm makes a node see two logs.
func (n *node) raiseAlarm() {
	n.w.t.Helper()
	n.w.check(n.readLog(100))
	fork := n.w.home.log.clone()
	fork.leaves = fork.leaves[:len(fork.leaves)-1]
	fork = rebuilt(fork)
	fork.grow(1)
	if v := n.judge(fork.head(n.w)); v != headAlarm {
		n.w.t.Fatalf("verdict %d", v)
	}
}

// rebuilt hashes the entries of a log anew.
func rebuilt(l *logbook) *logbook {
	out := &logbook{host: l.host, signer: l.signer}
	for _, leaf := range l.leaves {
		out.enter(leaf)
	}
	return out
}

// TestAlarmBlocks: while an alarm stands nothing new is sealed for who is not
// verified; what others send is taken and acknowledged. It goes out when the contact
// is verified or the log is accepted.
func TestAlarmBlocks(t *testing.T) {
	for _, end := range []string{"verify", "accept"} {
		w, a, b := pair(t)
		c := w.add("carol")
		w.befriend(a, c)
		a.do(func(tx store.Tx) (Hint, error) { return a.e.SetVerified(tx, w.now, c.account(), true) })
		b.do(func(tx store.Tx) (Hint, error) { return b.e.SetVerified(tx, w.now, a.account(), true) }) // who gets the evidence too
		w.settle()
		a.raiseAlarm()
		w.settle()
		toBob, toCarol := a.send(b, "to bob"), a.send(c, "to carol")
		fromBob := b.send(a, "from bob")
		w.pass(10 * time.Minute)
		if s := a.message(toBob).State; s != StateQueued || len(a.rows(tableOut)) != 0 {
			t.Errorf("to bob: %s, %d sealed", s, len(a.rows(tableOut)))
		}
		if s := a.message(toCarol).State; s != StateDelivered {
			t.Errorf("to carol, who is verified: %s", s)
		}
		if s := b.message(fromBob).State; s != StateDelivered {
			t.Errorf("from bob: %s", s)
		}
		var steps []Step
		a.view(func(tx store.Tx) (err error) {
			_, steps, err = a.e.Trace(tx, w.now, toBob)
			return err
		})
		if !slices.ContainsFunc(steps, func(s Step) bool { return strings.Contains(s.Detail, BlockedByAlarm) }) {
			t.Errorf("the trace does not say why: %+v", steps)
		}
		if end == "verify" {
			a.do(func(tx store.Tx) (Hint, error) { return a.e.SetVerified(tx, w.now, b.account(), true) })
		} else {
			a.acceptLog()
		}
		w.pass(time.Minute)
		if s := a.message(toBob).State; s != StateDelivered {
			t.Errorf("%s: to bob: %s", end, s)
		}
		if _, stands := a.alarmOfLog(); stands != (end == "verify") {
			t.Errorf("%s: alarm %v", end, stands)
		}
	}
}

// TestAlarmLetsCompare: who is blocked by an alarm can still be verified by emoji,
// and is written to then.
func TestAlarmLetsCompare(t *testing.T) {
	w, a, b := pair(t)
	a.raiseAlarm()
	id := a.send(b, "text")
	w.settle()
	w.picturesOf(a, b)
	a.compared(b, true)
	b.compared(a, true)
	w.settle()
	if !a.contact(b).Verified || a.message(id).State != StateDelivered {
		t.Errorf("verified %v, the message is %s", a.contact(b).Verified, a.message(id).State)
	}
}

// TestAcceptLog: the mirror is made anew, and heads from before are not compared.
func TestAcceptLog(t *testing.T) {
	w, a, _ := pair(t)
	w.home.log.grow(600)
	a.raiseAlarm()
	fork := w.home.log.clone()
	fork.grow(1)
	early := fork.head(w)
	underWay := &logChanged{cause: directory.ErrFork, held: w.home.log.head(w).Bytes(), shown: early.Bytes()}
	w.now = w.now.Add(time.Second)
	a.acceptLog()
	a.do(func(tx store.Tx) (Hint, error) { return a.e.LogFailed(tx, w.now, underWay) })
	if alarm, stands := a.alarmOfLog(); stands {
		t.Errorf("what was under way raises the alarm again: %s", alarm.Problem)
	}
	w.home.log = rebuilt(&logbook{host: fork.host, signer: fork.signer, leaves: fork.leaves[:2]})
	w.home.log.grow(700)
	w.pass(time.Minute)
	if m := a.mirror(); m.size != w.home.log.size() || m.gen != 1 {
		t.Errorf("mirror %d, %d of %d entries", m.gen, m.size, w.home.log.size())
	}
	for _, table := range []byte{tableLogHash, tableLogLeaf, tableLogLabel} {
		for _, row := range a.rows(table) {
			if row.Key[8] == 0 {
				t.Fatalf("a row of the old mirror is left in table %c", table)
			}
		}
	}
	if v := a.judge(early); v != headUnknown {
		t.Errorf("verdict %d of a head from before", v)
	}
	var list []LogAlarm
	a.view(func(tx store.Tx) (err error) {
		list, err = a.e.LogAlarms(tx)
		return err
	})
	if len(list) != 1 || list[0].Ended.IsZero() || len(list[0].Evidence) == 0 {
		t.Errorf("archive: %+v", list)
	}
	if err := a.update(func(tx store.Tx) (Hint, error) { return a.e.AcceptLog(tx, w.now) }); !errors.Is(err, ErrNoAlarm) {
		t.Errorf("accepted again: %v", err)
	}
	late := fork.head(w)
	if v := a.judge(late); v != headAlarm {
		t.Errorf("verdict %d of the other log after that", v)
	}
}

// TestAlarmThatWasOnItsWay: an answer was found to be of another log, and the user
// accepted the log before that was noted.
func TestAlarmThatWasOnItsWay(t *testing.T) {
	w, a, b := pair(t)
	w.home.log.grow(600)
	a.raiseAlarm()
	note := func(held, shown directory.Head) (alarmed bool) {
		cause := &logChanged{cause: directory.ErrShrunk, held: held.Bytes(), shown: shown.Bytes()}
		a.do(func(tx store.Tx) (Hint, error) { return a.e.LookupFailed(tx, w.now, b.account(), cause) })
		_, alarmed = a.alarmOfLog()
		return alarmed
	}
	other := w.home.log.clone()
	other.grow(1)
	before, shown := w.home.log.head(w), other.head(w)
	w.now = w.now.Add(time.Second)
	a.acceptLog()
	if note(before, shown) {
		t.Error("an alarm of what was accepted")
	}
	w.now = w.now.Add(time.Second)
	if !note(w.home.log.head(w), other.head(w)) {
		t.Error("no alarm of what was signed since")
	}
}

// TestAcceptByAnotherClock: the rendezvous's clock is ahead of this device's, and
// what it signed before is not compared all the same.
func TestAcceptByAnotherClock(t *testing.T) {
	w, a, _ := pair(t)
	w.home.log.grow(600)
	w.check(a.readLog(100))
	fork := rebuilt(&logbook{host: w.home.log.host, signer: w.home.log.signer, leaves: w.home.log.leaves[:500]})
	fork.grow(100)
	ours := w.now
	w.now = ours.Add(9 * time.Minute)
	early := fork.headOf(w, 550)
	w.now = ours.Add(10 * time.Minute)
	if v := a.judge(fork.head(w)); v != headAlarm {
		t.Fatalf("verdict %d", v)
	}
	w.now = ours
	a.acceptLog()
	if v := a.judge(early); v != headUnknown {
		t.Errorf("verdict %d of a head from before", v)
	}
}

// TestAcceptContradiction: a log that gave a name to two accounts is used again after
// it was accepted, without another alarm of the same entries.
func TestAcceptContradiction(t *testing.T) {
	w, a, b := pair(t)
	twin := w.entryOf("bob", b.chain())
	twin.Account[0]++
	w.home.log.grow(20)
	w.check(a.readLog(5))
	w.home.log.enter(twin)
	err := a.readLog(5)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.LogFailed(tx, w.now, err) })
	if alarm, stands := a.alarmOfLog(); !stands || len(alarm.Evidence) == 0 {
		t.Fatalf("alarm %v: %+v", stands, alarm)
	}
	w.home.noEntry = true // it goes on with the true one
	id := a.send(b, "text")
	a.acceptLog()
	w.settle()
	for range 2 {
		a.followLog()
	}
	a.lookUp(b.account(), false)
	w.pass(time.Minute)
	if _, stands := a.alarmOfLog(); stands || a.message(id).State != StateDelivered {
		t.Errorf("alarm %v, the message is %s", stands, a.message(id).State)
	}
	if n := a.notices(NoticeLogChanged); n != 1 {
		t.Errorf("told %d times", n)
	}
}
