package room

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/message"
)

// A moderator changes a guest's rights a hundred times. The guest stays what it is:
// its entry, its name, its place. Each change holds from its own epoch on, and only
// from there.
func TestGST01_RightsChangeAndTheGuestStays(t *testing.T) {
	c := newCast(t)
	before, _ := c.s.Member(c.guest.Account)
	type change struct {
		epoch uint64
		may   Rights
	}
	var changes []change
	for i := range 100 {
		o := SetMemberRights{Account: c.guest.Account, HasOwn: true, Own: Rights(i%16) & Access, Muted: i%7 == 3}
		c.do([]*person{c.owner, c.mod, c.mod2}[i%3], o)
		may := o.Own
		if o.Muted {
			may &^= Voice
		}
		changes = append(changes, change{c.s.Epoch(), may})
	}
	after, ok := c.s.Member(c.guest.Account)
	if !ok || after.Joined != before.Joined || after.Password != before.Password || !after.Expires.Equal(before.Expires) || len(after.Devices()) != 1 {
		t.Fatalf("the guest became %+v", after)
	}
	for _, ch := range changes {
		for _, right := range []Rights{Read, Send, Files, React} {
			if may := c.s.May(c.guest.Device, ch.epoch, right); ch.may.Has(right) != may {
				t.Fatalf("right to %v in epoch %d: %v", right, ch.epoch, may)
			}
		}
	}
	c.reread()
}

// Who is muted may not send, by the log that everybody has: no guest's client is
// asked. The check of messages takes its word from the log.
func TestGST03_ReceiversEnforce(t *testing.T) {
	c := newCast(t)
	heard := func(by Author, epoch uint64) error {
		t.Helper()
		checker := message.Checker{Room: c.s.Room(), Epochs: message.EpochsAt(c.s.Epoch()), Sender: c.s.Sender, Demoted: c.s.Demoted}
		h := message.Header{View: message.View{Room: c.s.Room(), Epoch: epoch, Seq: c.s.Seq(), Head: c.s.Head()}, Device: by.Device, Number: 1}
		b, err := message.Sign(by.Key, append(h.Append(nil), make([]byte, 28)...))
		check(t, err)
		_, err = checker.Stored(b)
		return err
	}
	was := c.s.Epoch()
	check(t, heard(c.guest.Author, was))
	c.do(c.mod, SetMemberRights{Account: c.guest.Account, Muted: true})
	now := c.s.Epoch()
	check(t, heard(c.guest.Author, was))
	for name, err := range map[string]error{
		"muted": heard(c.guest.Author, now), "removed": heard(c.removed.Author, now), "stranger": heard(c.stranger.Author, now),
	} {
		if !errors.Is(err, message.ErrNotSender) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := heard(Author{c.owner.Account, c.owner.Device, c.guest.Key}, now); !errors.Is(err, message.ErrForged) {
		t.Errorf("in the owner's name: %v", err)
	}
	if !c.s.May(c.guest.Device, now, Read) || c.s.May(c.guest.Device, now, Send) {
		t.Error("muted is to read, and not to send")
	}
	c.refuse(c.guest, SetMemberRights{Account: c.guest.Account}, ErrForbidden)
}

// A new password: the present guests stay or are asked again, as the moderator
// says. Who knew the old one does not come in by it.
func TestGST05_NewPassword(t *testing.T) {
	for name, askAgain := range map[string]bool{"keep": false, "ask again": true} {
		t.Run(name, func(t *testing.T) {
			c := newCast(t)
			late := c.guestJoin(newPerson(t, "late")) // knew the old one
			epoch := c.s.Epoch()
			c.do(c.mod, c.nextPassword(t, askAgain))
			_, in := c.s.Member(c.guest.Account)
			if in == askAgain || (c.s.lost > epoch) != askAgain {
				t.Errorf("guest is in: %v", in)
			}
			c.refuse(c.mod, late, ErrStalePassword)
			if askAgain {
				c.do(c.mod, c.guestJoin(c.guest)) // the same guest, by the new one
			} else {
				c.do(c.mod, GuestRenew{c.guest.Account, start.Add(3 * time.Hour)})
			}
			c.reread()
		})
	}
}

func TestPasswordChangesAreCounted(t *testing.T) {
	c := newCast(t)
	second := c.nextPassword(t, false)
	c.do(c.mod, second)
	c.refuse(c.mod2, second, ErrStalePassword) // of two changes at once, one loses
	c.do(c.mod, SetPassword{Number: 3})
	c.refuse(c.mod, c.guestJoin(newPerson(t, "late")), ErrStalePassword) // no password, no guests
	if _, in := c.s.Member(c.guest.Account); !in {
		t.Error("closing the door put a guest out")
	}
	c.do(c.mod, SetPassword{Number: 4, AskAgain: true})
	if _, in := c.s.Member(c.guest.Account); in {
		t.Error("a guest is left")
	}
	// What readers can open is no place for a password.
	about := c.sealed(t)
	c.do(c.mod, Describe{about})
	secret, err := c.state.SealPassword(c.s.Room(), [32]byte{1})
	check(t, err)
	c.refuse(c.mod, SetPassword{Number: 5, Open: true, Secret: secret}, ErrStaleKey)
}

// A removed or banned guest is out at once, and its key does not come back, whatever
// it knows. A new key does, if it knows the password and the room is not locked.
func TestGST06_RemovedGuest(t *testing.T) {
	for name, op := range map[string]func(c *cast) Op{
		"removed": func(c *cast) Op { return Remove{c.guest.Account} },
		"banned":  func(c *cast) Op { return Ban{c.guest.Account} },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCast(t)
			epoch := c.s.Epoch()
			c.do(c.mod, op(c))
			if c.s.May(c.guest.Device, c.s.Epoch(), Read) || !c.s.May(c.guest.Device, epoch, Send) || c.s.lost <= epoch {
				t.Error("the epochs do not show it")
			}
			for _, d := range c.s.Readers() {
				if d.ID == c.guest.Device {
					t.Error("still gets keys")
				}
			}
			c.refuse(c.mod, c.guestJoin(c.guest), ErrBarred)
			c.refuse(c.mod, GuestRenew{c.guest.Account, start.Add(2 * time.Hour)}, ErrNotMember)
			again := newPerson(t, "the same in another coat")
			c.do(c.mod, Lock{true})
			c.refuse(c.mod, c.guestJoin(again), ErrLocked)
			c.do(c.mod, Lock{false})
			c.do(c.mod, c.guestJoin(again))
			c.reread()
		})
	}
}

// Guests make keys at will: those that were removed are remembered up to a bound,
// the newest ones.
func TestRemovedGuestsAreBounded(t *testing.T) {
	c := newCast(t)
	s := c.s
	clear(s.barred)
	for i := range MaxKicked - 1 {
		s.barred[newAccountID(i)] = bar{false, uint64(i)}
	}
	c.do(c.mod, Remove{c.guest.Account})
	c.do(c.mod, Ban{newPerson(t, "x").Account})
	if len(c.s.barred) != MaxKicked+1 {
		t.Fatalf("%d accounts are kept out", len(c.s.barred))
	}
	c.do(c.mod, Remove{c.guest2.Account})
	if _, oldest := c.s.barred[newAccountID(0)]; oldest || len(c.s.barred) != MaxKicked+1 {
		t.Errorf("%d accounts are kept out, the oldest too: %v", len(c.s.barred), oldest)
	}
	c.refuse(c.mod, c.guestJoin(c.guest2), ErrBarred)

	for i := range MaxBanned - 1 {
		c.s.barred[newAccountID(-1-i)] = bar{true, 1}
	}
	c.refuse(c.mod, Ban{newPerson(t, "y").Account}, ErrFull)
}

// Everybody forgets the same ones, also of many that one merge removed.
func TestForgettingIsTheSameForAll(t *testing.T) {
	c := newCast(t)
	c.do(c.owner, Unban{c.removed.Account})
	o := Merge{Common: 1, Seq: 2}
	for i := range MaxKicked {
		o.Removed = append(o.Removed, newAccountID(i))
	}
	slices.SortFunc(o.Removed, func(a, b protocol.AccountID) int { return bytes.Compare(a[:], b[:]) })
	c.do(c.owner, o)
	c.do(c.mod, Remove{c.guest.Account})
	c.do(c.mod, Remove{c.guest2.Account})
	for i, id := range o.Removed[:4] {
		if c.s.Barred(id) != (i >= 2) {
			t.Errorf("account %d is kept out: %v", i, i < 2)
		}
	}
	c.reread()
}

// A guest stays for a day at most, and for another one whenever somebody says so. Then
// anybody who may admit can put it out; it comes back by the password.
func TestGuestExpires(t *testing.T) {
	c := newCast(t)
	fresh := newPerson(t, "fresh")
	for _, stay := range []time.Duration{-time.Hour, 0, MaxGuestStay + time.Second} {
		o := c.guestJoin(fresh)
		o.Expires = start.Add(stay)
		c.refuse(c.mod, o, ErrForbidden)
		c.refuse(c.mod, GuestRenew{c.guest.Account, start.Add(stay)}, ErrForbidden)
	}
	epoch := c.s.Epoch()
	c.do(c.mod, GuestRenew{c.guest.Account, start.Add(MaxGuestStay)})
	if c.s.Epoch() != epoch {
		t.Error("staying began an epoch")
	}
	c.refuse(c.mod, GuestExpire{c.guest.Account}, ErrForbidden)
	c.refuse(c.mod, GuestExpire{c.member.Account}, ErrForbidden)
	at := func(now time.Time) error {
		_, _, err := c.s.Write(now, c.mod.Author, GuestExpire{c.guest.Account})
		return err
	}
	if at(start.Add(MaxGuestStay-time.Second)) == nil || at(start.Add(MaxGuestStay)) != nil {
		t.Error("a guest's time is not what it was told")
	}
	s, e, err := c.s.Write(start.Add(MaxGuestStay), c.mod.Author, GuestExpire{c.guest.Account})
	check(t, err)
	c.s, c.log = s, append(c.log, e)
	c.do(c.mod, c.guestJoin(c.guest))
	c.reread()
}

// A guest is one device that somebody let in, and nothing else.
func TestGuestIsOneDevice(t *testing.T) {
	c := newCast(t)
	c.guest.addDevice(t, "second")
	for _, by := range []*person{c.guest, c.owner} {
		c.refuse(by, c.guest.news(c.s), ErrForbidden)
	}
	two := newPerson(t, "two")
	two.addDevice(t, "second")
	c.refuse(c.mod, c.guestJoin(two), ErrForbidden)
	none := newPerson(t, "none")
	none.revoke(t, none.Device)
	c.refuse(c.mod, c.guestJoin(none), ErrForbidden)
	broken := c.guestJoin(newPerson(t, "broken"))
	broken.Chain[len(broken.Chain)-1] ^= 1
	c.refuse(c.mod, broken, key.ErrSignature)
	c.refuse(c.guest, c.guestJoin(newPerson(t, "friend")), ErrForbidden)
	c.do(c.guest, Leave{})
	c.do(c.mod, c.guestJoin(newPerson(t, "guest"))) // the same key again: who leaves was not put out
}
