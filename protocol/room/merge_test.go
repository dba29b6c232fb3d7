package room

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/parley-chat/parley/protocol"
)

// branch is a party that goes on from where p is, for itself.
func (c *cast) branch() *cast {
	other := *c
	p := *c.party
	p.log = slices.Clone(c.log)
	other.party = &p
	return &other
}

// merge is the operation that gives up the branch other for c's.
func (c *cast) merge(common uint64, other *cast, removed ...protocol.AccountID) Merge {
	slices.SortFunc(removed, func(a, b protocol.AccountID) int { return bytes.Compare(a[:], b[:]) })
	return Merge{common, other.s.Seq(), other.s.Head(), removed}
}

// Members who hold a branch change over to another only if those who may have said
// so there: an owner, or two moderators, who are that also in the branch given up.
func TestAdopt(t *testing.T) {
	for _, try := range []struct {
		name         string
		mine, theirs func(mine, theirs *cast, common uint64)
		want         error
	}{
		{"an owner merged", nil, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner2, theirs.merge(common, mine))
			theirs.do(theirs.mod, Lock{false}) // and the log went on
		}, nil},
		{"nobody merged", nil, func(mine, theirs *cast, common uint64) {}, ErrForbidden},
		{"one moderator", nil, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.mod, theirs.merge(common, mine))
		}, ErrForbidden},
		{"one moderator twice", nil, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.mod, theirs.merge(common, mine))
			theirs.do(theirs.mod, theirs.merge(common, mine))
		}, ErrForbidden},
		{"two moderators", nil, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.mod, theirs.merge(common, mine))
			theirs.do(theirs.mod2, theirs.merge(common, mine))
		}, nil},
		{"one of the two was removed here", func(mine, theirs *cast, common uint64) {
			mine.do(mine.owner, Remove{mine.mod2.Account})
		}, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.mod, theirs.merge(common, mine))
			theirs.do(theirs.mod2, theirs.merge(common, mine))
		}, ErrForbidden},
		{"a moderator made there", nil, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner, SetRole{theirs.member.Account, RoleModerator})
			theirs.do(theirs.member, theirs.merge(common, mine))
			theirs.do(theirs.mod2, theirs.merge(common, mine))
		}, ErrForbidden},
		{"an owner made there", nil, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner, SetRole{theirs.member.Account, RoleOwner})
			theirs.do(theirs.member, theirs.merge(common, mine))
		}, ErrForbidden},
		{"an owner who left here", func(mine, theirs *cast, common uint64) {
			mine.do(mine.owner2, Leave{})
		}, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner2, theirs.merge(common, mine))
		}, ErrForbidden},
		{"an owner who stepped down here", func(mine, theirs *cast, common uint64) {
			mine.do(mine.owner2, SetRole{mine.owner2.Account, RoleMember})
		}, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner2, theirs.merge(common, mine))
		}, ErrForbidden},
		{"an owner's device that was stolen, and revoked here", func(mine, theirs *cast, common uint64) {
			owner2 := newPerson(mine.t, "owner2")
			owner2.revoke(mine.t, owner2.Device)
			mine.do(mine.member, owner2.news(mine.s))
		}, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner2, theirs.merge(common, mine))
		}, ErrForbidden},
		{"an owner made here", func(mine, theirs *cast, common uint64) {
			mine.do(mine.owner, SetRole{mine.mod.Account, RoleOwner})
		}, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.mod, theirs.merge(common, mine))
		}, ErrForbidden},
		{"another number", nil, func(mine, theirs *cast, common uint64) {
			o := theirs.merge(common, mine)
			o.Seq++
			theirs.do(theirs.owner, o)
		}, ErrForbidden},
		{"an older head of ours", nil, func(mine, theirs *cast, common uint64) {
			o := theirs.merge(common, mine)
			o.Seq, o.Head = common+1, mine.log[common+1].Hash()
			theirs.do(theirs.owner, o)
		}, ErrForbidden},
		{"a head of somebody else's", nil, func(mine, theirs *cast, common uint64) {
			o := theirs.merge(common, mine)
			o.Head[0] ^= 1
			theirs.do(theirs.owner, o)
		}, ErrForbidden},
		{"another place of parting", nil, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner, theirs.merge(common-1, mine))
		}, ErrForbidden},
		{"a removal that is undone", func(mine, theirs *cast, common uint64) {
			mine.do(mine.mod, Remove{mine.member.Account})
		}, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner, theirs.merge(common, mine))
		}, ErrForbidden},
		{"a removal that is kept", func(mine, theirs *cast, common uint64) {
			mine.do(mine.mod, Remove{mine.member.Account})
			mine.do(mine.mod, Ban{mine.member2.Account})
		}, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner, theirs.merge(common, mine, mine.member.Account, mine.member2.Account))
		}, nil},
		{"a removal, and an invitation after the merge", func(mine, theirs *cast, common uint64) {
			mine.do(mine.mod, Remove{mine.member.Account})
		}, func(mine, theirs *cast, common uint64) {
			theirs.do(theirs.owner, theirs.merge(common, mine, mine.member.Account))
			theirs.do(theirs.owner, Lock{false})
			theirs.join(theirs.owner, theirs.member)
		}, nil},
	} {
		t.Run(try.name, func(t *testing.T) {
			c := newCast(t)
			common := c.s.Seq()
			mine, theirs := c.branch(), c.branch()
			mine.do(mine.owner, Lock{true})
			mine.do(mine.owner, Rotate{})
			theirs.do(theirs.mod, Lock{true})
			if try.mine != nil {
				try.mine(mine, theirs, common)
			}
			try.theirs(mine, theirs, common)
			got, err := Adopt(mine.log, theirs.log)
			if !errors.Is(err, try.want) {
				t.Fatalf("%v, want %v", err, try.want)
			}
			if err == nil && dump(got) != dump(theirs.s) {
				t.Error("adopted another state")
			}
			theirs.reread()
		})
	}
}

func TestAdoptNeedsAValidFork(t *testing.T) {
	c := newCast(t)
	longer := c.branch()
	longer.do(longer.owner, Lock{true})
	if _, err := NewMerge(c.log, longer.log); !errors.Is(err, ErrNoEffect) {
		t.Errorf("merge without a fork: %v", err)
	}
	for name, logs := range map[string][2][]Entry{"the same": {c.log, c.log}, "longer": {c.log, longer.log}, "shorter": {longer.log, c.log}} {
		if _, err := Adopt(logs[0], logs[1]); !errors.Is(err, ErrNoEffect) {
			t.Errorf("%s: %v", name, err)
		}
	}
	other := c.branch()
	other.do(other.mod, Lock{true})
	bad := c.forge(t, c.member.Author, Merge{c.s.Seq(), longer.s.Seq(), longer.s.Head(), nil}, func(e *Entry) { e.Seq, e.Prev = other.s.Seq()+1, other.s.Head() })
	if _, err := Adopt(longer.log, append(other.log, bad)); !errors.Is(err, ErrForbidden) {
		t.Errorf("a branch that is not valid: %v", err)
	}
	if _, err := NewMerge(longer.log, append(other.log, bad)); !errors.Is(err, ErrForbidden) {
		t.Errorf("merge of a branch that is not valid: %v", err)
	}
	elsewhere := newParty(t, c.owner)
	if _, err := Adopt(c.log, elsewhere.log); !errors.Is(err, ErrMalformed) {
		t.Errorf("another room: %v", err)
	}
}

// What a merge carries over takes the right to do it.
func TestMergeRemoves(t *testing.T) {
	c := newCast(t)
	o := Merge{Common: 1, Seq: 2, Removed: []protocol.AccountID{c.owner2.Account}}
	c.refuse(c.owner, o, ErrForbidden)
	o.Removed[0] = c.mod2.Account
	c.refuse(c.mod, o, ErrForbidden)
	o.Removed[0] = c.member.Account
	c.do(c.owner, SetMemberRights{Account: c.mod.Account, HasOwn: true, Own: Access})
	c.refuse(c.mod, o, ErrForbidden)
	c.refuse(c.member2, o, ErrForbidden)
	o.Removed = slices.SortedFunc(slices.Values([]protocol.AccountID{c.member.Account, c.banned.Account, c.stranger.Account}), func(a, b protocol.AccountID) int { return bytes.Compare(a[:], b[:]) })
	c.do(c.owner, o)
	for who, ban := range map[*person]bool{c.member: false, c.banned: true, c.stranger: false} {
		barred, banned := c.s.Barred(who.Account), slices.Contains(c.s.Banned(), who.Account)
		if !barred || banned != ban {
			t.Errorf("%s: barred %v, banned %v", who.name, barred, banned)
		}
	}
	for name, o := range map[string]Merge{
		"from the future":  {Common: c.s.Seq() + 1, Seq: c.s.Seq() + 2},
		"of nothing":       {Common: 3, Seq: 3},
		"backwards":        {Common: 3, Seq: 2},
		"from this number": {Common: c.s.Seq() + 1, Seq: c.s.Seq() + 9},
	} {
		t.Run(name, func(t *testing.T) { c.refuse(c.owner, o, ErrMalformed) })
	}
}

// A merge names no more accounts than fit: those first who are in the room.
func TestMergeOfManyRemovals(t *testing.T) {
	c := newCast(t)
	ours, theirs := c.branch(), c.branch()
	ours.do(ours.owner, Rotate{})
	for i := range MaxMembers {
		theirs.do(theirs.owner, Ban{newAccountID(i)})
	}
	all, err := NewMerge(ours.log, theirs.log)
	check(t, err)
	theirs.do(theirs.owner, Ban{c.member.Account})
	few, err := NewMerge(ours.log, theirs.log)
	check(t, err)
	if len(all.Removed) != MaxMembers || len(few.Removed) != 1 || few.Removed[0] != c.member.Account {
		t.Errorf("%d named, then %d", len(all.Removed), len(few.Removed))
	}
	ours.do(ours.owner, few)
	_, err = Adopt(theirs.log, ours.log)
	check(t, err)
}

// Two valid logs of one room are evidence that anybody can check.
func TestFork(t *testing.T) {
	c := newCast(t)
	one, two := c.branch(), c.branch()
	one.do(one.owner, Remove{c.mod.Account})
	two.do(two.mod, Ban{c.member.Account}) // back-dated, for who saw the removal
	two.do(two.mod, Rotate{})
	if FindFork(c.log, one.log) != nil || FindFork(one.log, c.log) != nil || FindFork(one.log, one.log) != nil {
		t.Error("a fork where there is none")
	}
	fork := FindFork(one.log, two.log)
	if fork == nil || len(fork.Common) != len(c.log) || len(fork.Ours) != 1 || len(fork.Theirs) != 2 {
		t.Fatal("the fork is not found where it is")
	}
	check(t, fork.Check())
	if _, err := one.s.Extend(two.log[len(c.log):]...); !errors.Is(err, ErrPlace) {
		t.Errorf("the other branch on top of the own: %v", err)
	}
	if got := one.s.Judge(two.s.Epoch(), two.s.Seq(), two.s.Head()); got != Ahead {
		t.Errorf("their message: %v", got) // its epoch is newer than our log: fetching shows the fork
	}
	if got := two.s.Judge(one.s.Epoch(), one.s.Seq(), one.s.Head()); got != Forked {
		t.Errorf("our message, for them: %v", got)
	}

	b := fork.Marshal()
	back, err := ParseFork(b)
	check(t, err)
	if !bytes.Equal(back.Marshal(), b) {
		t.Error("evidence is not canonical")
	}
	for at := 0; at < len(b); at += 1 + len(b)/200 {
		bent := slices.Clone(b)
		bent[at] ^= 1
		if _, err := ParseFork(bent); err == nil {
			t.Errorf("evidence with byte %d changed is taken", at)
		}
	}
	for name, f := range map[string]*Fork{
		"one branch":       {fork.Common, fork.Ours, nil},
		"the same twice":   {fork.Common, fork.Ours, fork.Ours},
		"no beginning":     {nil, fork.Ours, fork.Theirs},
		"not where we are": {fork.Common[:3], fork.Ours, fork.Theirs},
		"not their log":    {fork.Common, fork.Ours, fork.Theirs[1:]},
		"swapped":          {fork.Common, fork.Ours, []Entry{fork.Theirs[1], fork.Theirs[0]}},
	} {
		if f.Check() == nil {
			t.Errorf("%s: taken as evidence", name)
		}
	}
}
