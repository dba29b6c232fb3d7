package room

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// Merge ends a fork: the branch it stands in goes on, the one it names is given up.
// Members who hold that one change over by Adopt. What the other branch did is void,
// but for the accounts it removed, which the author names here.
type Merge struct {
	Common  uint64               // number of the last entry that the branches share
	Seq     uint64               // number of the newest entry of the other branch
	Head    [32]byte             // its hash
	Removed []protocol.AccountID // in ascending order; taken out as by Remove
}

// NewMerge is the Merge that gives up theirs for ours: what an owner, or each of two
// moderators, writes at the end of ours. The error wraps ErrNoEffect if there is no
// fork, or says what is wrong with the logs.
func NewMerge(ours, theirs []Entry) (Merge, error) {
	fork := FindFork(ours, theirs)
	if fork == nil {
		return Merge{}, fmt.Errorf("merge two logs: %w: there is no fork", ErrNoEffect)
	}
	base, mine, other, err := fork.fold()
	if err != nil {
		return Merge{}, fmt.Errorf("merge two logs: %w", err)
	}
	o := Merge{Common: base.Seq(), Seq: other.Seq(), Head: other.Head()}
	for id := range other.barred {
		_, before := base.barred[id]
		_, too := mine.barred[id]
		if !before && !too {
			o.Removed = append(o.Removed, id)
		}
	}
	if len(o.Removed) > MaxMembers { // then those only who have to go
		o.Removed = slices.DeleteFunc(o.Removed, func(id protocol.AccountID) bool { return mine.members[id] == nil })
	}
	slices.SortFunc(o.Removed, func(a, b protocol.AccountID) int { return bytes.Compare(a[:], b[:]) })
	return o, nil
}

func (Merge) Kind() Kind { return KindMerge }

func (o Merge) body() []byte {
	b := binary.BigEndian.AppendUint64(nil, o.Common)
	b = binary.BigEndian.AppendUint64(b, o.Seq)
	b = append(b, o.Head[:]...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(o.Removed)))
	for _, id := range o.Removed {
		b = append(b, id[:]...)
	}
	return b
}

func parseMerge(r *key.Reader) (Op, error) {
	o := Merge{Common: r.Uint64(), Seq: r.Uint64()}
	copy(o.Head[:], r.Take(32))
	n := int(r.Uint16())
	if n > MaxMembers || n*32 > r.Len() {
		return nil, fmt.Errorf("%d accounts", n)
	}
	for range n {
		id := takeAccount(r)
		if last := len(o.Removed) - 1; last >= 0 && bytes.Compare(o.Removed[last][:], id[:]) >= 0 {
			return nil, errors.New("accounts out of order")
		}
		o.Removed = append(o.Removed, id)
	}
	return o, nil
}

func (o Merge) apply(f *fold) error {
	if f.actor.Role < RoleModerator {
		return fmt.Errorf("%w: a %v merges nothing", ErrForbidden, f.actor.Role)
	}
	if o.Common >= f.e.Seq || o.Seq <= o.Common {
		return fmt.Errorf("%w: fork from entry %d to %d", ErrMalformed, o.Common, o.Seq)
	}
	if own, ok := f.At(o.Seq); ok && own == o.Head {
		return fmt.Errorf("%w: that entry is in this branch", ErrNoEffect)
	}
	for _, id := range o.Removed {
		if err := o.carryOver(f, id); err != nil {
			return err
		}
	}
	f.renewKeys() // keys of the other branch are not to be used any more
	return nil
}

func (o Merge) carryOver(f *fold, id protocol.AccountID) error {
	if f.barred[id].banned {
		return nil
	}
	if err := f.allowed(Kick); err != nil {
		return err
	}
	if f.members[id] != nil {
		if _, err := f.below(id); err != nil {
			return err
		}
	}
	return f.remove(id, false)
}

// Fork is two logs that begin alike and go on differently. Each is valid: whoever
// ordered the entries showed one to some members and the other to others. An entry
// that merely lost its race was never shown as part of the log: that somebody holds
// it as its head, a signed message says (see State.Judge).
type Fork struct {
	Common       []Entry // from the first entry on
	Ours, Theirs []Entry // what follows; at least one each
}

// FindFork compares two whole logs of one room; nil if one goes on where the other
// ends.
func FindFork(ours, theirs []Entry) *Fork {
	for i := range min(len(ours), len(theirs)) {
		if ours[i].Hash() != theirs[i].Hash() {
			return &Fork{ours[:i], ours[i:], theirs[i:]}
		}
	}
	return nil
}

// Check returns nil if both logs are valid and differ where it says.
func (f *Fork) Check() error {
	if len(f.Ours) == 0 || len(f.Theirs) == 0 || f.Ours[0].Hash() == f.Theirs[0].Hash() {
		return fmt.Errorf("%w: the logs do not differ", ErrMalformed)
	}
	_, _, _, err := f.fold()
	return err
}

// fold is the state where the logs part, and those at their ends.
func (f *Fork) fold() (base, ours, theirs *State, err error) {
	if base, err = Fold(f.Common); err != nil {
		return nil, nil, nil, err
	}
	if ours, err = base.Extend(f.Ours...); err != nil {
		return nil, nil, nil, err
	}
	if theirs, err = base.Extend(f.Theirs...); err != nil {
		return nil, nil, nil, err
	}
	return base, ours, theirs, nil
}

const (
	forkVersion = 1

	// MaxFork bounds the evidence of a fork, in bytes.
	MaxFork = 64 << 20
)

// Marshal returns the evidence: what anybody can check.
func (f *Fork) Marshal() []byte {
	b := []byte{forkVersion}
	for _, part := range [][]Entry{f.Common, f.Ours, f.Theirs} {
		b = binary.BigEndian.AppendUint32(b, uint32(len(part)))
		for _, e := range part {
			b = key.AppendLP(b, e.Bytes())
		}
	}
	return b
}

// IsFork tells that a file is meant to be evidence of a fork, and no text.
func IsFork(b []byte) bool { return len(b) > 0 && b[0] == forkVersion }

// ParseFork reads evidence and checks it.
func ParseFork(b []byte) (*Fork, error) {
	if len(b) > MaxFork {
		return nil, fmt.Errorf("%w: evidence of %d bytes", ErrMalformed, len(b))
	}
	r := key.NewReader(b)
	if v := r.Byte(); v != forkVersion {
		return nil, fmt.Errorf("%w: evidence of version %d", ErrMalformed, v)
	}
	f := &Fork{}
	for _, part := range []*[]Entry{&f.Common, &f.Ours, &f.Theirs} {
		for n := r.Uint32(); n > 0 && r.Len() > 0; n-- {
			e, err := ParseEntry(r.LP())
			if err != nil {
				return nil, err
			}
			*part = append(*part, e)
		}
	}
	if err := r.End(); err != nil || !bytes.Equal(f.Marshal(), b) {
		return nil, fmt.Errorf("%w evidence of a fork", ErrMalformed)
	}
	return f, f.Check()
}

// Adopt changes over from the log ours to theirs, which a Merge must allow that
// names the newest entry of ours. It takes an owner's, or those of two moderators:
// of accounts and devices that had that role where the logs part and have it in
// ours to the end, so that nobody undoes his own removal. And nobody whom ours
// removed may have outlived the merge. Who adopts a log adds, by Devices, the statements
// that ours had and theirs has not: a revoked device is back until then.
func Adopt(ours, theirs []Entry) (*State, error) {
	fork := FindFork(ours, theirs)
	if fork == nil {
		return nil, fmt.Errorf("adopt another log: %w: there is no fork", ErrNoEffect)
	}
	base, mine, next, err := fork.fold()
	if err != nil {
		return nil, fmt.Errorf("adopt another log: %w", err)
	}
	merged, ok := mergedBy(fork.Theirs, base, mine)
	if !ok {
		return nil, fmt.Errorf("adopt another log: %w: %w", ErrForbidden, ErrUnmerged)
	}
	for id := range mine.barred {
		m, in := next.members[id]
		if _, before := base.barred[id]; in && !before && m.Joined < merged {
			return nil, fmt.Errorf("adopt another log: %w: %w: %v was removed and is in it", ErrForbidden, ErrUnmerged, id)
		}
	}
	return next, nil
}

// mergedBy finds the entry with which a branch may replace mine.
func mergedBy(branch []Entry, base, mine *State) (seq uint64, ok bool) {
	moderators := map[protocol.AccountID]bool{}
	for _, e := range branch {
		o, is := e.Op.(Merge)
		if !is || o.Common != base.Seq() || o.Seq != mine.Seq() || o.Head != mine.Head() {
			continue
		}
		role := min(base.roleOf(e), mine.roleOf(e))
		if role == RoleModerator {
			moderators[e.Account] = true
		}
		if role == RoleOwner || len(moderators) == 2 {
			return e.Seq, true
		}
	}
	return 0, false
}

// roleOf is the role of an entry's author here; none, if not with that device.
func (s *State) roleOf(e Entry) Role {
	m, ok := s.members[e.Account]
	if !ok || !m.has(e.Device) {
		return 0
	}
	return m.Role
}
