package room

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

// Create is the first entry of a log. Its author becomes the owner.
type Create struct {
	Salt  [32]byte // random: two rooms are two
	Chain []byte   // of the author's account
}

// Invite lets an account join, also one that was removed before. It ends when the
// author leaves or loses the right to admit.
type Invite struct{ Account protocol.AccountID }

// Uninvite takes an invitation back.
type Uninvite struct{ Account protocol.AccountID }

// Link lets in whoever has the private half of Key. Who orders the log refuses it
// after Expires, see State.CheckTime; for members it ends with Unlink, after Uses,
// or when the author leaves or loses the right to admit.
type Link struct {
	Key     key.LinkPublic
	Expires time.Time
	Uses    uint16 // 1 to MaxUses
}

// Unlink ends a link.
type Unlink struct{ Key key.LinkPublic }

// Join brings the author in, as a member. It takes an invitation by name, or a link.
type Join struct {
	Chain []byte // of the author's account
	Name  Sealed // may be empty
	Link  key.LinkPublic
	Proof [key.SignatureSize]byte // by the link's key; zero, as Link, for an invitation by name
}

// Leave takes the author out.
type Leave struct{}

// Remove takes somebody out. The account comes back only if it is invited by name.
type Remove struct{ Account protocol.AccountID }

// Ban takes somebody out and keeps the account out until Unban. It may name an
// account that is not in the room.
type Ban struct{ Account protocol.AccountID }

// Unban lets an account be invited again.
type Unban struct{ Account protocol.AccountID }

// Devices adds statements to a member's chain, and so changes the member's devices.
// The statements are signed by the account itself: any member may pass them on, so
// that a stolen device loses the room also while its owner has no other one online;
// and so may a new device that they certify, about itself.
type Devices struct {
	Account    protocol.AccountID
	Statements []byte // as they follow in the encoded chain
}

func (Create) Kind() Kind   { return KindCreate }
func (Invite) Kind() Kind   { return KindInvite }
func (Uninvite) Kind() Kind { return KindUninvite }
func (Link) Kind() Kind     { return KindLink }
func (Unlink) Kind() Kind   { return KindUnlink }
func (Join) Kind() Kind     { return KindJoin }
func (Leave) Kind() Kind    { return KindLeave }
func (Remove) Kind() Kind   { return KindRemove }
func (Ban) Kind() Kind      { return KindBan }
func (Unban) Kind() Kind    { return KindUnban }
func (Devices) Kind() Kind  { return KindDevices }

func (o Create) body() []byte   { return key.AppendLP(bytes.Clone(o.Salt[:]), o.Chain) }
func (o Invite) body() []byte   { return o.Account[:] }
func (o Uninvite) body() []byte { return o.Account[:] }
func (o Unlink) body() []byte   { return o.Key.Bytes() }
func (o Leave) body() []byte    { return nil }
func (o Remove) body() []byte   { return o.Account[:] }
func (o Ban) body() []byte      { return o.Account[:] }
func (o Unban) body() []byte    { return o.Account[:] }
func (o Devices) body() []byte  { return key.AppendLP(bytes.Clone(o.Account[:]), o.Statements) }

func (o Link) body() []byte {
	return binary.BigEndian.AppendUint16(key.AppendTime(o.Key.Bytes(), o.Expires), o.Uses)
}

func (o Join) body() []byte {
	b := key.AppendLP(nil, o.Chain)
	b = o.Name.append(b)
	if o.Link.IsZero() {
		return append(b, 0)
	}
	b = append(b, 1)
	b = append(b, o.Link.Bytes()...)
	return append(b, o.Proof[:]...)
}

func parseCreate(r *key.Reader) (Op, error) {
	var o Create
	copy(o.Salt[:], r.Take(32))
	o.Chain = bytes.Clone(r.LP())
	return o, nil
}

func parseLink(r *key.Reader) (Op, error) {
	k, err := takeLinkKey(r)
	if err != nil {
		return nil, err
	}
	o := Link{k, r.Time(), r.Uint16()}
	if !key.ValidTime(o.Expires) || o.Uses == 0 || o.Uses > MaxUses {
		return nil, fmt.Errorf("link for %d uses", o.Uses)
	}
	return o, nil
}

func parseJoin(r *key.Reader) (Op, error) {
	o := Join{Chain: bytes.Clone(r.LP())}
	var err error
	if o.Name, err = takeSealed(r); err != nil {
		return nil, err
	}
	if r.Byte() == 0 {
		return o, nil
	}
	if o.Link, err = takeLinkKey(r); err != nil {
		return nil, err
	}
	copy(o.Proof[:], r.Take(key.SignatureSize))
	return o, nil
}

func parseDevices(r *key.Reader) (Op, error) {
	return Devices{takeAccount(r), bytes.Clone(r.LP())}, nil
}

func (o Create) apply(f *fold) error {
	m, err := introduce(o.Chain)
	if err != nil {
		return err
	}
	if m.Account != f.e.Account {
		return fmt.Errorf("%w: the chain of another account", ErrMalformed)
	}
	if err := f.signedBy(&m); err != nil {
		return err
	}
	m.Role = RoleOwner
	f.put(m)
	f.newEpoch = true
	return nil
}

func (o Invite) apply(f *fold) error {
	switch {
	case f.members[o.Account] != nil, f.Invited(o.Account):
		return ErrNoEffect
	case f.barred[o.Account].banned:
		return ErrBarred
	case len(f.invites) >= MaxInvites:
		return fmt.Errorf("%w: %d invitations", ErrFull, len(f.invites))
	}
	f.invites[o.Account] = f.e.Account
	return nil
}

func (o Uninvite) apply(f *fold) error {
	if _, ok := f.invites[o.Account]; !ok {
		return ErrNoEffect
	}
	delete(f.invites, o.Account)
	return nil
}

func (o Link) apply(f *fold) error {
	if _, ok := f.links[o.Key]; ok {
		return ErrNoEffect
	}
	if len(f.links) >= MaxInvites {
		return fmt.Errorf("%w: %d links", ErrFull, len(f.links))
	}
	f.links[o.Key] = OpenLink{o.Key, f.e.Account, o.Expires, o.Uses}
	return nil
}

func (o Unlink) apply(f *fold) error {
	if _, ok := f.links[o.Key]; !ok {
		return ErrNoEffect
	}
	delete(f.links, o.Key)
	return nil
}

func (o Join) apply(f *fold) error {
	if err := f.enter(f.e.Account); err != nil {
		return err
	}
	if err := o.useInvitation(f); err != nil { // before the chain, which costs more
		return err
	}
	m, err := introduce(o.Chain)
	if err != nil {
		return err
	}
	if m.Account != f.e.Account {
		return fmt.Errorf("%w: the chain of another account", ErrMalformed)
	}
	if err := f.signedBy(&m); err != nil {
		return err
	}
	if err := f.seal(o.Name); err != nil {
		return err
	}
	m.Role, m.Joined, m.Name = RoleMember, f.e.Seq, o.Name
	f.put(m)
	return nil
}

// useInvitation checks what lets the author in, and uses it up.
func (o Join) useInvitation(f *fold) error {
	if o.Link.IsZero() {
		if !f.Invited(f.e.Account) {
			return ErrNotInvited
		}
		delete(f.invites, f.e.Account)
		delete(f.barred, f.e.Account) // who was removed is invited again
		return nil
	}
	l, ok := f.links[o.Link]
	if !ok {
		return ErrNotInvited
	}
	if _, barred := f.barred[f.e.Account]; barred {
		return ErrBarred
	}
	if err := verifyLink(o.Link, o.Proof[:], f.State.room, f.e.Account, f.e.Device); err != nil {
		return err
	}
	if l.Uses--; l.Uses == 0 {
		delete(f.links, o.Link)
	} else {
		f.links[o.Link] = l
	}
	return nil
}

func (o Leave) apply(f *fold) error {
	if owners, regulars := f.owners(); f.actor.Role == RoleOwner && owners == 1 && regulars > 1 {
		return ErrLastOwner
	}
	f.drop(f.e.Account)
	return nil
}

func (o Remove) apply(f *fold) error {
	if f.members[o.Account] == nil {
		return ErrNoEffect
	}
	if _, err := f.below(o.Account); err != nil {
		return err
	}
	return f.remove(o.Account, false)
}

func (o Ban) apply(f *fold) error {
	if f.barred[o.Account].banned {
		return ErrNoEffect
	}
	if f.members[o.Account] != nil {
		if _, err := f.below(o.Account); err != nil {
			return err
		}
	}
	return f.remove(o.Account, true)
}

// remove takes an account out and keeps it out.
func (f *fold) remove(id protocol.AccountID, ban bool) error {
	f.drop(id)
	delete(f.invites, id)
	f.barred[id] = bar{ban, f.e.Seq}
	banned := 0
	for _, b := range f.barred {
		if b.banned {
			banned++
		}
	}
	if banned > MaxBanned {
		return fmt.Errorf("%w: %d banned accounts", ErrFull, MaxBanned)
	}
	if len(f.barred)-banned > MaxKicked {
		f.forgetOldest()
	}
	return nil
}

// forgetOldest forgets who was removed first and not banned, and of several that one
// entry removed the first account: guests make accounts at will.
func (f *fold) forgetOldest() {
	var oldest protocol.AccountID
	first := uint64(math.MaxUint64)
	for id, b := range f.barred {
		if !b.banned && (b.seq < first || (b.seq == first && bytes.Compare(id[:], oldest[:]) < 0)) {
			oldest, first = id, b.seq
		}
	}
	delete(f.barred, oldest)
}

func (o Unban) apply(f *fold) error {
	if _, ok := f.barred[o.Account]; !ok {
		return ErrNoEffect
	}
	delete(f.barred, o.Account)
	return nil
}

func (o Devices) apply(f *fold) error {
	if f.actor.Role == RoleGuest {
		return fmt.Errorf("%w: a guest vouches for nobody", ErrForbidden)
	}
	m := f.members[o.Account]
	if m == nil {
		return fmt.Errorf("%v: %w", o.Account, ErrNotMember)
	}
	if m.Role == RoleGuest {
		return fmt.Errorf("%w: a guest has one device", ErrForbidden)
	}
	if len(o.Statements) == 0 {
		return ErrNoEffect
	}
	changed, err := o.extend(m)
	if err != nil {
		return err
	}
	f.put(changed)
	return nil
}

// extend is a member with the statements.
func (o Devices) extend(m *Member) (Member, error) {
	chain, err := account.ParseChain(slices.Concat(m.Chain.Bytes(), o.Statements))
	if err != nil {
		return Member{}, fmt.Errorf("statements of %v: %w", o.Account, err)
	}
	return m.withChain(chain), nil
}
