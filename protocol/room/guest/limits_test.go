package guest

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
)

func device(i int) protocol.DeviceID { return protocol.DeviceID{byte(i), byte(i >> 8), byte(i >> 16)} }

// Ten thousand tries from one place, each with a new key, take nothing from guests
// elsewhere; and from wherever they come, nothing from who was in the room before.
func TestGST08_TenThousandTriesBlockNobodyElse(t *testing.T) {
	for name, place := range map[string]func(i int) string{
		"one place":        func(int) string { return "attacker" },
		"ten thousand":     func(i int) string { return fmt.Sprint("attacker ", i) },
		"nobody knows who": func(int) string { return "" },
	} {
		l, now, taken := &Limits{}, start, 0
		for i := range 10_000 {
			now = now.Add(5 * time.Second)
			if _, wait := l.take(now, who{device: device(i), from: place(i)}); wait == 0 {
				taken++
			}
			if i%100 == 99 {
				guest, wait := l.take(now, who{device: device(-1), from: "attacker", known: true})
				if wait > 0 {
					t.Fatalf("%s, try %d: a guest of before waits %v", name, i, wait)
				}
				l.giveBack(guest)
			}
			if i%100 == 99 && name != "ten thousand" {
				newcomer, wait := l.take(now, who{device: device(20_000 + i), from: "café"})
				if wait > 0 {
					t.Fatalf("%s, try %d: a new guest elsewhere waits %v", name, i, wait)
				}
				l.giveBack(newcomer)
			}
		}
		hours := int(now.Sub(start)/time.Hour) + 1
		most := roomTries * hours
		if name != "ten thousand" {
			most = placeTries * hours
		}
		if taken > most || taken < most/2 {
			t.Errorf("%s: %d guesses in %d hours", name, taken, hours)
		}
	}
}

// The admitter answers a limited guest without looking at its guess, and one who
// waited as told is let try.
func TestGST08_BackOff(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	l, now := &Limits{}, start
	guess := func(secret [32]byte) error {
		c := untilAnswer(t, h.door(), bert.self(h.s.Room()), secret)
		frame, err := c.admitter.Answered(now, l, "café", c.last())
		if frame == nil {
			t.Fatalf("no frame: %v", err)
		}
		_, told := c.visitor.Confirmed(frame)
		if protocol.CodeOf(told) != protocol.CodeOf(err) {
			t.Fatalf("the guest hears %v of %v", told, err)
		}
		return told
	}
	for range keyTries {
		if err := guess([32]byte{1}); protocol.CodeOf(err) != protocol.WrongPassword {
			t.Fatal(err)
		}
	}
	err := guess(h.secret)
	if protocol.CodeOf(err) != protocol.RateLimited {
		t.Fatal(err)
	}
	now = now.Add(err.(*protocol.Error).RetryAfter)
	for range 20 { // right guesses cost nothing
		check(t, guess(h.secret))
	}
}

// Whatever the order, no more wrong guesses than the limits say are taken, and the
// wait that is told is long enough.
func TestLimitsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l, now := &Limits{}, start
		var taken []*try
		for range rapid.IntRange(1, 150).Draw(t, "guesses") {
			now = now.Add(rapid.SampledFrom([]time.Duration{0, time.Second, time.Minute, 11 * time.Minute}).Draw(t, "pause"))
			w := who{device: device(rapid.IntRange(0, 8).Draw(t, "key")), from: fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "place"))}
			w.known = w.device[0] == 0
			try, wait := l.take(now, w)
			if wait > 0 {
				now = now.Add(wait)
				if try, wait = l.take(now, w); wait > 0 {
					t.Fatalf("waited and was told to wait %v more", wait)
				}
			}
			if rapid.Bool().Draw(t, "right") {
				l.giveBack(try)
				continue
			}
			taken = append(taken, try)
		}
		for _, last := range taken {
			byKey, byPlace, byAll := 0, 0, 0
			for _, t := range taken {
				age := last.at.Sub(t.at)
				if age < 0 || age >= time.Hour {
					continue
				}
				if t.device == last.device && age < keyWindow {
					byKey++
				}
				if !t.known && t.from == last.from {
					byPlace++
				}
				if !t.known {
					byAll++
				}
			}
			if byKey > keyTries || byPlace > placeTries || byAll > roomTries {
				t.Fatalf("%d of a key, %d of a place, %d of all", byKey, byPlace, byAll)
			}
		}
		if len(l.tries) > roomTries+keyTries*6 {
			t.Fatalf("%d are remembered", len(l.tries))
		}
	})
}

// A clock that jumped ahead and was set back keeps nobody out for longer than it
// would have.
func TestLimitsWithAClockSetBack(t *testing.T) {
	l := &Limits{}
	w := who{device: device(1)}
	for range keyTries {
		l.take(start.AddDate(1, 0, 0), w)
	}
	if _, wait := l.take(start, w); wait > keyWindow {
		t.Errorf("wait %v", wait)
	}
}

// A guest that comes at least once in 24 hours stays, whoever renews and whose clock
// is 5 minutes off; one that does not is expired, once.
func TestGST04_StayIsRenewedInTheBackground(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := room.Member{Role: room.RoleGuest, Expires: start.Add(room.MaxGuestStay)}
		now, seen := start, start
		next := now.Add(rapid.Custom(away).Draw(t, "away"))
		for range 24 * 6 * 5 {
			now = now.Add(10 * time.Minute)
			if !now.Before(next) {
				seen, next = now, now.Add(rapid.Custom(away).Draw(t, "away"))
			}
			clock := now.Add(rapid.SampledFrom([]time.Duration{-Skew, 0, Skew}).Draw(t, "skew"))
			switch Due(m, seen, clock) {
			case Renew:
				renewed := clock.Add(room.MaxGuestStay)
				if !renewed.After(m.Expires) {
					t.Fatal("renewed to an earlier time: the log refuses it")
				}
				m.Expires = renewed
			case Expire:
				if clock.Before(m.Expires) {
					t.Fatal("expired too early: the log refuses it")
				}
				if now.Sub(seen) < room.MaxGuestStay-2*Skew {
					t.Fatalf("thrown out after %v", now.Sub(seen))
				}
				return
			}
		}
		if now.Sub(seen) > 3*room.MaxGuestStay {
			t.Fatalf("still in after %v", now.Sub(seen))
		}
	})
}

func away(t *rapid.T) time.Duration {
	return rapid.SampledFrom([]time.Duration{time.Minute, time.Hour, 11 * time.Hour, 13 * time.Hour, 23 * time.Hour, 80 * time.Hour}).Draw(t, "d")
}

func TestOnlyGuestsAreDue(t *testing.T) {
	for _, role := range []room.Role{room.RoleMember, room.RoleModerator, room.RoleOwner} {
		if got := Due(room.Member{Role: role}, start, start.AddDate(1, 0, 0)); got != Leave {
			t.Errorf("%v: %v", role, got)
		}
	}
}
