package room

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// SetPassword changes how guests come in, or closes that way. Guests who are in
// stay, unless AskAgain: then they are out until they know the new one.
type SetPassword struct {
	Number   uint32 // one more than the last, so that of two changes one loses
	Open     bool
	AskAgain bool
	Secret   Sealed // empty unless Open
}

// GuestJoin lets a guest in who knew the password. The author vouches for that. The
// guest is its key: what happens to its rights or its connection later does not
// touch that.
type GuestJoin struct {
	Chain    []byte    // of an account that is made for this: its genesis and one device, without a name
	Name     Sealed    // may be empty
	Password uint32    // number of the password that the guest knew
	Expires  time.Time // at most MaxGuestStay after the entry's time
}

// GuestRenew lets a guest stay longer, without asking it anything.
type GuestRenew struct {
	Account protocol.AccountID
	Expires time.Time // at most MaxGuestStay after the entry's time
}

// GuestExpire takes a guest out whose time is over. It may come back by the
// password, as the same guest.
type GuestExpire struct{ Account protocol.AccountID }

func (SetPassword) Kind() Kind { return KindSetPassword }
func (GuestJoin) Kind() Kind   { return KindGuestJoin }
func (GuestRenew) Kind() Kind  { return KindGuestRenew }
func (GuestExpire) Kind() Kind { return KindGuestExpire }

// The flags of SetPassword.
const (
	flagOpen     = 1
	flagAskAgain = 2
)

func (o SetPassword) body() []byte {
	var flags byte
	if o.Open {
		flags |= flagOpen
	}
	if o.AskAgain {
		flags |= flagAskAgain
	}
	return o.Secret.append(append(binary.BigEndian.AppendUint32(nil, o.Number), flags))
}

func (o GuestJoin) body() []byte {
	b := o.Name.append(key.AppendLP(nil, o.Chain))
	return key.AppendTime(binary.BigEndian.AppendUint32(b, o.Password), o.Expires)
}

func (o GuestRenew) body() []byte {
	return key.AppendTime(bytes.Clone(o.Account[:]), o.Expires)
}

func (o GuestExpire) body() []byte { return o.Account[:] }

func parseSetPassword(r *key.Reader) (Op, error) {
	o := SetPassword{Number: r.Uint32()}
	flags := r.Byte()
	o.Open, o.AskAgain = flags&flagOpen != 0, flags&flagAskAgain != 0
	var err error
	if o.Secret, err = takeSealed(r); err != nil {
		return nil, err
	}
	if o.Open == o.Secret.IsZero() {
		return nil, errors.New("a password that is open without a secret, or the other way round")
	}
	return o, nil
}

func parseGuestJoin(r *key.Reader) (Op, error) {
	o := GuestJoin{Chain: bytes.Clone(r.LP())}
	var err error
	o.Name, err = takeSealed(r)
	o.Password, o.Expires = r.Uint32(), r.Time()
	return o, err
}

func (o SetPassword) apply(f *fold) error {
	if o.AskAgain {
		if err := f.allowed(Kick); err != nil {
			return err
		}
	}
	switch {
	case o.Number != f.password.Number+1:
		return ErrStalePassword
	case !o.Open && !o.AskAgain && !f.password.Open:
		return ErrNoEffect
	case o.Open && o.Secret.Key == f.key:
		return fmt.Errorf("%w: every reader has it", ErrStaleKey)
	}
	f.password = Password{o.Number, o.Open, o.Secret}
	if o.AskAgain {
		for id, m := range f.members {
			if m.Role == RoleGuest {
				f.drop(id)
			}
		}
	}
	return nil
}

func (o GuestJoin) apply(f *fold) error {
	m, err := introduce(o.Chain)
	if err != nil {
		return err
	}
	if err := f.enter(m.Account); err != nil {
		return err
	}
	if _, barred := f.barred[m.Account]; barred {
		return ErrBarred
	}
	if !f.password.Open || o.Password != f.password.Number {
		return ErrStalePassword
	}
	if len(m.devices) != 1 {
		return fmt.Errorf("%w: a guest has one device", ErrForbidden)
	}
	if err := f.checkStay(o.Expires); err != nil {
		return err
	}
	if err := f.seal(o.Name); err != nil {
		return err
	}
	m.Role, m.Joined, m.Name, m.Password, m.Expires = RoleGuest, f.e.Seq, o.Name, o.Password, o.Expires
	f.put(m)
	return nil
}

// checkStay bounds how long the author lets a guest stay. It compares two times
// that the author chose, so everybody gets the same answer.
func (f *fold) checkStay(expires time.Time) error {
	if stay := expires.Sub(f.e.Time); stay <= 0 || stay > MaxGuestStay {
		return fmt.Errorf("%w: a guest's stay of %v", ErrForbidden, stay)
	}
	return nil
}

func (f *fold) guest(id protocol.AccountID) (*Member, error) {
	m := f.members[id]
	if m == nil || m.Role != RoleGuest {
		return nil, fmt.Errorf("guest %v: %w", id, ErrNotMember)
	}
	return m, nil
}

func (o GuestRenew) apply(f *fold) error {
	old, err := f.guest(o.Account)
	if err != nil {
		return err
	}
	if err := f.checkStay(o.Expires); err != nil {
		return err
	}
	if !o.Expires.After(old.Expires) {
		return ErrNoEffect
	}
	m := *old
	m.Expires = o.Expires
	f.put(m)
	return nil
}

func (o GuestExpire) apply(f *fold) error {
	m := f.members[o.Account]
	if m == nil {
		return ErrNoEffect
	}
	if m.Role != RoleGuest {
		return fmt.Errorf("%w: only guests expire", ErrForbidden)
	}
	if f.e.Time.Before(m.Expires) {
		return fmt.Errorf("%w: the guest may stay until %v", ErrForbidden, m.Expires)
	}
	f.drop(o.Account)
	return nil
}
