package engine

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// forked is a log of the same rendezvous that goes on otherwise after so many
// entries.
func (w *world) forked(after, entries int) *logbook {
	l := rebuilt(&logbook{host: w.home.log.host, signer: w.home.log.signer, leaves: w.home.log.leaves[:after]})
	l.grow(entries)
	return l
}

// A head dated far ahead, whatever else it says, does not make the user accept
// everything that is dated before it.
func TestAcceptingIsNotForEver(t *testing.T) {
	w, a, _ := pair(t)
	w.home.log.grow(20)
	w.check(a.readLog(100))
	now := w.now
	w.now = now.AddDate(1000, 0, 0)
	far := w.forked(10, 20).headOf(w, 15)
	w.now = now
	if v := a.judge(far); v != headUnknown {
		t.Errorf("verdict %d of a head of the year 3026", v)
	}
	late := &logChanged{cause: directory.ErrShrunk, held: far.Bytes(), shown: far.Bytes()}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.LogFailed(tx, w.now, late) })
	a.acceptLog()
	w.check(a.readLog(100))
	w.now = now.Add(48 * time.Hour)
	w.home.log.grow(5)
	w.check(a.readLog(100))
	if v := a.judge(w.forked(12, 10).head(w)); v != headAlarm {
		t.Errorf("verdict %d of a fork two days later", v)
	}
}

// An alarm that was accepted hides nothing that the log says of known names, in the
// log as it is read anew or later.
func TestFalseEntryAfterAccepting(t *testing.T) {
	w, a, _ := pair(t)
	w.home.log.grow(600)
	a.raiseAlarm()
	a.do(func(tx store.Tx) (Hint, error) { return a.e.AcceptLog(tx, w.now.Add(2*time.Second)) }) // our clock is ahead
	w.home.log = &logbook{host: w.home.log.host, signer: w.home.log.signer}
	w.home.log.grow(30)
	lie := w.entryOf("alice", a.chain())
	lie.Account[0]++
	w.home.log.enter(lie)
	w.check(a.readLog(100))
	if _, stands := a.alarmOfLog(); !stands || a.notices(NoticeFalseEntry) != 1 {
		t.Errorf("alarm %v, told %d times", stands, a.notices(NoticeFalseEntry))
	}
}

// After a contradiction about some name was accepted the log is watched on, to its
// end.
func TestWatchedAfterContradiction(t *testing.T) {
	w, a, _ := pair(t)
	w.home.log.grow(20)
	w.check(a.readLog(5))
	twin := w.home.log.leaves[3]
	twin.Account[0]++
	w.home.log.enter(twin)
	err := a.readLog(5)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.LogFailed(tx, w.now, err) })
	if _, stands := a.alarmOfLog(); !stands {
		t.Fatalf("no alarm: %v", err)
	}
	w.now = w.now.Add(time.Minute)
	a.acceptLog()
	w.settle()
	w.home.log.grow(5)
	w.now = w.now.Add(time.Minute)
	w.check(a.readLog(5))
	if m := a.mirror(); m.size != w.home.log.size() {
		t.Errorf("%d of %d entries are mirrored", m.size, w.home.log.size())
	}
	if v := a.judge(w.forked(int(w.home.log.size())-2, 1).head(w)); v != headAlarm {
		t.Errorf("verdict %d of a fork", v)
	}
}

// Whoever joins after an old quarrel was settled is not drawn into it.
func TestOldForkAtNewcomer(t *testing.T) {
	w := newWorld(t)
	w.home.log.grow(20)
	old := w.forked(20, 5).head(w)
	w.now = w.now.Add(365 * 24 * time.Hour)
	w.home.log.grow(10)
	a := w.add("alice")
	w.check(a.readLog(100))
	if v := a.judge(old); v != headUnknown {
		t.Errorf("verdict %d of a head of a year ago", v)
	}
	if v := a.judge(w.forked(20, 5).head(w)); v != headAlarm {
		t.Errorf("verdict %d of a fork of today", v)
	}
}

// Two answers about one account cross: the slower one was read before the chain
// grew, and its head signed after.
func TestAnswersThatCross(t *testing.T) {
	w, a, b := pair(t)
	w.check(a.readLog(100))
	slow, size := w.home.look("bob", false), a.logSize()
	chain := b.addDeviceChain(w)
	w.home.log.enter(w.entryOf("bob", chain))
	w.home.names["bob"].chain = chain.Bytes()
	w.home.noEntry = true
	w.home.proveFrom(size, slow)
	w.home.noEntry = false
	quick := w.home.look("bob", false)
	w.home.proveFrom(size, quick)
	asked := w.now
	w.check(a.update(func(tx store.Tx) (Hint, error) { return a.e.SetAccount(tx, w.now, asked, quick) }))
	err := a.update(func(tx store.Tx) (Hint, error) { return a.e.SetAccount(tx, w.now, asked, slow) })
	if err == nil || IsAlarm(err) {
		t.Errorf("the slow answer: %v", err)
	}
}

// A contact who is shown a log that was frozen does not confirm what came after.
func TestFrozenLogConfirmsNothing(t *testing.T) {
	w, a, b := pair(t)
	c := w.add("carol")
	w.befriend(a, c)
	w.pass(2 * time.Hour)
	before := w.home.log.size()
	w.home.log.grow(3)
	chain := b.addDeviceChain(w)
	w.home.names["bob"].chain = chain.Bytes()
	w.home.log.enter(w.entryOf("bob", chain))
	w.check(a.readLog(100))
	w.now = w.now.Add(48 * time.Hour)
	a.confess(c, &wire.Content{LogHead: w.home.log.headOf(w, before).Bytes()})
	if n := len(a.standing(b).Confirmed); n != 0 {
		t.Errorf("confirmed by %d", n)
	}
	w.now = w.now.Add(time.Minute)
	a.confess(c, &wire.Content{LogHead: w.home.log.head(w).Bytes()})
	if n := len(a.standing(b).Confirmed); n != 1 {
		t.Errorf("confirmed by %d who saw it", n)
	}
}

// A rendezvous that tells the truth and lies in turn does not fill the disk with
// notices.
func TestNoticesAreBounded(t *testing.T) {
	w, a, b := pair(t)
	for range 2 * maxTroubles {
		a.lookupFailed(b.account(), ErrUnproven)
		a.lookUp(b.account(), false)
		w.now = w.now.Add(time.Second)
	}
	if n := a.notices(NoticeUnproven); n == 0 || n > maxTroubles {
		t.Errorf("%d notices", n)
	}
}
