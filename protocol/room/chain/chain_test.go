package chain

import (
	"bytes"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/room/message"
)

// tester is a *testing.T, a *testing.B or a *rapid.T.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

var (
	start = time.Unix(1_800_000_000, 0).UTC()
	room  = [32]byte(keytest.Seed("room", 32))
	alice = protocol.DeviceID(keytest.Seed("alice", 32))
	bob   = protocol.DeviceID(keytest.Seed("bob", 32))
)

// signing is the signing key of every device in these tests: who signed is
// package message's question.
func signing(t tester) key.DevicePrivate {
	t.Helper()
	k, err := key.ParseDevice(keytest.Seed("signing", 32))
	check(t, err)
	return k
}

func view(epoch uint64) message.View {
	return message.View{Room: room, Epoch: epoch, Seq: epoch + 3, Head: [32]byte{byte(epoch), 7}}
}

// begin is alice's first chain, and bob's receiver that has it.
func begin(t tester) (Sender, Receiver) {
	t.Helper()
	s, d := startChain(t, start, Sender{}, view(1))
	return s, accept(t, start, NewReceiver(room, alice), d)
}

func startChain(t tester, now time.Time, s Sender, v message.View) (Sender, Distribution) {
	t.Helper()
	next, d, err := s.Start(now, v, alice)
	check(t, err)
	return next, d
}

// accept takes d as it comes over a session with alice.
func accept(t tester, now time.Time, r Receiver, d Distribution) Receiver {
	t.Helper()
	d, err := ParseDistribution(alice, d.Marshal())
	check(t, err)
	next, err := r.Accept(now, d)
	check(t, err)
	return next
}

func seal(t tester, now time.Time, s Sender, v message.View, text string) (Sender, []byte) {
	t.Helper()
	next, b, err := s.Seal(now, signing(t), v, []byte(text))
	check(t, err)
	return next, b
}

// seals is count messages in a row.
func seals(t tester, s Sender, v message.View, count int) (Sender, [][]byte) {
	t.Helper()
	all := make([][]byte, count)
	for i := range all {
		s, all[i] = seal(t, start, s, v, "text")
	}
	return s, all
}

func open(now time.Time, r Receiver, b []byte) (Receiver, []byte, error) {
	k, err := key.ParseDevice(keytest.Seed("signing", 32))
	if err != nil {
		return r, nil, err
	}
	m, err := message.Parse(b)
	if err != nil {
		return r, nil, err
	}
	v, err := m.Verify(k.Public())
	if err != nil {
		return r, nil, err
	}
	return r.Open(now, v)
}

func opens(t tester, now time.Time, r Receiver, b []byte, want string) Receiver {
	t.Helper()
	next, text, err := open(now, r, b)
	check(t, err)
	if string(text) != want {
		t.Fatalf("opened %q, want %q", text, want)
	}
	return next
}

// refuses checks that b does not open and changes nothing.
func refuses(t tester, now time.Time, r Receiver, b []byte, want error) {
	t.Helper()
	before := r.Marshal()
	next, text, err := open(now, r, b)
	if err != want || text != nil {
		t.Fatalf("opened %q, %v, want %v", text, err, want)
	}
	if !bytes.Equal(next.Marshal(), before) || !bytes.Equal(r.Marshal(), before) {
		t.Fatal("an error changed the state")
	}
}

func check(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func header(t tester, b []byte) message.Header {
	t.Helper()
	m, err := message.Parse(b)
	check(t, err)
	return m.Header
}

func TestOneRoom(t *testing.T) {
	s, r := begin(t)
	for i := range 3 {
		var b []byte
		s, b = seal(t, start, s, view(1), "in the first chain")
		if h := header(t, b); h.Number != uint64(1+i) || h.N != uint32(i) || h.First() != 1 || h.Chain != s.s().id || h.Device != alice || h.View != view(1) {
			t.Errorf("message %d: %+v", i, h)
		}
		r = opens(t, start, r, b, "in the first chain")
	}
	s, d := startChain(t, start, s, view(2))
	s, b := seal(t, start, s, view(2), "in the second")
	if h := header(t, b); h.Number != 4 || h.N != 0 {
		t.Errorf("first message of the second chain: %+v", h)
	}
	refuses(t, start, r, b, ErrNoChain)
	r = accept(t, start, r, d)
	r = opens(t, start, r, b, "in the second")
	if len(r.Gaps()) != 0 || r.Next() != 5 || s.Next() != 5 {
		t.Errorf("missing %v, next %d", r.Gaps(), r.Next())
	}
	if n := len(r.s().chains); n != 1 {
		t.Errorf("%d chains are kept, of which one can still bring something", n)
	}
}

// The log may go on within an epoch: a chain ends with its epoch only.
func TestHeadMovesWithinAnEpoch(t *testing.T) {
	s, r := begin(t)
	later := view(1)
	later.Seq, later.Head = later.Seq+1, [32]byte{99}
	_, b := seal(t, start, s, later, "the topic changed meanwhile")
	opens(t, start, r, b, "the topic changed meanwhile")
}

// What is missing is known at once, also at the end of a chain.
func TestGaps(t *testing.T) {
	s, r := begin(t)
	s, first := seals(t, s, view(1), 6)
	later := start.Add(time.Hour)
	want := func(next uint64, gaps ...Gap) {
		t.Helper()
		got := r.Gaps()
		if len(got) != len(gaps) || r.Next() != next {
			t.Fatalf("missing %v, next %d", got, r.Next())
		}
		for i := range gaps {
			if got[i] != gaps[i] {
				t.Errorf("gap %d: %v, want %v", i, got[i], gaps[i])
			}
		}
	}
	want(1)
	r = opens(t, start, r, first[1], "text")
	want(3, Gap{1, 1, start})
	r = opens(t, later, r, first[4], "text")
	want(6, Gap{1, 1, start}, Gap{3, 4, later})

	s, d := startChain(t, start, s, view(2)) // number 6 was the last of the first chain
	r = accept(t, later, r, d)
	want(7, Gap{1, 1, start}, Gap{3, 4, later}, Gap{6, 6, later})
	_, b := seal(t, start, s, view(2), "text")
	r = opens(t, later, r, b, "text")
	want(8, Gap{1, 1, start}, Gap{3, 4, later}, Gap{6, 6, later})
	r = opens(t, later, r, first[3], "text")
	r = opens(t, later, r, first[5], "text")
	want(8, Gap{1, 1, start}, Gap{3, 3, later})
	r = r.GiveUp(later, Gap{First: 1, Last: 1})
	refuses(t, later, r, first[0], ErrReplay)
	r = opens(t, later, r, first[2], "text")
	want(8)
}

// Who was away may get the chains, too, in another order than they were made.
func TestChainsInAnyOrder(t *testing.T) {
	s, one := startChain(t, start, Sender{}, view(1))
	s, first := seals(t, s, view(1), 2)
	s, two := startChain(t, start, s, view(2))
	_, second := seals(t, s, view(2), 2)

	r := accept(t, start, NewReceiver(room, alice), two)
	r = opens(t, start, r, second[1], "text")
	refuses(t, start, r, first[0], ErrNoChain)
	r = accept(t, start, r, one)
	for _, b := range [][]byte{first[1], second[0], first[0]} {
		r = opens(t, start, r, b, "text")
	}
	if len(r.Gaps()) != 0 {
		t.Errorf("missing %v", r.Gaps())
	}
}

// A chain may be given up before its first message: the room changed again.
func TestChainWithoutMessages(t *testing.T) {
	s, idle := startChain(t, start, Sender{}, view(1))
	s, d := startChain(t, start, s, view(2))
	_, all := seals(t, s, view(2), 3)
	for _, order := range [][]Distribution{{idle, d}, {d, idle}} {
		r := NewReceiver(room, alice)
		for _, d := range order {
			r = accept(t, start, r, d)
		}
		r = opens(t, start, r, all[1], "text")
		r = opens(t, start, r, all[0], "text")
		if len(r.s().chains) != 1 {
			t.Error("the chain that nothing was written to is kept")
		}
		r = accept(t, start, r, idle) // again
		r = opens(t, start, r, all[2], "text")
		if len(r.s().chains) != 1 {
			t.Error("the chain that nothing was written to came back")
		}
	}
}

// A chain may come after the first of its messages were given up.
func TestChainComesLate(t *testing.T) {
	s, one := startChain(t, start, Sender{}, view(1))
	r := accept(t, start, NewReceiver(room, alice), one)
	s, two := startChain(t, start, s, view(2))
	s, second := seals(t, s, view(2), 5)
	_, three := startChain(t, start, s, view(3))
	r = accept(t, start, r, three).GiveUp(start, Gap{First: 1, Last: 2})
	r = accept(t, start, r, two)
	if holdsKey(t, r.Marshal(), second[:2]...) {
		t.Error("the keys of what was given up are kept")
	}
	r = opens(t, start, r, second[3], "text")
	r = opens(t, start, r, second[2], "text")
	refuses(t, start, r, second[1], ErrReplay)
}

// What is missing behind a message that was given up still opens, also when a later
// chain is in use.
func TestGivenUpBeforeWhatIsMissing(t *testing.T) {
	s, r := begin(t)
	s, first := seals(t, s, view(1), 3)
	s, two := startChain(t, start, s, view(2))
	_, second := seals(t, s, view(2), 1)
	r = opens(t, start, r, first[0], "text")
	r = opens(t, start, accept(t, start, r, two), second[0], "text")
	r = r.GiveUp(start, Gap{First: 2, Last: 2})
	if holdsKey(t, r.Marshal(), first[1]) {
		t.Error("the key of what was given up is kept")
	}
	r = opens(t, start, r, first[2], "text")
	if len(r.s().chains) != 1 {
		t.Error("the chain that is over is kept")
	}
}

// What follows on one state does not touch what followed on it before.
func TestFollowersShareNothing(t *testing.T) {
	s, r := begin(t)
	s, all := seals(t, s, view(1), 40)
	for i := 2; i < 12; i += 3 { // leaves slices of many lengths, with room at their ends
		r = opens(t, start, r, all[i], "text")
		_, d := startChain(t, start, s, view(uint64(i)))
		opened := opens(t, start, r, all[i+2], "text")
		accepted := accept(t, start, opened, d)
		before := [][]byte{opened.Marshal(), accepted.Marshal()}
		opens(t, start, opens(t, start, r, all[i+7], "text"), all[i+9], "text")
		opens(t, start, r, all[0], "text").GiveUp(start, Gap{First: 2, Last: 2})
		_, other := startChain(t, start, s, view(99))
		accept(t, start, r, other)
		r.Sweep(start.Add(gapTTL + time.Second))
		if !bytes.Equal(opened.Marshal(), before[0]) || !bytes.Equal(accepted.Marshal(), before[1]) {
			t.Fatalf("after message %d one state changed another", i)
		}
	}
}

// A chain that comes again after its end brings no key of what was read.
func TestChainComesAgain(t *testing.T) {
	s, one := startChain(t, start, Sender{}, view(1))
	r := accept(t, start, NewReceiver(room, alice), one)
	s, first := seals(t, s, view(1), 3)
	for _, b := range first {
		r = opens(t, start, r, b, "text")
	}
	_, two := startChain(t, start, s, view(2))
	r = accept(t, start, r, two)
	before := r.Marshal()
	for _, d := range []Distribution{one, two} {
		if r = accept(t, start, r, d); !bytes.Equal(r.Marshal(), before) {
			t.Error("a chain that comes again changes something")
		}
	}
}
