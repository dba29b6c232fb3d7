package room

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// SetRole promotes or demotes somebody below the author, up to the role below the
// author's; an owner also makes owners. What was given to or taken from the member
// alone is forgotten. Everybody may demote himself.
type SetRole struct {
	Account protocol.AccountID
	Role    Role // not RoleGuest; guests keep theirs
}

// SetMemberRights gives one member rights of its own, or mutes it.
type SetMemberRights struct {
	Account protocol.AccountID
	HasOwn  bool // else those of the role
	Own     Rights
	Muted   bool // takes Voice away for as long as it is set
}

// SetRoleRights changes what everybody of a role may who was given nothing else.
type SetRoleRights struct {
	Role   Role
	Rights Rights
}

func (SetRole) Kind() Kind         { return KindSetRole }
func (SetMemberRights) Kind() Kind { return KindSetMemberRights }
func (SetRoleRights) Kind() Kind   { return KindSetRoleRights }

func (o SetRole) body() []byte { return append(bytes.Clone(o.Account[:]), byte(o.Role)) }

// The flags of SetMemberRights.
const (
	flagOwn   = 1
	flagMuted = 2
)

func (o SetMemberRights) body() []byte {
	var flags byte
	if o.HasOwn {
		flags |= flagOwn
	}
	if o.Muted {
		flags |= flagMuted
	}
	return binary.BigEndian.AppendUint16(append(bytes.Clone(o.Account[:]), flags), uint16(o.Own))
}

func (o SetRoleRights) body() []byte {
	return binary.BigEndian.AppendUint16([]byte{byte(o.Role)}, uint16(o.Rights))
}

func parseSetRole(r *key.Reader) (Op, error) {
	o := SetRole{takeAccount(r), Role(r.Byte())}
	if !o.Role.valid() || o.Role == RoleGuest {
		return nil, fmt.Errorf("role %d", o.Role)
	}
	return o, nil
}

func parseSetMemberRights(r *key.Reader) (Op, error) {
	o := SetMemberRights{Account: takeAccount(r)}
	flags := r.Byte()
	o.HasOwn, o.Muted, o.Own = flags&flagOwn != 0, flags&flagMuted != 0, Rights(r.Uint16())
	if !AllRights.Has(o.Own) || (!o.HasOwn && o.Own != 0) {
		return nil, errors.New("rights that are none")
	}
	return o, nil
}

func parseSetRoleRights(r *key.Reader) (Op, error) {
	o := SetRoleRights{Role(r.Byte()), Rights(r.Uint16())}
	if !o.Role.valid() || o.Role == RoleOwner || !o.Role.most().Has(o.Rights) {
		return nil, fmt.Errorf("rights of role %d", o.Role)
	}
	return o, nil
}

func (o SetRole) apply(f *fold) error {
	if o.Account == f.e.Account {
		return o.stepDown(f)
	}
	if err := f.allowed(SetRights); err != nil {
		return err
	}
	m, err := f.below(o.Account)
	if err != nil {
		return err
	}
	switch {
	case m.Role == RoleGuest:
		return fmt.Errorf("%w: guests stay guests", ErrForbidden)
	case o.Role >= f.actor.Role && f.actor.Role != RoleOwner:
		return fmt.Errorf("%w: a %v makes no %v", ErrForbidden, f.actor.Role, o.Role)
	}
	return o.change(f, *m)
}

func (o SetRole) stepDown(f *fold) error {
	if o.Role > f.actor.Role {
		return fmt.Errorf("%w: nobody promotes himself", ErrForbidden)
	}
	if owners, _ := f.owners(); o.Role != RoleOwner && f.actor.Role == RoleOwner && owners == 1 {
		return ErrLastOwner
	}
	return o.change(f, *f.actor)
}

func (o SetRole) change(f *fold, m Member) error {
	if m.Role == o.Role {
		return ErrNoEffect
	}
	before := f.rightsOf(&m)
	m.Role, m.HasOwn, m.Own, m.Muted = o.Role, false, 0, false
	if err := f.passOn(before, f.rightsOf(&m)); err != nil {
		return err
	}
	f.put(m)
	return nil
}

func (o SetMemberRights) apply(f *fold) error {
	old, err := f.below(o.Account)
	if err != nil {
		return err
	}
	if !old.Role.most().Has(o.Own) {
		return fmt.Errorf("%w: too much for a %v", ErrForbidden, old.Role)
	}
	m := *old
	m.HasOwn, m.Own, m.Muted = o.HasOwn, o.Own, o.Muted
	if m.HasOwn == old.HasOwn && m.Own == old.Own && m.Muted == old.Muted {
		return ErrNoEffect
	}
	if err := f.passOn(f.rightsOf(old), f.rightsOf(&m)); err != nil {
		return err
	}
	f.put(m)
	return nil
}

func (o SetRoleRights) apply(f *fold) error {
	if o.Role >= f.actor.Role {
		return fmt.Errorf("%w: a %v over every %v", ErrForbidden, f.actor.Role, o.Role)
	}
	before := f.rights[o.Role]
	if before == o.Rights {
		return ErrNoEffect
	}
	if err := f.passOn(before, o.Rights); err != nil {
		return err
	}
	f.rights[o.Role] = o.Rights
	for id, m := range f.members {
		if m.Role == o.Role {
			f.touch(id)
		}
	}
	return nil
}
