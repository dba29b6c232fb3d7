package room

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// cast is a room with somebody of every kind.
type cast struct {
	*party
	owner, owner2, mod, mod2, member, member2, guest, guest2 *person
	invited, removed, banned, stranger                       *person
	link                                                     key.LinkPrivate
}

func newCast(t tester) *cast {
	t.Helper()
	who := func(name string) *person { return newPerson(t, name) }
	c := &cast{
		owner: who("owner"), owner2: who("owner2"), mod: who("mod"), mod2: who("mod2"), member: who("member"), member2: who("member2"),
		guest: who("guest"), guest2: who("guest2"), invited: who("invited"), removed: who("removed"), banned: who("banned"), stranger: who("stranger"),
		link: key.NewLink(),
	}
	c.party = newParty(t, c.owner)
	c.join(c.owner, c.owner2, c.mod, c.mod2, c.member, c.member2, c.removed, c.banned)
	c.promote(c.owner, RoleOwner, c.owner2)
	c.promote(c.owner, RoleModerator, c.mod, c.mod2)
	c.open(c.owner, false)
	c.do(c.mod, c.guestJoin(c.guest))
	c.do(c.mod, c.guestJoin(c.guest2))
	c.do(c.mod, Remove{c.removed.Account})
	c.do(c.mod, Ban{c.banned.Account})
	c.do(c.mod, Invite{c.invited.Account})
	c.do(c.mod, Link{c.link.Public(), start.Add(time.Hour), 2})
	return c
}

func (c *cast) sealed(t tester) Sealed {
	t.Helper()
	s, err := c.state.SealAbout(c.s.Room(), About{Name: "x"})
	check(t, err)
	return s
}

func (c *cast) nextPassword(t tester, askAgain bool) SetPassword {
	t.Helper()
	secret, err := c.admit.SealPassword(c.s.Room(), [32]byte{2})
	check(t, err)
	return SetPassword{Number: c.s.Password().Number + 1, Open: true, AskAgain: askAgain, Secret: secret}
}

func (c *cast) signedIn(t tester, who *person) Join {
	t.Helper()
	j, err := Join{Chain: who.chain.Bytes()}.SignIn(c.link, c.s.Room(), who.Account, who.Device)
	check(t, err)
	return j
}

// TestWhoMay is every operation tried by everybody. Each column of want is one of the
// actors: y may, n may not (ErrForbidden), - has nothing to say (ErrNotMember).
func TestWhoMay(t *testing.T) {
	c := newCast(t)
	sally := newPerson(t, "sally")
	c.member2.addDevice(t, "phone")
	actors := []*person{c.owner, c.mod, c.member, c.guest, c.removed, c.stranger}
	fresh := c.guestJoin(newPerson(t, "fresh"))
	merge := Merge{Common: 3, Seq: 5, Head: [32]byte{1}}
	for _, line := range []struct {
		name string
		op   Op
		want string // owner, moderator, member, guest, removed, stranger
	}{
		{"invite", Invite{sally.Account}, "yynn--"},
		{"uninvite", Uninvite{c.invited.Account}, "yynn--"},
		{"link", Link{key.NewLink().Public(), start.Add(time.Hour), 1}, "yynn--"},
		{"unlink", Unlink{c.link.Public()}, "yynn--"},
		{"remove an owner", Remove{c.owner2.Account}, "nnnn--"},
		{"remove a moderator", Remove{c.mod2.Account}, "ynnn--"},
		{"remove a member", Remove{c.member2.Account}, "yynn--"},
		{"remove a guest", Remove{c.guest2.Account}, "yynn--"},
		{"ban an owner", Ban{c.owner2.Account}, "nnnn--"},
		{"ban a moderator", Ban{c.mod2.Account}, "ynnn--"},
		{"ban a member", Ban{c.member2.Account}, "yynn--"},
		{"ban somebody outside", Ban{sally.Account}, "yynn--"},
		{"unban", Unban{c.banned.Account}, "yynn--"},
		{"demote an owner", SetRole{c.owner2.Account, RoleMember}, "nnnn--"},
		{"demote a moderator", SetRole{c.mod2.Account, RoleMember}, "ynnn--"},
		{"make an owner", SetRole{c.member2.Account, RoleOwner}, "ynnn--"},
		{"make a moderator", SetRole{c.member2.Account, RoleModerator}, "ynnn--"},
		{"make a guest a member", SetRole{c.guest2.Account, RoleMember}, "nnnn--"},
		{"mute an owner", SetMemberRights{Account: c.owner2.Account, Muted: true}, "nnnn--"},
		{"mute a moderator", SetMemberRights{Account: c.mod2.Account, Muted: true}, "ynnn--"},
		{"mute a member", SetMemberRights{Account: c.member2.Account, Muted: true}, "yynn--"},
		{"mute a guest", SetMemberRights{Account: c.guest2.Account, Muted: true}, "yynn--"},
		{"let a member admit", SetMemberRights{Account: c.member2.Account, HasOwn: true, Own: Access | Admit}, "yynn--"},
		{"let a guest admit", SetMemberRights{Account: c.guest2.Account, HasOwn: true, Own: Access | Admit}, "nnnn--"},
		{"rights of moderators", SetRoleRights{RoleModerator, Access}, "ynnn--"},
		{"rights of members", SetRoleRights{RoleMember, Read}, "yynn--"},
		{"rights of guests", SetRoleRights{RoleGuest, Read}, "yynn--"},
		{"lock", Lock{true}, "yynn--"},
		{"describe", Describe{c.sealed(t)}, "yynn--"},
		{"password", c.nextPassword(t, false), "yynn--"},
		{"password, asked again", c.nextPassword(t, true), "yynn--"},
		{"guest joins", fresh, "yynn--"},
		{"guest stays", GuestRenew{c.guest2.Account, start.Add(2 * time.Hour)}, "yynn--"},
		{"guest expires", GuestExpire{c.guest2.Account}, "nnnn--"}, // its time is not over
		{"another's devices", c.member2.news(c.s), "yyyn--"},
		{"rotate", Rotate{}, "yynn--"},
		{"merge", merge, "yynn--"},
		{"leave", Leave{}, "yyyy--"},
	} {
		for i, want := range map[byte]error{'y': nil, 'n': ErrForbidden, '-': ErrNotMember} {
			for col, mark := range []byte(line.want) {
				if mark != i {
					continue
				}
				if _, _, err := c.s.Write(start, actors[col].Author, line.op); !errors.Is(err, want) {
					t.Errorf("%s by the %s: %v, want %v", line.name, actors[col].name, err, want)
				}
			}
		}
		if strings.Trim(line.want, "yn-") != "" || len(line.want) != len(actors) {
			t.Fatalf("%s: table", line.name)
		}
	}
}

// One right is one thing: a member who was given it may do that and nothing else.
func TestEachRightIsItsOwn(t *testing.T) {
	c := newCast(t)
	sally := newPerson(t, "sally")
	ops := map[Rights][]Op{
		Admit: {
			Invite{sally.Account}, Uninvite{c.invited.Account}, Link{key.NewLink().Public(), start, 1}, Unlink{c.link.Public()},
			c.guestJoin(newPerson(t, "fresh")), GuestRenew{c.guest2.Account, start.Add(2 * time.Hour)},
		},
		Kick:             {Remove{c.guest2.Account}, Ban{c.guest2.Account}, Ban{sally.Account}, Unban{c.banned.Account}, Lock{true}, Rotate{}},
		SetRights:        {SetMemberRights{Account: c.guest2.Account, Muted: true}, SetRoleRights{RoleGuest, Read}, c.nextPassword(t, false)},
		SetRights | Kick: {c.nextPassword(t, true)},
		Rename:           {Describe{c.sealed(t)}},
	}
	for given := range AllRights + 1 {
		if !given.Has(Access) {
			continue
		}
		s, _, err := c.s.Write(start, c.owner.Author, SetMemberRights{Account: c.member.Account, HasOwn: true, Own: given})
		if errors.Is(err, ErrNoEffect) {
			s = c.s
		} else {
			check(t, err)
		}
		for want, list := range ops {
			for _, op := range list {
				_, _, err := s.Write(start, c.member.Author, op)
				if given.Has(want) != (err == nil) || (err != nil && !errors.Is(err, ErrForbidden)) {
					t.Errorf("%T with the rights to %v: %v", op, given, err)
				}
			}
		}
	}
}

// Nobody passes on a right he does not have, by whatever way.
func TestNobodyPassesOnWhatHeHasNot(t *testing.T) {
	c := newCast(t)
	give := func(who *person, own Rights) {
		t.Helper()
		c.do(c.owner, SetMemberRights{Account: who.Account, HasOwn: true, Own: own})
	}
	give(c.mod, Read|Send|SetRights)
	for name, op := range map[string]Op{
		"a right of its own":        SetMemberRights{Account: c.member.Account, HasOwn: true, Own: Access | Rename},
		"to guests":                 SetRoleRights{RoleGuest, Access},
		"to members":                SetRoleRights{RoleMember, Access | Kick},
		"files to one guest":        SetMemberRights{Account: c.guest.Account, HasOwn: true, Own: Access},
		"promotion, with its right": SetRole{c.member.Account, RoleModerator},
		"himself":                   SetMemberRights{Account: c.mod.Account, HasOwn: true, Own: AllRights},
		"his own role":              SetRoleRights{RoleModerator, AllRights},
		"promotes himself":          SetRole{c.mod.Account, RoleOwner},
	} {
		t.Run(name, func(t *testing.T) { c.refuse(c.mod, op, ErrForbidden) })
	}
	c.do(c.mod, SetMemberRights{Account: c.member.Account, HasOwn: true, Own: Read}) // taking away is his to do
	c.refuse(c.mod, SetMemberRights{Account: c.member.Account}, ErrForbidden)        // giving it all back is not
	c.do(c.mod2, SetMemberRights{Account: c.member.Account})

	c.do(c.owner, SetMemberRights{Account: c.mod2.Account, Muted: true})
	c.refuse(c.mod2, SetRole{c.mod2.Account, RoleMember}, ErrForbidden) // stepping down would end the mute
	c.do(c.owner, SetMemberRights{Account: c.mod2.Account})
	c.do(c.mod2, SetRole{c.mod2.Account, RoleMember})
	c.refuse(c.mod2, SetRole{c.mod2.Account, RoleModerator}, ErrForbidden)
	c.refuse(c.guest, SetRole{c.guest.Account, RoleMember}, ErrForbidden)
	c.refuse(c.member, SetRole{c.member.Account, RoleMember}, ErrNoEffect)
	c.do(c.owner, SetMemberRights{Account: c.member.Account, HasOwn: true, Own: AllRights})
	c.refuse(c.member, SetRole{c.member.Account, RoleModerator}, ErrForbidden) // though he would gain no right
}

// The room always has an owner, as long as it has members.
func TestLastOwner(t *testing.T) {
	c := newCast(t)
	c.do(c.owner2, SetRole{c.owner2.Account, RoleModerator})
	c.refuse(c.owner, Leave{}, ErrLastOwner)
	c.refuse(c.owner, SetRole{c.owner.Account, RoleMember}, ErrLastOwner)
	for _, m := range c.s.Members() {
		if m.Role == RoleMember || m.Role == RoleModerator {
			c.do(c.owner, Remove{m.Account})
		}
	}
	c.do(c.owner, Leave{}) // with only guests left
	c.refuse(c.owner, Invite{c.owner.Account}, ErrNotMember)
	c.reread()
}

// What changes nothing is no entry: a repeated one says that it is done.
func TestNoEffect(t *testing.T) {
	c := newCast(t)
	c.do(c.owner, Lock{true})
	for _, op := range []Op{
		Invite{c.member.Account}, Invite{c.invited.Account}, Uninvite{c.stranger.Account}, Link{c.link.Public(), start, 1},
		Unlink{key.NewLink().Public()}, Remove{c.stranger.Account}, Remove{c.removed.Account}, Ban{c.banned.Account}, Unban{c.stranger.Account},
		SetRole{c.mod.Account, RoleModerator}, SetMemberRights{Account: c.member.Account}, SetRoleRights{RoleMember, Access}, Lock{true},
		GuestRenew{c.guest.Account, start.Add(time.Hour)}, GuestExpire{c.removed.Account}, c.guestJoin(c.guest), Devices{Account: c.member.Account},
		Merge{Common: 2, Seq: 4, Head: c.log[4].Hash()},
	} {
		c.refuse(c.owner, op, ErrNoEffect)
	}
	c.refuse(c.member, Join{Chain: c.member.chain.Bytes()}, ErrNoEffect)
	c.do(c.owner, SetPassword{Number: 2})
	c.refuse(c.owner, SetPassword{Number: 3}, ErrNoEffect)
}

// Who is not in the room, or not any more, comes in only as the log allows.
func TestWhoComesIn(t *testing.T) {
	c := newCast(t)
	join := func(who *person) Join { return Join{Chain: who.chain.Bytes()} }
	c.refuse(c.stranger, join(c.stranger), ErrNotInvited)
	c.refuse(c.stranger, join(c.invited), ErrNotInvited)
	c.refuse(c.invited, join(c.stranger), ErrMalformed) // the invited device, another account's chain
	c.refuseFrom(Author{c.invited.Account, c.stranger.Device, c.stranger.Key}, join(c.invited), ErrNotMember)
	c.refuseFrom(Author{c.invited.Account, c.invited.Device, c.stranger.Key}, join(c.invited), key.ErrSignature)

	c.refuse(c.removed, join(c.removed), ErrNotInvited)
	c.refuse(c.removed, c.signedIn(t, c.removed), ErrBarred) // a link is not enough
	c.refuse(c.banned, c.signedIn(t, c.banned), ErrBarred)
	c.refuse(c.mod, Invite{c.banned.Account}, ErrBarred)
	c.do(c.mod, Invite{c.removed.Account}) // by name it is
	c.do(c.removed, join(c.removed))
	c.do(c.removed, Leave{})
	c.do(c.removed, c.signedIn(t, c.removed)) // his removal is forgiven
	c.do(c.mod, Unban{c.banned.Account})
	c.do(c.mod, Invite{c.banned.Account})
	c.do(c.banned, join(c.banned))

	forged := c.signedIn(t, c.stranger)
	forged.Proof[3] ^= 1
	c.refuse(c.stranger, forged, key.ErrSignature)
	other, err := join(c.stranger).SignIn(key.NewLink(), c.s.Room(), c.stranger.Account, c.stranger.Device)
	check(t, err)
	c.refuse(c.stranger, other, ErrNotInvited)
	stolen := c.signedIn(t, c.stranger)
	stolen.Chain = c.invited.chain.Bytes()
	c.refuse(c.invited, stolen, key.ErrSignature) // a signature for somebody else
	elsewhere, err := join(c.stranger).SignIn(c.link, protocol.RoomID{1}, c.stranger.Account, c.stranger.Device)
	check(t, err)
	c.refuse(c.stranger, elsewhere, key.ErrSignature)

	c.do(c.mod, Lock{true})
	c.refuse(c.stranger, c.signedIn(t, c.stranger), ErrLocked)
	c.refuse(c.invited, join(c.invited), ErrLocked)
	c.refuse(c.owner, c.guestJoin(newPerson(t, "fresh")), ErrLocked)
	c.do(c.mod, Lock{false})

	c.do(c.stranger, c.signedIn(t, c.stranger))
	late := newPerson(t, "late")
	c.refuse(late, c.signedIn(t, late), ErrNotInvited) // used up
	c.reread()
}

// What somebody promised ends when he leaves, or may not promise it any more.
func TestInvitationsEndWithTheirAuthor(t *testing.T) {
	for name, end := range map[string]func(c *cast){
		"removed":       func(c *cast) { c.do(c.owner, Remove{c.mod.Account}) },
		"banned":        func(c *cast) { c.do(c.owner, Ban{c.mod.Account}) },
		"left":          func(c *cast) { c.do(c.mod, Leave{}) },
		"demoted":       func(c *cast) { c.do(c.owner, SetRole{c.mod.Account, RoleMember}) },
		"lost a right":  func(c *cast) { c.do(c.owner, SetMemberRights{Account: c.mod.Account, HasOwn: true, Own: Access}) },
		"all lost it":   func(c *cast) { c.do(c.owner, SetRoleRights{RoleModerator, Access}) },
		"taken back":    func(c *cast) { c.do(c.owner, Uninvite{c.invited.Account}); c.do(c.owner, Unlink{c.link.Public()}) },
		"not invitable": func(c *cast) { c.do(c.owner, Ban{c.invited.Account}); c.do(c.owner, Unlink{c.link.Public()}) },
	} {
		t.Run(name, func(t *testing.T) {
			c := newCast(t)
			end(c)
			c.refuse(c.invited, Join{Chain: c.invited.chain.Bytes()}, ErrNotInvited)
			c.refuse(c.stranger, c.signedIn(t, c.stranger), ErrNotInvited)
		})
	}
}

// A moderator who comes back, or gets his right back, does not find his old promises
// in force.
func TestReturnRevivesNothing(t *testing.T) {
	for name, there := range map[string]func(c *cast){
		"removed": func(c *cast) {
			c.do(c.owner, Remove{c.mod.Account})
			c.join(c.owner, c.mod)
			c.promote(c.owner, RoleModerator, c.mod)
		},
		"lost a right": func(c *cast) {
			c.do(c.owner, SetMemberRights{Account: c.mod.Account, HasOwn: true, Own: Access})
			c.do(c.owner, SetMemberRights{Account: c.mod.Account})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCast(t)
			there(c)
			c.refuse(c.invited, Join{Chain: c.invited.chain.Bytes()}, ErrNotInvited)
			c.refuse(c.stranger, c.signedIn(t, c.stranger), ErrNotInvited)
		})
	}
}

// Nothing a removed member signs is taken by who saw the removal.
func TestRemovedMemberCanDoNothing(t *testing.T) {
	c := newCast(t)
	c.do(c.owner, SetMemberRights{Account: c.member.Account, HasOwn: true, Own: AllRights})
	before := c.s
	c.do(c.owner, Remove{c.member.Account})
	ops := []Op{
		Invite{c.stranger.Account}, Link{key.NewLink().Public(), start, 1}, Remove{c.guest.Account}, Ban{c.guest.Account}, Lock{true}, Rotate{},
		SetRoleRights{RoleGuest, Read}, Describe{c.sealed(t)}, c.nextPassword(t, true), c.guestJoin(newPerson(t, "fresh")), Leave{},
		Join{Chain: c.member.chain.Bytes()}, c.signedIn(t, c.member), Merge{Common: 1, Seq: 2}, Unban{c.member.Account},
	}
	for _, op := range ops {
		if _, _, err := c.s.Write(start, c.member.Author, op); err == nil {
			t.Errorf("%T by a removed member", op)
		}
		_, backdated, err := before.Write(start, c.member.Author, op)
		if err == nil {
			if _, err := c.s.Extend(backdated); !errors.Is(err, ErrPlace) {
				t.Errorf("%T, written before the removal: %v", op, err)
			}
		}
	}
}
