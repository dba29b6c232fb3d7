package rendezvous

import (
	"bytes"
	"io"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
)

// pairEnd is a machine's end of a pairing.
type pairEnd struct {
	t     testing.TB
	s     network.Stream
	first *wire.PairJoined
}

// pair opens a slot, or joins one, and returns what it was answered.
func (d *device) pair(slot string) *pairEnd {
	d.t.Helper()
	p := &pairEnd{t: d.t, s: d.open(protocol.PairProtocol)}
	if err := wire.WriteMsg(p.s, &wire.PairJoin{Slot: slot}); err != nil {
		d.t.Fatal(err)
	}
	p.first = p.joined()
	return p
}

func (p *pairEnd) joined() *wire.PairJoined {
	p.t.Helper()
	p.s.SetReadDeadline(time.Now().Add(patience))
	m := &wire.PairJoined{}
	if err := wire.ReadMsg(p.s, m); err != nil {
		p.t.Fatalf("no answer: %v", err)
	}
	return m
}

func (p *pairEnd) send(data []byte) {
	p.t.Helper()
	if err := wire.WriteMsg(p.s, &wire.PairFrame{Data: data}); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pairEnd) receive() []byte {
	p.t.Helper()
	p.s.SetReadDeadline(time.Now().Add(patience))
	m := &wire.PairFrame{}
	if err := wire.ReadMsg(p.s, m); err != nil {
		p.t.Fatalf("no frame: %v", err)
	}
	return m.GetData()
}

// awaitEnd reads until the stream ends, and fails if it stays open.
func (p *pairEnd) awaitEnd() {
	p.t.Helper()
	p.s.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, p.s); isTimeout(err) {
		p.t.Fatal("the pairing did not end")
	}
}

func (p *pairEnd) mustBe(code protocol.Code) {
	p.t.Helper()
	if got := protocol.Code(p.first.GetCode()); got != code {
		p.t.Fatalf("%v %s, want %v", got, p.first.GetDetail(), code)
	}
}

// paired joins two machines.
func paired(t testing.TB, member, stranger *device) (opener, joiner *pairEnd) {
	t.Helper()
	opener = member.pair("")
	opener.mustBe(protocol.OK)
	joiner = stranger.pair(opener.first.GetSlot())
	joiner.mustBe(protocol.OK)
	if !joiner.first.GetReady() || !opener.joined().GetReady() {
		t.Fatal("not ready")
	}
	return opener, joiner
}

func (s *Server) pairings() int {
	s.pairs.mu.Lock()
	defer s.pairs.mu.Unlock()
	return len(s.pairs.all)
}

// A member's device and a stranger that has the number are joined, and frames
// go both ways as they are.
func TestPairing(t *testing.T) {
	s := startServer(t, nil)
	alice, machine := member(t, s, "alice"), newDevice(t, s, "machine")
	opener := alice.pair("")
	opener.mustBe(protocol.OK)
	if !regexp.MustCompile(`^[0-9]{4}$`).MatchString(opener.first.GetSlot()) || opener.first.GetTtlMs() != 120_000 || opener.first.GetReady() {
		t.Errorf("opened: %v", opener.first)
	}
	joiner := machine.pair(opener.first.GetSlot())
	if !joiner.first.GetReady() || !opener.joined().GetReady() {
		t.Fatal("not ready")
	}
	for i, data := range [][]byte{[]byte("hello"), {}, bytes.Repeat([]byte{7}, maxPairData)} {
		opener.send(data)
		if got := joiner.receive(); !bytes.Equal(got, data) {
			t.Errorf("frame %d down: %d bytes of %d", i, len(got), len(data))
		}
		joiner.send(data)
		if got := opener.receive(); !bytes.Equal(got, data) {
			t.Errorf("frame %d up: %d bytes of %d", i, len(got), len(data))
		}
	}
	machine.pair(opener.first.GetSlot()).mustBe(protocol.PairingOver) // once only

	joiner.send([]byte("last words"))
	joiner.s.Close()
	if got := opener.receive(); string(got) != "last words" {
		t.Errorf("got %q", got)
	}
	opener.awaitEnd()
	eventually(t, "it is forgotten", func() bool { return s.pairings() == 0 })
}

func TestPairingEndsWithEitherEnd(t *testing.T) {
	t.Parallel()
	for name, addr := range map[string]string{"TCP": "/ip4/127.0.0.1/tcp/0", "QUIC": "/ip4/127.0.0.1/udp/0/quic-v1"} {
		t.Run(name, func(t *testing.T) { testPairingEnds(t, addr) })
	}
}

func testPairingEnds(t *testing.T, addr string) {
	s := startServer(t, func(c *Config) { c.Listen = []string{addr} })
	alice, machine := member(t, s, "alice"), newDevice(t, s, "machine")
	for name, end := range map[string]func(opener, joiner *pairEnd) (other *pairEnd){
		"opener closes": func(o, j *pairEnd) *pairEnd { o.s.Close(); return j },
		"joiner resets": func(o, j *pairEnd) *pairEnd { j.s.Reset(); return o },
		"frame too large": func(o, j *pairEnd) *pairEnd {
			wire.WriteMsg(o.s, &wire.PairFrame{Data: make([]byte, maxPairData+1)})
			return j
		},
		"garbage": func(o, j *pairEnd) *pairEnd { j.s.Write([]byte{0, 0, 0, 2, 0xff, 0xff}); return o },
		"too much": func(o, j *pairEnd) *pairEnd {
			go func() {
				for wire.WriteMsg(o.s, &wire.PairFrame{Data: make([]byte, maxPairData)}) == nil {
				}
			}()
			return j
		},
		"too many empty frames": func(o, j *pairEnd) *pairEnd {
			go func() {
				for _, err := j.s.Write(make([]byte, 4<<10)); err == nil; _, err = j.s.Write(make([]byte, 4<<10)) {
				}
			}()
			return o
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.clock.add(time.Hour)
			o, j := paired(t, alice, machine)
			other := end(o, j)
			other.s.SetReadDeadline(time.Now().Add(patience))
			got, err := io.Copy(io.Discard, other.s)
			if isTimeout(err) {
				t.Fatal("the other end was not told")
			}
			if got > maxPairTotal {
				t.Errorf("%d bytes went through", got)
			}
			eventually(t, "it is forgotten", func() bool { return s.pairings() == 0 })
		})
	}
}

func TestPairingRefused(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, machine := member(t, s, "alice"), member(t, s, "bob"), newDevice(t, s, "machine")
	machine.pair("").mustBe(protocol.NotMember)
	for _, slot := range []string{"0000", "x", "12345678901234567890"} {
		machine.pair(slot).mustBe(protocol.PairingOver)
	}

	first := alice.pair("")
	number := first.first.GetSlot()
	second := alice.pair("") // one open at a time: the newer one counts
	first.first = first.joined()
	first.mustBe(protocol.PairingOver)
	first.awaitEnd()
	bob.pair(number).mustBe(protocol.PairingOver)

	second.send([]byte("is anybody there?")) // nobody has joined
	second.first = second.joined()
	second.mustBe(protocol.BadRequest)
	second.awaitEnd()

	third := alice.pair("")
	third.s.Close() // gives up
	eventually(t, "it is forgotten", func() bool { return s.pairings() == 0 })
	bob.pair(third.first.GetSlot()).mustBe(protocol.PairingOver)
}

// Numbers are few, so attempts are: of all machines at one address together.
func TestPairingNumbersCannotBeScanned(t *testing.T) {
	s := startServer(t, nil)
	alice, machine := member(t, s, "alice"), newDevice(t, s, "machine")
	open := alice.pair("")
	for i := range 10 {
		from := []*device{alice, machine}[i%2]
		from.pair("none").mustBe(protocol.PairingOver)
	}
	right := machine.pair(open.first.GetSlot())
	right.mustBe(protocol.RateLimited)
	s.clock.add(time.Duration(right.first.GetRetryAfterMs()) * time.Millisecond)
	machine.pair(open.first.GetSlot()).mustBe(protocol.OK)

	for range 5 {
		alice.pair("").mustBe(protocol.OK)
	}
	alice.pair("").mustBe(protocol.RateLimited)
}

// Nobody joins: the opener is told. Somebody does: that has an end too.
func TestPairingTimes(t *testing.T) {
	s := startServer(t, nil)
	alice, machine := member(t, s, "alice"), newDevice(t, s, "machine")
	s.pairs.mu.Lock()
	s.pairs.wait = 50 * time.Millisecond
	s.pairs.mu.Unlock()
	p := alice.pair("")
	p.mustBe(protocol.OK)
	p.first = p.joined()
	p.mustBe(protocol.PairingOver)
	p.awaitEnd()

	s.pairs.mu.Lock()
	s.pairs.wait, s.pairs.life = pairWait, 300*time.Millisecond
	s.pairs.mu.Unlock()
	opener, joiner := paired(t, alice, machine)
	opener.awaitEnd()
	joiner.awaitEnd()
	eventually(t, "it is forgotten", func() bool { return s.pairings() == 0 })
}

// A server that stops waits for no pairing, and leaves nothing running.
func TestPairingsEndWithTheServer(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	var mu sync.Mutex
	var log bytes.Buffer
	s := startServer(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)) })
	alice, bob, machine := member(t, s, "alice"), member(t, s, "bob"), newDevice(t, s, "machine")
	waiting := bob.pair("")
	waiting.mustBe(protocol.OK)
	opener, joiner := paired(t, alice, machine)
	s.stopNow()
	mu.Lock()
	if strings.Contains(log.String(), "cut off") {
		t.Error("a pairing was waited for")
	}
	mu.Unlock()
	for _, p := range []*pairEnd{waiting, opener, joiner} {
		p.awaitEnd()
	}
	for _, d := range []*device{alice, bob, machine} {
		d.host.Close()
	}
	goleak.VerifyNone(t, ignore)
}

// The broker, without streams: numbers grow when it is crowded, and there is
// an end.
func TestBrokerIsBounded(t *testing.T) {
	b := newBroker()
	seen := map[string]bool{}
	for i := range maxPairings {
		p, err := b.open(nil, protocol.DeviceID{byte(i), byte(i >> 8)})
		if err != nil {
			t.Fatalf("pairing %d: %v", i, err)
		}
		want := pairDigits
		if i >= pairCrowd {
			want++
		}
		if seen[p.number] || len(p.number) != want {
			t.Fatalf("pairing %d has number %s", i, p.number)
		}
		seen[p.number] = true
	}
	_, err := b.open(nil, protocol.DeviceID{0xff, 0xff})
	if protocol.CodeOf(err) != protocol.Unavailable {
		t.Errorf("one more: %v", err)
	}
	for number := range seen {
		p, err := b.join(nil, number)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.join(nil, number); protocol.CodeOf(err) != protocol.PairingOver {
			t.Errorf("joined twice: %v", err)
		}
		b.forget(p)
	}
	if len(b.all)+len(b.waiting)+len(b.owners) != 0 {
		t.Errorf("left over: %d, %d, %d", len(b.all), len(b.waiting), len(b.owners))
	}
}

// memStream is a stream that brings fixed bytes and takes any.
type memStream struct {
	network.Stream
	in    io.Reader
	out   bytes.Buffer
	reset bool
}

func (s *memStream) Read(b []byte) (int, error)      { return s.in.Read(b) }
func (s *memStream) Write(b []byte) (int, error)     { return s.out.Write(b) }
func (s *memStream) Scope() network.StreamScope      { return &network.NullScope{} }
func (s *memStream) CloseWrite() error               { return nil }
func (s *memStream) SetReadDeadline(time.Time) error { return nil }
func (s *memStream) Reset() error                    { s.reset = true; return nil }

// Whatever one end sends, the other gets frames only, within the limits, and
// the pairing ends.
func FuzzPass(f *testing.F) {
	f.Add(frame(f, &wire.PairFrame{Data: []byte("data")}))
	f.Add(bytes.Repeat(frame(f, &wire.PairFrame{}), 3))
	f.Add([]byte{0, 0, 0, 1, 0xff})
	f.Add([]byte{0, 1, 0, 9})
	f.Fuzz(func(t *testing.T, in []byte) {
		from, to := &memStream{in: bytes.NewReader(in)}, &memStream{}
		first := &wire.PairFrame{}
		size, err := p2p.ReadFrame(from, maxPairFrame, first)
		(&pipe{}).pass(from, to, first, size, err)
		if to.out.Len() > min(len(in), maxPairTotal) {
			t.Errorf("%d bytes became %d", len(in), to.out.Len())
		}
		for to.out.Len() > 0 {
			m := &wire.PairFrame{}
			if err := wire.ReadMsg(&to.out, m); err != nil || len(m.GetData()) > maxPairData {
				t.Fatalf("passed on: %v, %d bytes", err, len(m.GetData()))
			}
		}
	})
}
