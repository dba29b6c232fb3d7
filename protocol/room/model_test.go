package room

import (
	"slices"
	"testing"
)

// modelState is all that the small model knows: what each of three people is.
type modelState [3]modelPerson

type modelPerson struct {
	role        Role // 0: not in the room
	muted       bool
	kicked, ban bool
	invitedBy   int // 1 more than whose place; 0: nobody
}

// modelOp is an operation of person by on person on.
type modelOp struct {
	kind   Kind
	by, on int
	role   Role
	muted  bool
}

// modelOps are all of them.
func modelOps() (ops []modelOp) {
	for by := range 3 {
		ops = append(ops, modelOp{kind: KindLeave, by: by, on: by}, modelOp{kind: KindJoin, by: by, on: by})
		for on := range 3 {
			for _, kind := range []Kind{KindInvite, KindRemove, KindBan, KindUnban} {
				ops = append(ops, modelOp{kind: kind, by: by, on: on})
			}
			for role := RoleMember; role <= RoleOwner; role++ {
				ops = append(ops, modelOp{kind: KindSetRole, by: by, on: on, role: role})
			}
			for _, muted := range []bool{false, true} {
				ops = append(ops, modelOp{kind: KindSetMemberRights, by: by, on: on, muted: muted})
			}
		}
	}
	return ops
}

func (o modelOp) op(people []*person) Op {
	on := people[o.on]
	switch o.kind {
	case KindLeave:
		return Leave{}
	case KindJoin:
		return Join{Chain: on.chain.Bytes()}
	case KindInvite:
		return Invite{on.Account}
	case KindRemove:
		return Remove{on.Account}
	case KindBan:
		return Ban{on.Account}
	case KindUnban:
		return Unban{on.Account}
	case KindSetRole:
		return SetRole{on.Account, o.role}
	}
	return SetMemberRights{Account: on.Account, Muted: o.muted}
}

// do is what SPEC "Rooms" says of o, for three people with the rights of their roles.
func (s modelState) do(o modelOp) (next modelState, ok bool) {
	by, on := s[o.by], s[o.on]
	governs := by.role >= RoleModerator
	above := governs && on.role != 0 && by.role > on.role
	lastOwner := by.role == RoleOwner && s.count(RoleOwner, RoleOwner) == 1
	switch o.kind {
	case KindLeave:
		ok = by.role != 0 && !(lastOwner && s.count(RoleMember, RoleOwner) > 1)
		on = modelPerson{}
	case KindJoin:
		ok = on.role == 0 && on.invitedBy != 0
		on = modelPerson{role: RoleMember}
	case KindInvite:
		ok = governs && on.role == 0 && !on.ban && on.invitedBy == 0
		on.invitedBy = o.by + 1
	case KindRemove:
		ok = above
		on = modelPerson{kicked: true}
	case KindBan:
		ok = above || (governs && on.role == 0 && !on.ban)
		on = modelPerson{ban: true}
	case KindUnban:
		ok = governs && (on.kicked || on.ban)
		on.kicked, on.ban = false, false
	case KindSetRole:
		down := o.by == o.on && o.role < by.role && !lastOwner && !(by.muted)
		ok = down || (above && o.role != on.role && (o.role < by.role || by.role == RoleOwner) && s.gives(by, on, o.role, false))
		on.role, on.muted = o.role, false
	case KindSetMemberRights:
		ok = above && o.muted != on.muted && s.gives(by, on, on.role, o.muted)
		on.muted = o.muted
	}
	next = s
	next[o.on] = on
	return next.endPromises(), ok
}

// gives tells that by has what on gains.
func (s modelState) gives(by, on modelPerson, role Role, muted bool) bool {
	may := func(role Role, muted bool) Rights {
		r := newRoleRights()[role]
		if muted {
			r &^= Voice
		}
		return r
	}
	return may(by.role, by.muted).Has(may(role, muted) &^ may(on.role, on.muted))
}

func (s modelState) count(from, to Role) (n int) {
	for _, p := range s {
		if from <= p.role && p.role <= to {
			n++
		}
	}
	return n
}

// endPromises ends the invitations of who may not invite.
func (s modelState) endPromises() modelState {
	for i, p := range s {
		if p.invitedBy != 0 && s[p.invitedBy-1].role < RoleModerator {
			s[i].invitedBy = 0
		}
	}
	return s
}

// view is what the model would know of s.
func view(s *State, people []*person) (v modelState) {
	for i, p := range people {
		m, _ := s.Member(p.Account)
		barred, banned := s.Barred(p.Account), slices.Contains(s.Banned(), p.Account)
		v[i] = modelPerson{role: m.Role, muted: m.Muted, kicked: barred && !banned, ban: banned}
		for k, by := range people {
			if s.Invites()[p.Account] == by.Account {
				v[i].invitedBy = k + 1
			}
		}
	}
	return v
}

// TestModel tries every operation in every state that an owner and two moderators
// reach with six operations on each other, and compares with the model above.
func TestModel(t *testing.T) {
	people := []*person{newPerson(t, "owner"), newPerson(t, "a"), newPerson(t, "b")}
	p := newParty(t, people[0])
	p.join(people[0], people[1:]...)
	p.promote(people[0], RoleModerator, people[1:]...)

	first := view(p.s, people)
	states := map[modelState]*State{first: p.s}
	layer := []modelState{first}
	ops, taken, refused := modelOps(), 0, 0
	for depth := 0; depth < 6; depth++ {
		var next []modelState
		for _, at := range layer {
			for _, o := range ops {
				want, ok := at.do(o)
				s, _, err := states[at].Write(start, people[o.by].Author, o.op(people))
				if ok != (err == nil) {
					t.Fatalf("%+v in %+v: %v", o, at, err)
				}
				if err != nil {
					refused++
					continue
				}
				taken++
				if got := view(s, people); got != want {
					t.Fatalf("%+v in %+v leads to %+v, want %+v", o, at, got, want)
				}
				if states[want] == nil {
					states[want] = s
					next = append(next, want)
				}
			}
		}
		layer = next
	}
	if len(states) < 300 || taken < 2_500 || refused < 20_000 {
		t.Errorf("only %d states, %d entries taken and %d refused", len(states), taken, refused)
	}
	t.Logf("%d states, %d entries taken, %d refused", len(states), taken, refused)
}

// TestModelOfForks is every pair of short branches of a room of an owner and two
// moderators, each with every way to merge it: who holds one changes over exactly if
// an owner or two moderators said so, who are that where the branches part and at the
// end of the one given up.
func TestModelOfForks(t *testing.T) {
	people := []*person{newPerson(t, "owner"), newPerson(t, "a"), newPerson(t, "b")}
	p := newParty(t, people[0])
	p.join(people[0], people[1:]...)
	p.promote(people[0], RoleModerator, people[1:]...)
	base := p.s
	var steps []modelOp
	for _, o := range modelOps() {
		if o.kind == KindRemove || o.kind == KindLeave || (o.kind == KindSetRole && o.role != RoleModerator) {
			steps = append(steps, o)
		}
	}
	type branch struct {
		s   *State
		log []Entry
	}
	grow := func(from branch, by *person, op Op) (branch, bool) {
		s, e, err := from.s.Write(start, by.Author, op)
		return branch{s, append(from.log[:len(from.log):len(from.log)], e)}, err == nil
	}
	root := branch{base, p.log}
	mines := []branch{}
	for _, o := range steps {
		one, ok := grow(root, people[o.by], o.op(people))
		if !ok {
			continue
		}
		mines = append(mines, one)
		for _, o := range steps {
			if two, ok := grow(one, people[o.by], o.op(people)); ok {
				mines = append(mines, two)
			}
		}
	}
	adopted, kept := 0, 0
	for _, mine := range mines {
		merge := Merge{Common: base.Seq(), Seq: mine.s.Seq(), Head: mine.s.Head()}
		for mergers := range 1 << len(people) {
			theirs, _ := grow(root, people[0], Lock{true})
			owners, moderators := 0, 0
			for i, by := range people {
				if mergers&(1<<i) == 0 {
					continue
				}
				var ok bool
				if theirs, ok = grow(theirs, by, merge); !ok {
					t.Fatal("could not merge")
				}
				m, _ := mine.s.Member(by.Account)
				switch was, _ := base.Member(by.Account); min(was.Role, m.Role) {
				case RoleOwner:
					owners++
				case RoleModerator:
					moderators++
				}
			}
			undone := false
			for _, by := range people {
				undone = undone || mine.s.Barred(by.Account)
			}
			_, err := Adopt(mine.log, theirs.log)
			if want := (owners > 0 || moderators > 1) && !undone; want != (err == nil) {
				t.Fatalf("merged by %03b, %d owners and %d moderators, removals undone %v: %v", mergers, owners, moderators, undone, err)
			}
			if err == nil {
				adopted++
			} else {
				kept++
			}
		}
	}
	if adopted < 50 || kept < 50 {
		t.Errorf("only %d adopted and %d kept", adopted, kept)
	}
	t.Logf("%d branches, %d adopted, %d kept", len(mines), adopted, kept)
}
