package room

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
)

// lawful checks one entry against the rules, written down once more and otherwise
// than in the code: who came, went, rose or gained a right, and by whom.
func lawful(t tester, before, after *State, e Entry) {
	t.Helper()
	author, known := before.Member(e.Account)
	may := before.Rights(e.Account)
	_, joins := e.Op.(Join)
	if !known && !joins {
		t.Fatalf("%T by somebody who is not in the room", e.Op)
	}
	for _, m := range after.Members() {
		old, was := before.Member(m.Account)
		gained := after.Rights(m.Account) &^ before.Rights(m.Account)
		if !was {
			comesIn(t, before, e, m, may)
			continue
		}
		if gained != 0 && (m.Account == e.Account || !may.Has(SetRights|gained) || author.Role <= old.Role) {
			t.Fatalf("%T gave a %v the right to %v", e.Op, old.Role, gained)
		}
		if m.Role > old.Role && (author.Role != RoleOwner || m.Account == e.Account || old.Role == RoleGuest) {
			t.Fatalf("%T by a %v made a %v of a %v", e.Op, author.Role, m.Role, old.Role)
		}
		if m.Role == RoleGuest && after.Rights(m.Account)&^Access != 0 {
			t.Fatalf("%T made a guest govern: %v", e.Op, after.Rights(m.Account))
		}
	}
	for _, m := range before.Members() {
		if _, in := after.Member(m.Account); !in {
			goesOut(t, e, m, author, may)
		}
	}
	if owners(after) == 0 && after.hasRegulars() {
		t.Fatalf("%T left the room without an owner", e.Op)
	}
	if accessChanged(before, after) && after.Epoch() != e.Seq {
		t.Fatalf("%T changed who may do what without an epoch", e.Op)
	}
}

func comesIn(t tester, before *State, e Entry, m Member, may Rights) {
	t.Helper()
	if slices.Contains(before.Banned(), m.Account) || before.Locked() {
		t.Fatalf("%T let somebody in who is banned, or into a locked room", e.Op)
	}
	switch o := e.Op.(type) {
	case Join:
		if m.Account != e.Account || m.Role != RoleMember || (o.Link.IsZero() && !before.Invited(m.Account)) {
			t.Fatal("joined without an invitation, or as more than a member")
		}
	case GuestJoin:
		if !may.Has(Admit) || m.Role != RoleGuest || !before.Password().Open {
			t.Fatal("a guest came in otherwise than by the password")
		}
	default:
		t.Fatalf("%T let somebody in", e.Op)
	}
}

func goesOut(t tester, e Entry, m, author Member, may Rights) {
	t.Helper()
	switch o := e.Op.(type) {
	case Leave:
		if m.Account == e.Account {
			return
		}
	case SetPassword:
		if o.AskAgain && m.Role == RoleGuest && may.Has(Kick|SetRights) {
			return
		}
	case GuestExpire:
		if m.Role == RoleGuest && may.Has(Admit) && !e.Time.Before(m.Expires) {
			return
		}
	case Remove, Ban, Merge:
		if may.Has(Kick) && author.Role > m.Role {
			return
		}
	}
	t.Fatalf("%T by a %v with the right to %v put a %v out", e.Op, author.Role, may, m.Role)
}

func owners(s *State) (n int) {
	for _, m := range s.Members() {
		if m.Role == RoleOwner {
			n++
		}
	}
	return n
}

func (s *State) hasRegulars() bool {
	return slices.ContainsFunc(s.Members(), func(m Member) bool { return m.Role > RoleGuest })
}

func accessChanged(before, after *State) bool {
	access := func(s *State) string {
		list := map[protocol.DeviceID]Rights{}
		for _, m := range s.Members() {
			if may := s.Rights(m.Account) & Access; may != 0 {
				for _, d := range m.Devices() {
					list[d.ID] = may
				}
			}
		}
		return fmt.Sprint(list)
	}
	return access(before) != access(after)
}

// drawOp is any operation, sensible or not.
func drawOp(t *rapid.T, c *cast, s *State, by *person, people []*person) Op {
	who := rapid.SampledFrom(people).Draw(t, "target")
	id := who.Account
	rights := Rights(rapid.Uint16Range(0, uint16(AllRights)).Draw(t, "rights"))
	role := rapid.SampledFrom([]Role{RoleMember, RoleModerator, RoleOwner}).Draw(t, "role")
	flag := rapid.Bool().Draw(t, "flag")
	number := s.Password().Number
	own := SetMemberRights{Account: id, HasOwn: flag, Muted: rapid.Bool().Draw(t, "muted")}
	if flag {
		own.Own = rights
	}
	return rapid.SampledFrom([]Op{
		Invite{id}, Uninvite{id}, Link{c.link.Public(), start, 3}, Unlink{c.link.Public()},
		Join{Chain: by.chain.Bytes()}, c.signedInAs(t, by), Leave{}, Remove{id}, Remove{id}, Ban{id}, Unban{id},
		SetRole{id, role}, own, own, SetRoleRights{RoleMember, rights}, SetRoleRights{RoleGuest, rights & Access},
		SetRoleRights{RoleModerator, rights}, Lock{flag}, Describe{c.sealed(t)}, Rotate{},
		SetPassword{Number: number + 1, Open: true, AskAgain: flag, Secret: c.secret(t)}, SetPassword{Number: number + 1, AskAgain: flag},
		GuestJoin{Chain: who.chain.Bytes(), Password: number, Expires: start.Add(2 * time.Hour)},
		GuestRenew{id, start.Add(3 * time.Hour)}, GuestExpire{id},
		Merge{Common: 1, Seq: 2, Removed: []protocol.AccountID{id}},
	}).Draw(t, "op")
}

func (c *cast) signedInAs(t tester, who *person) Join {
	j, err := Join{Chain: who.chain.Bytes()}.SignIn(c.link, c.s.Room(), who.Account, who.Device)
	check(t, err)
	return j
}

func (c *cast) secret(t tester) Sealed {
	s, err := c.admit.SealPassword(c.s.Room(), [32]byte{3})
	check(t, err)
	return s
}

// writer is a member's device with what it has read of the log, and an entry that
// waits to be taken.
type writer struct {
	*person
	s       *State
	waiting *Entry
	base    *State
}

// Any order of racing authors ends in one log that all of them read alike, in which
// every entry is lawful; and what an author does not get through, he lost for a
// reason that he is told.
func TestRacingAuthorsConverge(t *testing.T) {
	from := newCast(t)
	people := append(from.everybody(), newPerson(t, "fresh"), newPerson(t, "fresh2"))
	rapid.Check(t, func(t *rapid.T) {
		c := from.branch()
		c.party.t = t
		var writers []*writer
		for _, p := range []*person{c.owner, c.owner2, c.mod, c.mod2, c.member, c.guest, c.invited, c.stranger, c.removed} {
			writers = append(writers, &writer{person: p, s: c.s})
		}
		read := func(w *writer) {
			s, err := w.s.Extend(c.log[w.s.Seq()+1:]...)
			check(t, err)
			w.s = s
		}
		submit := func(w *writer) {
			if w.waiting == nil {
				return
			}
			next, err := c.s.Extend(*w.waiting)
			if err == nil {
				lawful(t, c.s, next, *w.waiting)
				rightsStay(t, c.s, next, people)
				c.s, c.log, w.waiting = next, append(c.log, *w.waiting), nil
				return
			}
			if !errors.Is(err, ErrPlace) {
				t.Fatalf("what its author could write is refused: %v", err)
			}
			read(w)
			_, again, err := w.s.Rebase(start.Add(time.Hour), w.Author, *w.waiting, w.base)
			if err != nil {
				lostForAReason(t, w, err)
				w.waiting = nil
				return
			}
			w.waiting, w.base = &again, w.s
		}
		for range rapid.IntRange(20, 80).Draw(t, "steps") {
			w := rapid.SampledFrom(writers).Draw(t, "who")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0:
				read(w)
			case 1:
				submit(w)
			default:
				if w.waiting != nil {
					continue
				}
				if _, e, err := w.s.Write(start.Add(time.Hour), w.Author, drawOp(t, c, w.s, w.person, people)); err == nil {
					w.waiting, w.base = &e, w.s
				}
			}
		}
		for range 2 * len(writers) {
			for _, w := range writers {
				submit(w)
			}
		}
		c.reread()
		for _, w := range writers {
			if w.waiting != nil {
				t.Fatalf("%T never got through", w.waiting.Op)
			}
			read(w)
			if dump(w.s) != dump(c.s) {
				t.Fatalf("%s reads another room", w.name)
			}
		}
	})
}

// rightsStay checks that an entry changes what people might do only from itself on.
func rightsStay(t *rapid.T, before, after *State, people []*person) {
	t.Helper()
	for _, p := range people {
		if after.RightsAt(p.Account, before.Seq()) != before.Rights(p.Account) || after.RightsAt(p.Account, after.Seq()) != after.Rights(p.Account) {
			t.Fatalf("entry %d: %s might do something else than he may", after.Seq(), p.name)
		}
	}
}

// lostForAReason checks that an entry was given up because of what others wrote.
func lostForAReason(t *rapid.T, w *writer, err error) {
	t.Helper()
	reasons := []error{
		ErrNotMember, ErrForbidden, ErrNoEffect, ErrConflict, ErrFull, ErrLocked, ErrBarred, ErrNotInvited,
		ErrStalePassword, ErrStaleKey, ErrLastOwner,
	}
	if !slices.ContainsFunc(reasons, func(r error) bool { return errors.Is(err, r) }) {
		t.Fatalf("%T: %v", w.waiting.Op, err)
	}
	o, removal := w.waiting.Op.(Remove)
	if !removal {
		return
	}
	// A removal is lost only if there is nobody to remove, or its author may not any more.
	victim, in := w.s.Member(o.Account)
	me, still := w.s.Member(w.Account)
	if in && still && w.s.Rights(w.Account).Has(Kick) && me.Role > victim.Role {
		t.Fatalf("a removal lost to its victim: %v", err)
	}
}

func (c *cast) everybody() []*person {
	return []*person{
		c.owner, c.owner2, c.mod, c.mod2, c.member, c.member2, c.guest, c.guest2, c.invited, c.removed, c.banned, c.stranger,
	}
}

// Whatever is thrown at a log, by anybody: what is refused changes nothing, and what
// is taken is lawful and can be read back.
func TestAnyEntryIsLawful(t *testing.T) {
	from := newCast(t)
	people := append(from.everybody(), newPerson(t, "fresh"), newPerson(t, "fresh2"))
	rapid.Check(t, func(t *rapid.T) {
		c := from.branch()
		c.party.t = t
		for range rapid.IntRange(20, 60).Draw(t, "entries") {
			by := rapid.SampledFrom(slices.Concat(people, []*person{c.owner, c.mod, c.mod, c.mod2})).Draw(t, "who")
			before, was := c.s, dump(c.s)
			next, e, err := c.s.Write(start.Add(time.Hour), by.Author, drawOp(t, c, c.s, by, people))
			if dump(before) != was {
				t.Fatal("Write changed the old state")
			}
			if err != nil {
				continue
			}
			lawful(t, before, next, e)
			c.s, c.log = next, append(c.log, e)
		}
		c.reread()
	})
}

// Two halves of a room go on without each other, whatever they do. An owner who is
// one in both merges, and all are in one room again, from which everybody is gone
// whom either half removed.
func TestPartitionHeals(t *testing.T) {
	from := newCast(t)
	people := from.everybody()
	rapid.Check(t, func(t *rapid.T) {
		halves := [2]*cast{from.branch(), from.branch()}
		for i, c := range halves {
			c.party.t = t
			c.do(c.owner, Lock{true}) // neither half is without an entry
			c.do(c.owner, []Op{Lock{false}, Rotate{}}[i])
			for range rapid.IntRange(0, 15).Draw(t, "entries") {
				by := rapid.SampledFrom(slices.Concat(people, []*person{c.owner, c.mod, c.mod, c.mod2})).Draw(t, "who")
				if s, e, err := c.s.Write(start.Add(time.Hour), by.Author, drawOp(t, c, c.s, by, people)); err == nil {
					c.s, c.log = s, append(c.log, e)
				}
			}
		}
		ours, theirs := halves[0], halves[1]
		both := func(who *person) bool {
			a, _ := ours.s.Member(who.Account)
			b, _ := theirs.s.Member(who.Account)
			return a.Role == RoleOwner && b.Role == RoleOwner
		}
		merger := ours.owner
		if !both(merger) {
			merger = ours.owner2
		}
		if !both(merger) {
			return
		}
		o, err := NewMerge(ours.log, theirs.log)
		check(t, err)
		if slices.ContainsFunc(o.Removed, func(id protocol.AccountID) bool { m, _ := ours.s.Member(id); return m.Role == RoleOwner }) {
			return // removed there, made an owner here: people have to talk
		}
		ours.do(merger, o)
		got, err := Adopt(theirs.log, ours.log)
		check(t, err)
		if dump(got) != dump(ours.s) {
			t.Fatal("the halves are in two rooms")
		}
		for _, half := range halves {
			for id := range half.s.barred {
				if _, before := from.s.barred[id]; before {
					continue
				}
				if m, in := got.Member(id); in && m.Joined <= from.s.Seq() {
					t.Fatalf("%v was removed in one half and is in", id)
				}
			}
		}
	})
}
