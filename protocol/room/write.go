package room

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

// Author is a device that writes entries.
type Author struct {
	Account protocol.AccountID
	Device  protocol.DeviceID
	Key     key.DevicePrivate
}

// NewRoom writes the first entry of a new room, and folds it. The chain is of the
// author's account.
func NewRoom(now time.Time, by Author, chain *account.Chain) (*State, Entry, error) {
	o := Create{Chain: chain.Bytes()}
	rand.Read(o.Salt[:]) // crashes the program rather than fail
	return create(now, by, o)
}

func create(now time.Time, by Author, o Create) (*State, Entry, error) {
	e, err := Entry{Op: o, Account: by.Account, Device: by.Device, Time: key.Seconds(now)}.sign(by.Key)
	if err != nil {
		return nil, Entry{}, fmt.Errorf("create room: %w", err)
	}
	s, err := Open(e)
	if err != nil {
		return nil, Entry{}, err
	}
	return s, e, nil
}

// Write makes the next entry, and folds it. Errors are those of Extend: who may not
// do it cannot write it. The entry counts once whoever orders the log has taken it.
func (s *State) Write(now time.Time, by Author, op Op) (*State, Entry, error) {
	e := Entry{
		Seq: s.head.seq + 1, Prev: s.head.hash, Op: op,
		Account: by.Account, Device: by.Device, Time: key.Seconds(now), room: s.room,
	}
	e, err := e.sign(by.Key)
	if err != nil {
		return nil, Entry{}, fmt.Errorf("write to the room's log: %w", err)
	}
	next := s.clone()
	if err := next.apply(e); err != nil { // as Extend, without the number that only we know
		return nil, Entry{}, err
	}
	return next, e, nil
}

// Rebase writes again, on top of s, an entry that its author wrote on top of base and
// that lost its place to others. Errors are those of Write, where ErrNoEffect says
// that there is nothing left to do; and ErrConflict: somebody changed the same rights
// meanwhile, and to write it again would give what the author did not mean to.
func (s *State) Rebase(now time.Time, by Author, e Entry, base *State) (*State, Entry, error) {
	if hash, ok := s.At(e.Seq); ok && hash == e.Hash() {
		return nil, Entry{}, fmt.Errorf("entry %d: %w: it is in the log", e.Seq, ErrNoEffect)
	}
	meant, err := base.Extend(e)
	if err != nil {
		return nil, Entry{}, err
	}
	next, again, err := s.Write(now, by, e.Op)
	if err != nil {
		return nil, Entry{}, err
	}
	if gained(s, next, e.Op)&^gained(base, meant, e.Op) != 0 {
		return nil, Entry{}, fmt.Errorf("entry %d: %w", e.Seq, ErrConflict)
	}
	return next, again, nil
}

// gained is what the target of a change of rights may after it and not before.
func gained(before, after *State, op Op) Rights {
	switch o := op.(type) {
	case SetRole:
		return after.Rights(o.Account) &^ before.Rights(o.Account)
	case SetMemberRights:
		return after.Rights(o.Account) &^ before.Rights(o.Account)
	case SetRoleRights:
		return after.rights[o.Role] &^ before.rights[o.Role]
	}
	return 0
}

// SignIn fills in a Join by a link: the holder of its private half signs in the
// device that will join.
func (o Join) SignIn(link key.LinkPrivate, room protocol.RoomID, acc protocol.AccountID, dev protocol.DeviceID) (Join, error) {
	sig, err := link.Sign(labelLink, room[:], acc[:], dev[:])
	if err != nil {
		return Join{}, fmt.Errorf("sign in by a link: %w", err)
	}
	o.Link, o.Proof = link.Public(), [key.SignatureSize]byte(sig)
	return o, nil
}

// SignsIn returns the link into the room that signs a device in, by the proof of its
// Join. Not ok: it has no uses left, or the proof is another's. See OpenLink.Expires.
func (s *State) SignsIn(link key.LinkPublic, proof []byte, acc protocol.AccountID, dev protocol.DeviceID) (l OpenLink, ok bool) {
	l, ok = s.links[link]
	return l, ok && verifyLink(link, proof, s.room, acc, dev) == nil
}

// CheckTime is for whoever orders the log and has a clock: it refuses, with
// ErrNotInvited, who joins by a link whose time is over. Members do not ask: the log
// they fold is valid or not, whatever the time.
func (s *State) CheckTime(e Entry, now time.Time) error {
	if o, ok := e.Op.(Join); ok && !o.Link.IsZero() && now.After(s.links[o.Link].Expires) {
		return fmt.Errorf("link: %w: its time is over", ErrNotInvited)
	}
	return nil
}
