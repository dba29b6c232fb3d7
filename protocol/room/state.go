package room

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

// State is what a room's log says up to one entry. It is immutable, and so safe for
// concurrent use: what adds entries returns another State.
type State struct {
	room    protocol.RoomID
	head    *place
	epochs  []*place // the entries that began one, oldest first
	lost    uint64   // newest entry by which a device may not read any more what it could
	members map[protocol.AccountID]*Member
	devices map[protocol.DeviceID]*record // all that ever could do something
	powers  map[protocol.AccountID]*span  // what all who ever were in the room might do
	invites map[protocol.AccountID]protocol.AccountID
	links   map[key.LinkPublic]OpenLink
	barred  map[protocol.AccountID]bar
	rights  [RoleOwner + 1]Rights
	locked  bool

	about    Sealed
	key      KeyID // with which texts may be sealed, unless keySeq is at or before lost
	keySeq   uint64
	password Password
}

// place is an entry's place in the log. Places are shared by the states before and
// after them.
type place struct {
	seq    uint64
	hash   [32]byte
	before *place
}

// Member is somebody in the room.
type Member struct {
	Account protocol.AccountID
	Role    Role
	Joined  uint64         // number of the entry
	Name    Sealed         // empty if none was given
	Chain   *account.Chain // as far as the room's log has it

	HasOwn bool   // Own counts, and not the rights of the role
	Own    Rights // given to this member
	Muted  bool

	Password uint32    // RoleGuest: number of the password that was known
	Expires  time.Time // RoleGuest: then the guest has to be let in again

	devices []Device
}

// Device is a device of a member: the room's log is where the others know it from.
type Device struct {
	ID   protocol.DeviceID
	Cert account.Cert // which may be past its NotAfter; the log knows no clock
}

// Devices returns the devices that the member's chain certifies.
func (m Member) Devices() []Device { return slices.Clone(m.devices) }

// withChain returns m with another chain.
func (m Member) withChain(c *account.Chain) Member {
	m.Chain, m.devices = c, nil
	for _, cert := range c.Standing() {
		m.devices = append(m.devices, Device{cert.DeviceID(), cert})
	}
	return m
}

func (m Member) device(id protocol.DeviceID) (Device, bool) {
	i := slices.IndexFunc(m.devices, func(d Device) bool { return d.ID == id })
	if i < 0 {
		return Device{}, false
	}
	return m.devices[i], true
}

// OpenLink is a link into the room that can still be used.
type OpenLink struct {
	Key     key.LinkPublic
	By      protocol.AccountID
	Expires time.Time
	Uses    uint16 // that are left
}

// bar keeps an account out.
type bar struct {
	banned bool // and not only removed
	seq    uint64
}

// Password says how guests come in.
type Password struct {
	Number uint32 // counts the changes; 0: there never was one
	Open   bool   // guests come in by it
	Secret Sealed // see SealPassword
}

// Open folds the first entry of a log.
func Open(first Entry) (*State, error) {
	if first.Seq != 0 || first.Op == nil {
		return nil, fmt.Errorf("open room: %w", ErrPlace)
	}
	s := &State{
		room: first.Room(), rights: newRoleRights(),
		members: map[protocol.AccountID]*Member{}, devices: map[protocol.DeviceID]*record{}, powers: map[protocol.AccountID]*span{},
		invites: map[protocol.AccountID]protocol.AccountID{}, links: map[key.LinkPublic]OpenLink{},
		barred: map[protocol.AccountID]bar{},
	}
	if err := s.apply(first); err != nil {
		return nil, fmt.Errorf("open room: %w", err)
	}
	return s, nil
}

// Fold folds a whole log.
func Fold(log []Entry) (*State, error) {
	if len(log) == 0 {
		return nil, fmt.Errorf("fold room log: %w: it is empty", ErrMalformed)
	}
	s, err := Open(log[0])
	if err != nil {
		return nil, err
	}
	return s.Extend(log[1:]...)
}

// Refold folds a log whose newest entry is known, by its hash, to have been folded
// before: the hashes show that it is the same log, and so the signatures of its entries,
// most of the work, are not checked again. The error wraps ErrPlace for another log.
func Refold(log []Entry, head [32]byte) (*State, error) {
	if len(log) == 0 || log[len(log)-1].Hash() != head {
		return nil, fmt.Errorf("fold room log: it does not end with %x: %w", head, ErrPlace)
	}
	log = slices.Clone(log)
	for i := range log {
		log[i].known = true
	}
	return Fold(log)
}

// Extend folds entries onto the log. Each must be the next one, signed by a device
// of its author, who must have had the right to do what it does. One that is wrong
// makes all of them worthless. Errors wrap one of those of this package, those of
// account, or key.ErrSignature.
func (s *State) Extend(entries ...Entry) (*State, error) {
	next := s.clone()
	for _, e := range entries {
		if err := next.apply(e); err != nil {
			return nil, fmt.Errorf("entry %d of the room's log: %w", e.Seq, err)
		}
	}
	return next, nil
}

// clone returns a State that apply may change. What its maps hold is never changed,
// only replaced.
func (s *State) clone() *State {
	next := *s
	next.epochs = slices.Clip(s.epochs) // so that two branches do not append to one array
	next.members = maps.Clone(s.members)
	next.devices = maps.Clone(s.devices)
	next.powers = maps.Clone(s.powers)
	next.invites = maps.Clone(s.invites)
	next.links = maps.Clone(s.links)
	next.barred = maps.Clone(s.barred)
	return &next
}

// Room names the room.
func (s *State) Room() protocol.RoomID { return s.room }

// Seq is the number of the newest entry; the first has 0.
func (s *State) Seq() uint64 { return s.head.seq }

// Head is the hash of the newest entry.
func (s *State) Head() [32]byte { return s.head.hash }

// At returns the hash of the entry with a number.
func (s *State) At(seq uint64) (hash [32]byte, ok bool) {
	for p := s.head; p != nil; p = p.before {
		if p.seq == seq {
			return p.hash, true
		}
	}
	return [32]byte{}, false
}

// Member returns somebody in the room.
func (s *State) Member(id protocol.AccountID) (Member, bool) {
	m, ok := s.members[id]
	if !ok {
		return Member{}, false
	}
	return *m, true
}

// Device returns a device of somebody in the room.
func (s *State) Device(id protocol.DeviceID) (Device, bool) {
	a, _, _ := s.AccountOf(id)
	m, _ := s.Member(a)
	return m.device(id)
}

// Members returns everybody in the room: highest role first, then who came first.
func (s *State) Members() []Member {
	var all []Member
	for _, m := range s.members {
		all = append(all, *m)
	}
	slices.SortFunc(all, func(a, b Member) int {
		return cmp.Or(cmp.Compare(b.Role, a.Role), cmp.Compare(a.Joined, b.Joined), bytes.Compare(a.Account[:], b.Account[:]))
	})
	return all
}

// PeerTaken tells whether somebody else who is in the room has a device with this libp2p
// identity. The fold does not look at it: who lets an account in does.
func (s *State) PeerTaken(by protocol.AccountID, peerID []byte) bool {
	for id, m := range s.members {
		for _, d := range m.devices {
			if id != by && bytes.Equal(d.Cert.PeerID, peerID) {
				return true
			}
		}
	}
	return false
}

// DeviceSince returns the number of the entry since when a device could do something in
// the room, for the first time; 0 also for one that never could.
func (s *State) DeviceSince(id protocol.DeviceID) uint64 {
	r := s.devices[id]
	if r == nil {
		return 0
	}
	first := r.newest
	for first.before != nil {
		first = first.before
	}
	return first.seq
}

// Rights returns what an account may: nothing, if it is not in the room.
func (s *State) Rights(id protocol.AccountID) Rights {
	m, ok := s.members[id]
	if !ok {
		return 0
	}
	return s.rightsOf(m)
}

func (s *State) rightsOf(m *Member) Rights {
	r := s.rights[m.Role]
	if m.HasOwn {
		r = m.Own
	}
	if m.Muted {
		r &^= Voice
	}
	return r
}

// RoleRights returns what members of a role may who were given nothing else.
func (s *State) RoleRights(r Role) Rights {
	if !r.valid() {
		return 0
	}
	return s.rights[r]
}

// Locked tells that nobody comes in.
func (s *State) Locked() bool { return s.locked }

// Barred tells that an account was removed, or banned.
func (s *State) Barred(id protocol.AccountID) bool {
	_, barred := s.barred[id]
	return barred
}

// Invited tells that an account may join because a member invited it by name.
func (s *State) Invited(id protocol.AccountID) bool {
	_, ok := s.invites[id]
	return ok
}

// Invites returns who is invited by name, and by whom.
func (s *State) Invites() map[protocol.AccountID]protocol.AccountID { return maps.Clone(s.invites) }

// Links returns the links into the room that have uses left, those first that end
// first.
func (s *State) Links() []OpenLink {
	return slices.SortedFunc(maps.Values(s.links), func(a, b OpenLink) int {
		return cmp.Or(a.Expires.Compare(b.Expires), bytes.Compare(a.Key.Bytes(), b.Key.Bytes()))
	})
}

// Link returns the link of a key; not ok if it has no uses left.
func (s *State) Link(k key.LinkPublic) (l OpenLink, ok bool) {
	l, ok = s.links[k]
	return l, ok
}

// Banned returns the accounts that only Unban lets in again, in the order in which they
// were banned.
func (s *State) Banned() []protocol.AccountID {
	var ids []protocol.AccountID
	for id, b := range s.barred {
		if b.banned {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(a, b protocol.AccountID) int { return cmp.Compare(s.barred[a].seq, s.barred[b].seq) })
	return ids
}

// Password returns how guests come in.
func (s *State) Password() Password { return s.password }

// About returns the room's name and topic, sealed; empty if it never had any. See
// OpenAbout.
func (s *State) About() Sealed { return s.about }

// SealingKey names the key to seal with. Not ok: there is none, or a former member
// may know it, and a new one has to be made and given to the readers.
func (s *State) SealingKey() (id KeyID, ok bool) { return s.key, s.sealingKeyHolds() }

func (s *State) sealingKeyHolds() bool { return s.key != KeyID{} && s.keySeq > s.lost }

// Keys names the keys that who reads the room's texts needs: of its name and topic
// and of the members' names. That of the password is for those who admit, see
// Password.
func (s *State) Keys() []KeyID {
	set := map[KeyID]bool{}
	for _, m := range s.members {
		set[m.Name.Key] = true
	}
	set[s.about.Key] = true
	delete(set, KeyID{})
	return slices.SortedFunc(maps.Keys(set), func(a, b KeyID) int { return bytes.Compare(a[:], b[:]) })
}
