package engine

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func (n *node) standing(other *node) (s Standing) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		s, err = n.e.Standing(tx, n.w.now, other.account())
		return err
	})
	return s
}

func (n *node) heardFrom(a protocol.AccountID) (r heardRow) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		r, _, err = load[heardRow](tx, keyHeard(a))
		return err
	})
	return r
}

// convicts tells whether a node keeps evidence that anybody can check.
func (n *node) convicts() bool {
	n.w.t.Helper()
	alarm, _ := n.alarmOfLog()
	e, err := directory.CheckEvidence(alarm.Evidence)
	return err == nil && e.Kind == directory.Fork && bytes.Equal(e.Log.Host().PeerID(), n.w.home.log.peer())
}

// confess hands a node a content as if a session had brought it.
func (n *node) confess(from *node, c *wire.Content) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		w, err := n.e.begin(tx, n.w.now)
		if err != nil {
			return Hint{}, err
		}
		d, err1 := w.device(from.device())
		p, err2 := w.peer(from.account())
		if err := errors.Join(err1, err2); err != nil {
			return Hint{}, err
		}
		if err := w.hear(&incoming{from: from.device(), d: d, p: p, content: c}); err != nil {
			return Hint{}, err
		}
		return w.end()
	})
}

// told returns when a node last sealed a head for another.
func (n *node) told(to *node) (at time.Time) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		d, _, err := load[deviceRow](tx, keyDevice(to.device()))
		at = d.headSent
		return err
	})
	return at
}

// A head goes along once an hour, and at once when the log has grown; the other
// then counts as one who was shown the same log.
func TestHeadsGoAlong(t *testing.T) {
	w, a, b := pair(t)
	w.pass(time.Minute)
	say := func(with bool, when string) {
		t.Helper()
		before := a.told(b)
		a.send(b, "hello")
		w.settle()
		if got := !a.told(b).Equal(before); got != with {
			t.Errorf("%s: with a head %v", when, got)
		}
	}
	a.send(b, "hello")
	w.settle()
	say(false, "within the hour")
	w.now = w.now.Add(headEvery)
	say(true, "after an hour")
	say(false, "within the hour")
	w.home.log.grow(3)
	a.followLog()
	say(true, "when the log has grown")
	w.now = w.now.Add(-48 * time.Hour)
	say(true, "when the clock was set back")
	w.now = w.now.Add(48 * time.Hour)
	w.pass(time.Minute)
	if r := b.heardFrom(a.account()); r.size != a.logSize() || len(r.ahead) != 0 {
		t.Errorf("bob heard of %d entries of %d; ahead: %q", r.size, a.logSize(), r.ahead)
	}
	s := b.standing(a)
	if !slices.Equal(s.Confirmed, []protocol.AccountID{a.account()}) || !s.Logged {
		t.Errorf("alice stands so: %+v", s)
	}
	if got := w.home.log.leaves[s.Entry]; got.Account != a.account() {
		t.Errorf("entry %d is of %v", s.Entry, got.Account)
	}
	w.now = w.now.Add(confirmedFor + time.Minute)
	if s := b.standing(a); len(s.Confirmed) != 0 {
		t.Errorf("%d confirm it after a day", len(s.Confirmed))
	}
	if _, alarmed := b.alarmOfLog(); alarmed {
		t.Error("an alarm of an honest log")
	}
}

// Who is shown less than the other answers with its own head at once, even if it
// has nothing to say.
func TestHeadThatIsAheadIsAnswered(t *testing.T) {
	w, a, b := pair(t)
	w.pass(time.Minute)
	w.home.log.grow(3)
	a.followLog()
	b.offline = true
	before := b.told(a)
	a.send(b, "hello")
	w.settle() // and not the half minute that a receipt may take
	if b.told(a).Equal(before) {
		t.Error("bob did not answer")
	}
	if r := b.heardFrom(a.account()); len(r.ahead) == 0 || r.size == a.logSize() {
		t.Errorf("bob took for his log what he has not read: %+v", r)
	}
	b.offline = false
	b.followLog()
	if r := b.heardFrom(a.account()); len(r.ahead) != 0 || r.size != a.logSize() {
		t.Errorf("bob has read it and did not judge again: %+v", r)
	}
}

// TestSplitView: a rendezvous shows two groups logs that part. The first message
// across, whoever writes it and however far the two logs go, raises the alarm on
// both sides, with evidence that anybody can check; and soon everybody has it.
func TestSplitView(t *testing.T) {
	for _, c := range []struct {
		name         string
		left, right  int // entries since they parted
		leftSpeaks   bool
		throughMails bool
	}{
		{"same size", 1, 1, true, false},
		{"the larger speaks", 5, 1, true, false},
		{"the smaller speaks", 1, 5, true, false},
		{"same size, by mailbox", 3, 3, false, true},
		{"the larger speaks, by mailbox", 1, 5, false, true},
		{"the smaller speaks, by mailbox", 5, 1, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a, a2, b, b2 := w.add("alice"), w.add("anna"), w.add("bob"), w.add("ben")
			w.befriend(a, a2)
			w.befriend(b, b2)
			w.befriend(a, b)
			w.pass(time.Hour)
			left, right := w.home.log.clone(), w.home.log.clone()
			left.grow(c.left)
			right.grow(c.right)
			for n, l := range map[*node]*logbook{a: left, a2: left, b: right, b2: right} {
				n.log = l
				n.followLog()
			}
			a.send(a2, "on this side nothing is noticed")
			b.send(b2, "nor on that")
			w.settle()
			for _, n := range w.nodes {
				if _, alarmed := n.alarmOfLog(); alarmed {
					t.Fatalf("%s has an alarm already", n.name)
				}
			}
			a.away = c.throughMails
			from, to := a, b
			if !c.leftSpeaks {
				from, to = b, a
			}
			id := from.send(to, "across")
			w.settle()
			if !a.convicts() || !b.convicts() {
				t.Fatalf("alice convicts: %v, bob: %v", a.convicts(), b.convicts())
			}
			w.pass(10 * time.Minute)
			for _, n := range w.nodes {
				if !n.convicts() {
					t.Errorf("%s has no evidence", n.name)
				}
				if alarms := n.notices(NoticeLogChanged); alarms < 1 || alarms > 2 { // that its log is kept short, and what proves it
					t.Errorf("%s was told %d times", n.name, alarms)
				}
			}
			if s := from.message(id).State; s != StateDelivered {
				t.Errorf("the message is %s", s)
			}
		})
	}
}

// Devices of one account that are shown different logs find out by what they tell
// each other; all devices of a contact have the evidence too.
func TestSplitViewOfOneAccount(t *testing.T) {
	w, a, b := crowd(t, 2, 2)
	left, right := w.home.log.clone(), w.home.log.clone()
	left.grow(2)
	right.grow(1)
	for n, l := range map[*node]*logbook{a[0]: left, b[0]: left, b[1]: left, a[1]: right} {
		n.log = l
		n.followLog()
	}
	b[0].away, b[1].away, b[0].offline, b[1].offline = true, true, true, true
	a[0].send(b[0], "and to my other device")
	w.settle()
	if !a[0].convicts() || !a[1].convicts() {
		t.Fatalf("the writing device convicts: %v, the other: %v", a[0].convicts(), a[1].convicts())
	}
	b[0].away, b[1].away, b[0].offline, b[1].offline = false, false, false, false
	w.pass(time.Hour)
	for i, n := range b {
		if !n.convicts() {
			t.Errorf("bob's device %d has no evidence", i)
		}
	}
}

// TestEvidenceIsChecked: what does not convict our own rendezvous changes nothing,
// whoever sends it.
func TestEvidenceIsChecked(t *testing.T) {
	w, a, b := pair(t)
	w.pass(time.Hour)
	forkOf := func(l *logbook) []byte {
		one, other := l.clone(), l.clone()
		one.grow(1)
		other.grow(1)
		var convicted *directory.Convicted
		if !errors.As(directory.Compare(l.signer.Log(), one.head(w), other.head(w), one), &convicted) {
			t.Fatal("the test does not test")
		}
		return convicted.Evidence.Marshal()
	}
	file := forkOf(w.home.log)
	broken := bytes.Clone(file)
	broken[len(broken)/2] ^= 1
	elsewhere := newLogbook()
	elsewhere.grow(3)
	c := w.add("carol")
	a.ask(c)
	for name, e := range map[string]*wire.Content{
		"of another rendezvous": {Evidence: forkOf(elsewhere)},
		"altered":               {Evidence: broken},
		"too large":             {Evidence: make([]byte, directory.MaxEvidence+1)},
		"no evidence":           {Evidence: []byte("{}")},
		"head of another log":   {LogHead: elsewhere.head(w).Bytes()},
		"no head":               {LogHead: []byte("parley\n1\n")},
		"head too long":         {LogHead: make([]byte, directory.MaxHead+1)},
	} {
		a.confess(b, e)
		if _, alarmed := a.alarmOfLog(); alarmed {
			t.Fatalf("%s raises the alarm", name)
		}
	}
	w.settle()
	c.confess(a, &wire.Content{Evidence: file}) // alice has asked carol, and is nobody to her yet
	if _, alarmed := c.alarmOfLog(); alarmed {
		t.Error("a stranger raises the alarm")
	}
	a.confess(b, &wire.Content{Evidence: file})
	if !a.convicts() || a.notices(NoticeLogChanged) != 1 {
		t.Errorf("evidence is not taken: %v, %d notices", a.convicts(), a.notices(NoticeLogChanged))
	}
	w.settle()
	sent := len(a.sent)
	a.confess(b, &wire.Content{Evidence: forkOf(w.home.log)})
	w.settle()
	if len(a.sent) != sent || a.notices(NoticeLogChanged) != 1 {
		t.Error("once more evidence is told again")
	}
}

// TestEvidenceReachesAllOnce: whoever has evidence sends it to each device of each
// contact and of its own account, once, however many there are and whatever stops
// it; nobody else gets it.
func TestEvidenceReachesAllOnce(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	var others []*node
	for i := range 9 {
		n := w.add(fmt.Sprintf("friend_%d", i))
		w.befriend(a, n)
		others = append(others, n)
	}
	stranger := w.add("stranger")
	a.ask(stranger)
	w.pass(time.Hour)
	fork := w.home.log.clone()
	w.home.log.grow(1)
	fork.grow(1)
	a.followLog()
	a.do(func(tx store.Tx) (Hint, error) { return a.e.HeardHead(tx, w.now, fork.head(w)) })
	if !a.convicts() {
		t.Fatal("no evidence")
	}
	crashes := 0
	a.crash = func() bool { crashes++; return crashes%3 == 0 }
	for range 50 {
		a.surviving(func() { w.settle() })
	}
	a.crash = nil
	w.pass(time.Hour)
	for _, n := range others {
		if !n.convicts() || n.notices(NoticeLogChanged) != 1 {
			t.Errorf("%s: evidence %v, told %d times", n.name, n.convicts(), n.notices(NoticeLogChanged))
		}
	}
	if _, alarmed := stranger.alarmOfLog(); alarmed {
		t.Error("the stranger has it too")
	}
	sent := len(a.sent)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.HeardHead(tx, w.now, fork.head(w)) })
	w.settle()
	if len(a.sent) != sent {
		t.Error("it is sent again")
	}
}

// TestAcceptedLog: what is from before the user accepted the log counts no more; the
// same lie told anew raises the alarm anew, and is told to all again.
func TestAcceptedLog(t *testing.T) {
	w, a, b := pair(t)
	w.pass(time.Hour)
	fork := w.home.log.clone()
	w.home.log.grow(1)
	fork.grow(1)
	a.followLog()
	old := fork.head(w)
	a.confess(b, &wire.Content{LogHead: old.Bytes()})
	w.settle()
	alarm, _ := a.alarmOfLog()
	if !a.convicts() || !b.convicts() {
		t.Fatal("no evidence")
	}
	b.do(func(tx store.Tx) (Hint, error) { return b.e.AcceptLog(tx, w.now) })
	w.now = w.now.Add(time.Minute)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.AcceptLog(tx, w.now) })
	w.settle()
	if s := a.standing(b); len(s.Confirmed) != 0 {
		t.Errorf("%d contacts confirm what was accepted just now", len(s.Confirmed))
	}
	a.confess(b, &wire.Content{LogHead: old.Bytes(), Evidence: alarm.Evidence})
	if now, alarmed := a.alarmOfLog(); alarmed {
		t.Errorf("an alarm that was accepted: %s", now.Problem)
	}
	w.now = w.now.Add(time.Minute)
	b.followLog()
	a.confess(b, &wire.Content{LogHead: fork.head(w).Bytes()})
	w.settle()
	if !a.convicts() || !b.convicts() {
		t.Errorf("the same lie told anew: alice convicts %v, bob %v", a.convicts(), b.convicts())
	}
}

// surviving runs fn; if the process dies in it, it is started again.
func (n *node) surviving(fn func()) {
	defer func() {
		if died := recover(); died != nil {
			if _, ok := died.(crashed); !ok {
				panic(died)
			}
			crash := n.crash
			n.crash = nil
			n.restart()
			n.crash = crash
		}
	}()
	fn()
}

// A content of evidence alone is one; without evidence it is none.
func TestContentWithoutBody(t *testing.T) {
	id := protocol.NewMsgID()
	for _, c := range []struct {
		content *wire.Content
		ok      bool
	}{
		{&wire.Content{MsgId: id[:], Evidence: []byte("x")}, true},
		{&wire.Content{MsgId: id[:], LogHead: []byte("x")}, false},
		{&wire.Content{MsgId: id[:]}, false},
	} {
		b, err := proto.Marshal(c.content)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := parseContent(b); ok != c.ok {
			t.Errorf("%v: %v", c.content, ok)
		}
	}
}
