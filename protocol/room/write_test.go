package room

import (
	"errors"
	"slices"
	"testing"

	"github.com/parley-chat/parley/protocol/key"
)

// race lets two people write at one place of the log. The first wins, the second
// writes again.
func (c *cast) race(t *testing.T, winner *person, won Op, loser *person, lost Op) error {
	t.Helper()
	base := c.s
	_, e, err := base.Write(start, loser.Author, lost)
	check(t, err)
	c.do(winner, won)
	if _, err := c.s.Extend(e); !errors.Is(err, ErrPlace) {
		t.Fatalf("the loser's entry, as it was: %v", err)
	}
	s, again, err := c.s.Rebase(start, loser.Author, e, base)
	if err == nil {
		c.s, c.log = s, append(c.log, again)
		c.reread()
	}
	return err
}

func TestRebase(t *testing.T) {
	mute := func(who *person) Op { return SetMemberRights{Account: who.Account, Muted: true} }
	own := func(who *person, r Rights) Op { return SetMemberRights{Account: who.Account, HasOwn: true, Own: r} }
	for _, try := range []struct {
		name string
		race func(c *cast) error
		want error
	}{
		{"two invitations", func(c *cast) error {
			return c.race(t, c.mod, Invite{newAccountID(1)}, c.mod2, Invite{newAccountID(2)})
		}, nil},
		{"the same invitation", func(c *cast) error {
			return c.race(t, c.mod, Invite{newAccountID(1)}, c.mod2, Invite{newAccountID(1)})
		}, ErrNoEffect},
		{"a removal beats its victim", func(c *cast) error {
			return c.race(t, c.mod, Invite{newAccountID(1)}, c.owner, Remove{c.mod.Account})
		}, nil},
		{"a removal, and the victim's own", func(c *cast) error {
			return c.race(t, c.owner, Remove{c.mod.Account}, c.mod, Remove{c.member.Account})
		}, ErrNotMember},
		{"the victim left", func(c *cast) error {
			return c.race(t, c.member, Leave{}, c.mod, Remove{c.member.Account})
		}, ErrNoEffect},
		{"the victim left, a ban counts", func(c *cast) error {
			return c.race(t, c.member, Leave{}, c.mod, Ban{c.member.Account})
		}, nil},
		{"the victim was promoted", func(c *cast) error {
			return c.race(t, c.owner, SetRole{c.member.Account, RoleModerator}, c.mod, Remove{c.member.Account})
		}, ErrForbidden},
		{"the right was lost", func(c *cast) error {
			return c.race(t, c.owner, own(c.mod, Access), c.mod, Invite{newAccountID(1)})
		}, ErrForbidden},
		{"two passwords", func(c *cast) error {
			return c.race(t, c.mod, c.nextPassword(t, false), c.mod2, c.nextPassword(t, true))
		}, ErrStalePassword},
		{"a guest, and a new password", func(c *cast) error {
			return c.race(t, c.mod, c.nextPassword(t, false), c.mod2, c.guestJoin(newPerson(t, "fresh")))
		}, ErrStalePassword},
		{"a guest, and the lock", func(c *cast) error {
			return c.race(t, c.mod, Lock{true}, c.mod2, c.guestJoin(newPerson(t, "fresh")))
		}, ErrLocked},
		{"a name, and a reader less", func(c *cast) error {
			c.do(c.mod, Describe{c.sealed(t)})
			return c.race(t, c.member, Leave{}, c.mod2, Describe{c.sealed(t)})
		}, ErrStaleKey},
		{"a join, after something else", func(c *cast) error {
			return c.race(t, c.mod, Rotate{}, c.stranger, c.signedIn(t, c.stranger))
		}, nil},
		{"two mutes", func(c *cast) error {
			return c.race(t, c.mod, mute(c.member), c.mod2, mute(c.member))
		}, ErrNoEffect},
		{"a mute, and a right given", func(c *cast) error {
			return c.race(t, c.mod, mute(c.member), c.mod2, own(c.member, Access|Admit))
		}, ErrConflict}, // it would end the mute, which its author did not know of
		{"a right taken, and another taken", func(c *cast) error {
			return c.race(t, c.mod, own(c.member, Read|Send), c.mod2, own(c.member, Read|React))
		}, ErrConflict}, // it would give back reactions
		{"a right taken, and more taken", func(c *cast) error {
			return c.race(t, c.mod, own(c.member, Read|Send), c.mod2, own(c.member, Read))
		}, nil},
		{"a right given, and the same given", func(c *cast) error {
			return c.race(t, c.mod, own(c.member, Access|Admit), c.mod2, own(c.member, Access|Admit))
		}, ErrNoEffect},
		{"rights of a role, taken and taken", func(c *cast) error {
			return c.race(t, c.mod, SetRoleRights{RoleMember, Read | Send}, c.mod2, SetRoleRights{RoleMember, Read | React})
		}, ErrConflict},
		{"demoted, and demoted", func(c *cast) error {
			return c.race(t, c.owner, own(c.mod, Access), c.owner2, SetRole{c.mod.Account, RoleMember})
		}, nil},
		{"all rights taken, and demoted", func(c *cast) error {
			return c.race(t, c.owner, own(c.mod, 0), c.owner2, SetRole{c.mod.Account, RoleMember})
		}, ErrConflict}, // as a member he could read again
	} {
		t.Run(try.name, func(t *testing.T) {
			if err := try.race(newCast(t)); !errors.Is(err, try.want) {
				t.Errorf("%v, want %v", err, try.want)
			}
		})
	}
}

// An answer that was lost: the entry is in the log already.
func TestRebaseOfWhatIsThere(t *testing.T) {
	c := newCast(t)
	base := c.s
	c.do(c.mod, Rotate{})
	mine := c.log[len(c.log)-1]
	c.do(c.mod2, Rotate{})
	if _, _, err := c.s.Rebase(start, c.mod.Author, mine, base); !errors.Is(err, ErrNoEffect) {
		t.Errorf("written twice: %v", err)
	}
	if _, _, err := c.s.Rebase(start, c.mod.Author, mine, c.s); !errors.Is(err, ErrNoEffect) {
		t.Errorf("on another base: %v", err)
	}
	lost, _, err := base.Write(start, c.owner.Author, Lock{true})
	check(t, err)
	_, e, err := lost.Write(start, c.owner.Author, Rotate{})
	check(t, err)
	if _, _, err := c.s.Rebase(start, c.owner.Author, e, base); !errors.Is(err, ErrPlace) {
		t.Errorf("on a base it was not written on: %v", err)
	}
}

// What waits goes in the order that keeps nobody from being removed.
func TestPrecedence(t *testing.T) {
	c := newCast(t)
	id := newAccountID(1)
	ops := everyOp(t, c)
	slices.SortStableFunc(ops, func(a, b Op) int { return Precedence(a) - Precedence(b) })
	for i, op := range ops {
		want := 2
		switch op.Kind() {
		case KindRemove, KindBan:
			want = 0
		case KindSetRole, KindSetMemberRights, KindSetRoleRights:
			want = 1
		}
		if Precedence(op) != want {
			t.Errorf("%T: %d", op, Precedence(op))
		}
		if i < 2 && want != 0 {
			t.Errorf("%T goes first", op)
		}
	}
	if Precedence(Ban{id}) >= Precedence(Link{key.LinkPublic{}, start, 1}) {
		t.Error("a link goes before a ban")
	}
}
