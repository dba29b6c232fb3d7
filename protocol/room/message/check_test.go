package message

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

var start = time.Unix(1_800_000_000, 0).UTC()

// checker knows a room whose epochs were 2, 5 and, since start, 9. The device of
// header may send in those given.
func checker(t testing.TB, may ...uint64) Checker {
	public := signer(t).Public()
	return Checker{
		Room:   header().Room,
		Epochs: EpochsAt(2).Advance(start.Add(-time.Hour), 5).Advance(start, 9),
		Sender: func(device protocol.DeviceID, epoch uint64) (key.DevicePublic, bool) {
			if device != header().Device || !slices.Contains(may, epoch) {
				return key.DevicePublic{}, false
			}
			return public, true
		},
		Demoted: func(protocol.DeviceID, uint64) bool { return false },
	}
}

func inEpoch(epoch uint64) Header {
	h := header()
	h.Epoch, h.Seq = epoch, epoch+1
	return h
}

func TestChecker(t *testing.T) {
	other := inEpoch(9)
	other.Device[0]++
	elsewhere := inEpoch(9)
	elsewhere.Room[0]++
	forged := sign(t, inEpoch(9), 256)
	forged[headerSize] ^= 1
	oldForged := sign(t, inEpoch(2), 256)
	oldForged[headerSize] ^= 1
	all := []uint64{2, 5, 9, 12}
	in := func(epoch uint64) []byte { return sign(t, inEpoch(epoch), 256) }

	for name, tt := range map[string]struct {
		may          []uint64
		after        time.Duration // of the end of epoch 5
		message      []byte
		live, stored error
	}{
		"epoch in force":                    {all, 0, in(9), nil, nil},
		"no message":                        {all, 0, []byte("no message"), ErrMalformed, ErrMalformed},
		"another room":                      {all, 0, sign(t, elsewhere, 256), ErrMalformed, ErrMalformed},
		"another device":                    {all, 0, sign(t, other, 256), ErrNotSender, ErrNotSender},
		"forged":                            {all, 0, forged, ErrForged, ErrForged},
		"no right to send":                  {[]uint64{2, 5}, 0, in(9), ErrNotSender, ErrNotSender},
		"epoch to come":                     {all, 0, in(12), ErrFuture, ErrFuture},
		"in flight":                         {all, InFlight, in(5), nil, nil},
		"not in flight any more":            {all, InFlight + 1, in(5), ErrPast, nil},
		"in flight, muted or removed since": {[]uint64{2, 5}, time.Second, in(5), ErrNotSender, nil},
		"in flight, allowed only since":     {[]uint64{9}, time.Second, in(5), ErrNotSender, ErrNotSender},
		"clock set back":                    {all, -time.Second, in(5), ErrPast, nil},
		"epoch before that":                 {all, 0, in(2), ErrPast, nil},
		"epoch before that, forged":         {all, 0, oldForged, ErrPast, ErrForged},
		"no epoch":                          {all, 0, in(7), ErrPast, ErrNotSender},
		"no epoch, and long ago":            {all, 0, in(3), ErrPast, ErrNotSender},
	} {
		c := checker(t, tt.may...)
		if v, err := c.Live(start.Add(tt.after), tt.message); err != tt.live || (err == nil) != (v.m.raw != nil) {
			t.Errorf("%s: live: %v, want %v", name, err, tt.live)
		}
		if v, err := c.Stored(tt.message); err != tt.stored || (err == nil) != (v.m.raw != nil) {
			t.Errorf("%s: stored: %v, want %v", name, err, tt.stored)
		}
	}
}

// Who lost a right is not heard with what it might say before, whoever brings it.
func TestBrought(t *testing.T) {
	in := func(epoch uint64) []byte { return sign(t, inEpoch(epoch), 256) }
	for name, tt := range map[string]struct {
		may           []uint64
		demoted       uint64 // the newest entry by which the sender lost something
		message       []byte
		live, brought error
	}{
		"in force":                 {[]uint64{9}, 9, in(9), nil, nil},
		"in flight":                {[]uint64{5, 9}, 5, in(5), nil, nil},
		"long ago":                 {[]uint64{2, 9}, 0, in(2), ErrPast, nil},
		"in flight, demoted since": {[]uint64{5, 9}, 9, in(5), ErrNotSender, ErrNotSender},
		"long ago, demoted since":  {[]uint64{2, 9}, 5, in(2), ErrPast, ErrNotSender},
		"long ago, silent since":   {[]uint64{2}, 0, in(2), ErrPast, ErrNotSender},
		"no right at that time":    {[]uint64{9}, 0, in(2), ErrPast, ErrNotSender},
		"to come":                  {[]uint64{9, 12}, 0, in(12), ErrFuture, ErrFuture},
		"no message":               {[]uint64{9}, 0, []byte("x"), ErrMalformed, ErrMalformed},
	} {
		c := checker(t, tt.may...)
		c.Demoted = func(_ protocol.DeviceID, seq uint64) bool { return seq < tt.demoted }
		if v, err := c.Live(start.Add(time.Second), tt.message); err != tt.live || (err == nil) != (v.m.raw != nil) {
			t.Errorf("%s: live: %v, want %v", name, err, tt.live)
		}
		if v, err := c.Brought(tt.message); err != tt.brought || (err == nil) != (v.m.raw != nil) {
			t.Errorf("%s: brought: %v, want %v", name, err, tt.brought)
		}
	}
}

// What is cheap to refuse is refused before any signature is checked.
func TestCheckerIsCheapFirst(t *testing.T) {
	asked := 0
	c := checker(t, 2, 5, 9)
	may := c.Sender
	c.Sender = func(d protocol.DeviceID, epoch uint64) (key.DevicePublic, bool) { asked++; return may(d, epoch) }
	for _, epoch := range []uint64{2, 12} { // over, ahead
		if _, err := c.Live(start, sign(t, inEpoch(epoch), 256)); err == nil {
			t.Error("taken")
		}
	}
	if asked != 0 {
		t.Error("a signer was looked for in vain")
	}
}

func TestMay(t *testing.T) {
	c := checker(t, 5)
	for epoch, want := range map[uint64]error{5: nil, 9: ErrNotSender, 10: ErrFuture} {
		if err := c.May(header().Device, epoch); err != want {
			t.Errorf("epoch %d: %v", epoch, err)
		}
	}
}

func isOver(e Epochs, now time.Time, epoch uint64) bool {
	over, _ := e.past(now, epoch)
	return over
}

func isEnding(e Epochs, now time.Time, epoch uint64) bool {
	_, ending := e.past(now, epoch)
	return ending
}

func isPast(e Epochs, now time.Time, epoch uint64) bool {
	return isOver(e, now, epoch) || isEnding(e, now, epoch)
}

func TestEpochs(t *testing.T) {
	e := EpochsAt(3)
	if next := e.Advance(start, 3); isPast(next, start, 3) || len(next.ended) != 0 {
		t.Error("an epoch ends by being known")
	}
	if next := e.Advance(start, 2); next.Current() != 3 {
		t.Error("a room goes back")
	}
	busy := e
	for i := range uint64(3 * maxEnded) {
		busy = busy.Advance(start, 4+i)
	}
	if len(busy.ended) != maxEnded || !isEnding(busy, start, busy.current-maxEnded) || !isOver(busy, start, busy.current-maxEnded-1) {
		t.Errorf("%d epochs are remembered", len(busy.ended))
	}
	if isPast(Epochs{}, start, 0) {
		t.Error("a new room has no epoch")
	}
}

// However a room goes on: no epoch counts as in force but the newest, none ends
// later than InFlight after it ended, and an old value is not changed.
func TestAnyEpochs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, e := start, Epochs{}
		ends := map[uint64]time.Time{}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "pass")) * time.Second)
			before := e
			if to := e.current + uint64(rapid.IntRange(0, 3).Draw(t, "entries")); to > e.current {
				ends[e.current] = now
				e = e.Advance(now, to)
			}
			if before.Current() != e.Current() && isPast(before, now, before.Current()) {
				t.Fatal("the old value changed")
			}
			for epoch := range e.current + 3 {
				at, was := ends[epoch]
				wantEnding := was && now.Sub(at) <= InFlight
				wantOver := epoch < e.current && !wantEnding
				if over, ending := e.past(now, epoch); over != wantOver || ending != wantEnding {
					t.Fatalf("epoch %d of %d: over %v, ending %v", epoch, e.current, over, ending)
				}
			}
		}
	})
}
