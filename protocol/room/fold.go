package room

import (
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

// fold is one entry on its way into a State.
type fold struct {
	*State
	e        Entry
	actor    *Member                        // the author; nil in Create and Join
	touched  map[protocol.AccountID]*Member // as they were before the entry; nil: not in the room
	newEpoch bool
}

// apply folds one entry into s, which is worthless after an error.
func (s *State) apply(e Entry) error {
	if err := s.checkPlace(e); err != nil {
		return err
	}
	f := &fold{State: s, e: e, touched: map[protocol.AccountID]*Member{}}
	if err := f.authenticate(); err != nil {
		return err
	}
	if want := takes[e.Op.Kind()]; want != 0 {
		if err := f.allowed(want); err != nil {
			return err
		}
	}
	if err := e.Op.apply(f); err != nil {
		return err
	}
	s.head = &place{e.Seq, e.Hash(), s.head}
	if len(f.touched) > 0 {
		f.settle()
		f.endPromises()
	}
	if f.newEpoch {
		s.epochs = append(s.epochs, s.head)
	}
	return nil
}

// endPromises ends the invitations and links of whoever left, or may not admit any
// more. They stay ended when the author may again.
func (f *fold) endPromises() {
	for who, by := range f.invites {
		if !f.Rights(by).Has(Admit) {
			delete(f.invites, who)
		}
	}
	for k, l := range f.links {
		if !f.Rights(l.By).Has(Admit) {
			delete(f.links, k)
		}
	}
}

func (s *State) checkPlace(e Entry) error {
	if s.head == nil { // Open looked at it
		return nil
	}
	if e.Op == nil || e.room != s.room || e.Seq != s.head.seq+1 || e.Prev != s.head.hash {
		return ErrPlace
	}
	return nil
}

// authenticate finds the author and checks the signature. Who creates a room or
// joins it is not known to the log yet: those operations do it themselves.
func (f *fold) authenticate() error {
	switch f.e.Op.(type) {
	case Create, Join:
		return nil
	}
	f.actor = f.members[f.e.Account]
	if f.actor == nil {
		return fmt.Errorf("author %v: %w", f.e.Account, ErrNotMember)
	}
	if o, is := f.e.Op.(Devices); is && o.Account == f.e.Account && !f.actor.has(f.e.Device) {
		m, err := o.extend(f.actor) // a new device brings itself in
		if err != nil {
			return err
		}
		return f.signedBy(&m)
	}
	return f.signedBy(f.actor)
}

func (f *fold) signedBy(m *Member) error {
	d, ok := m.device(f.e.Device)
	if !ok {
		return fmt.Errorf("device %v of the author: %w", f.e.Device, ErrNotMember)
	}
	return f.e.verify(d.Cert.Signing)
}

// introduce reads the chain of an account that comes in, and with it the devices.
func introduce(chain []byte) (Member, error) {
	c, err := account.ParseChain(chain)
	if err != nil {
		return Member{}, fmt.Errorf("statement chain: %w", err)
	}
	return Member{Account: c.Account()}.withChain(c), nil
}

// allowed checks that the author has rights.
func (f *fold) allowed(want Rights) error {
	if missing := want &^ f.rightsOf(f.actor); missing != 0 {
		return fmt.Errorf("%w: it takes the right to %v", ErrForbidden, missing)
	}
	return nil
}

// below finds a member who stands below the author: nobody acts on his equals.
func (f *fold) below(id protocol.AccountID) (*Member, error) {
	m := f.members[id]
	if m == nil {
		return nil, fmt.Errorf("%v: %w", id, ErrNotMember)
	}
	if m.Role >= f.actor.Role {
		return nil, fmt.Errorf("%w: %v does not stand above %v", ErrForbidden, f.actor.Role, m.Role)
	}
	return m, nil
}

// passOn checks that the author has every right that somebody gains by the entry.
func (f *fold) passOn(before, after Rights) error {
	if gained := after &^ before; !f.rightsOf(f.actor).Has(gained) {
		return fmt.Errorf("%w: nobody passes on the right to %v without it", ErrForbidden, gained&^f.rightsOf(f.actor))
	}
	return nil
}

// enter checks that an account may come in.
func (f *fold) enter(id protocol.AccountID) error {
	switch {
	case f.members[id] != nil:
		return ErrNoEffect
	case f.locked:
		return ErrLocked
	case len(f.members) >= MaxMembers:
		return fmt.Errorf("%w: %d members", ErrFull, len(f.members))
	}
	return nil
}

// put brings a member in, or replaces it.
func (f *fold) put(m Member) {
	f.touch(m.Account)
	f.members[m.Account] = &m
}

// drop takes a member out.
func (f *fold) drop(id protocol.AccountID) {
	f.touch(id)
	delete(f.members, id)
}

func (f *fold) touch(id protocol.AccountID) {
	if _, ok := f.touched[id]; !ok {
		f.touched[id] = f.members[id]
	}
}

// seal checks what an entry sealed. A key that is not the present one becomes it.
func (f *fold) seal(text Sealed) error {
	switch {
	case text.IsZero():
	case text.Key != f.key:
		f.key, f.keySeq = text.Key, f.e.Seq
	case !f.sealingKeyHolds():
		return ErrStaleKey
	}
	return nil
}

// owners counts the owners, and the members who are not guests.
func (f *fold) owners() (owners, regulars int) {
	for _, m := range f.members {
		if m.Role == RoleOwner {
			owners++
		}
		if m.Role > RoleGuest {
			regulars++
		}
	}
	return owners, regulars
}

// verifyLink checks that the holder of a link let an account's device in.
func verifyLink(k key.LinkPublic, sig []byte, room protocol.RoomID, acc protocol.AccountID, dev protocol.DeviceID) error {
	return k.Verify(labelLink, sig, room[:], acc[:], dev[:])
}
