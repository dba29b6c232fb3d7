package room

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// forge signs an entry that follows c.s but for what change does to it.
func (c *cast) forge(t tester, by Author, op Op, change func(*Entry)) Entry {
	t.Helper()
	e := Entry{Seq: c.s.Seq() + 1, Prev: c.s.Head(), Op: op, Account: by.Account, Device: by.Device, Time: start, room: c.s.Room()}
	change(&e)
	e, err := e.sign(by.Key)
	check(t, err)
	return e
}

// Entries that are well signed and yet not the next of this log.
func TestForgedEntries(t *testing.T) {
	c := newCast(t)
	other := newParty(t, c.owner)
	other.join(c.owner, c.mod)
	_, elsewhere, err := other.s.Write(start, c.owner.Author, Lock{true})
	check(t, err)
	phone := c.owner.addDevice(t, "phone")
	lock := Lock{true}
	bent := c.forge(t, c.mod.Author, lock, func(*Entry) {})
	bent.Op = Rotate{}
	for name, try := range map[string]struct {
		entry Entry
		want  error
	}{
		"another room":        {elsewhere, ErrPlace},
		"another room's id":   {c.forge(t, c.owner.Author, lock, func(e *Entry) { e.room[0] ^= 1 }), ErrPlace},
		"number repeated":     {c.forge(t, c.owner.Author, lock, func(e *Entry) { e.Seq-- }), ErrPlace},
		"number skipped":      {c.forge(t, c.owner.Author, lock, func(e *Entry) { e.Seq++ }), ErrPlace},
		"after another":       {c.forge(t, c.owner.Author, lock, func(e *Entry) { e.Prev = c.log[2].Hash() }), ErrPlace},
		"replayed":            {c.log[len(c.log)-1], ErrPlace},
		"the first again":     {c.log[0], ErrPlace},
		"empty":               {Entry{}, ErrPlace},
		"another's name":      {c.forge(t, c.mod.Author, lock, func(e *Entry) { e.Account = c.owner.Account }), ErrNotMember},
		"another's device":    {c.forge(t, c.mod.Author, lock, func(e *Entry) { e.Device = c.owner.Device }), ErrNotMember},
		"another's both":      {c.forge(t, c.mod.Author, lock, func(e *Entry) { e.Account, e.Device = c.owner.Account, c.owner.Device }), key.ErrSignature},
		"not in the log yet":  {c.forge(t, phone, lock, func(*Entry) {}), ErrNotMember},
		"changed once read":   {bent, key.ErrSignature},
		"nobody":              {c.forge(t, c.owner.Author, lock, func(e *Entry) { e.Account = protocol.AccountID{} }), ErrNotMember},
		"member, owner's key": {c.forge(t, Author{c.member.Account, c.member.Device, c.owner.Key}, lock, func(*Entry) {}), key.ErrSignature},
	} {
		before := dump(c.s)
		if _, err := c.s.Extend(try.entry); !errors.Is(err, try.want) {
			t.Errorf("%s: %v, want %v", name, err, try.want)
		}
		if dump(c.s) != before {
			t.Errorf("%s: changed the state", name)
		}
	}
	good := c.forge(t, c.owner.Author, lock, func(*Entry) {})
	bad := c.forge(t, c.owner.Author, Lock{false}, func(*Entry) {})
	if s, err := c.s.Extend(good, bad); s != nil || !errors.Is(err, ErrPlace) || c.s.Locked() {
		t.Errorf("a bad entry after a good one: %v", err)
	}
	if _, err := Open(good); !errors.Is(err, ErrPlace) {
		t.Errorf("a room that begins in the middle: %v", err)
	}
	if _, err := Fold(nil); !errors.Is(err, ErrMalformed) {
		t.Errorf("an empty log: %v", err)
	}
}

// Any flipped bit of any entry is found, at that entry.
func TestFlippedBits(t *testing.T) {
	c := newCast(t)
	base, err := Fold(c.log[:1])
	check(t, err)
	for i, e := range c.log[1:] {
		raw := e.Bytes()
		for at := 0; at < len(raw); at += 1 + len(raw)/40 {
			bent := slices.Clone(raw)
			bent[at] ^= 1 << (at % 8)
			back, err := ParseEntry(bent)
			if err == nil {
				_, err = base.Extend(back)
			}
			if err == nil {
				t.Errorf("entry %d with byte %d changed is taken", i+1, at)
			}
		}
		base, err = base.Extend(e)
		check(t, err)
	}
}

// The first entry is made by the account that it introduces.
func TestForgedFirstEntry(t *testing.T) {
	a, b := newPerson(t, "a"), newPerson(t, "b")
	now := start
	for name, try := range map[string]struct {
		by   Author
		op   Create
		want error
	}{
		"another's chain":  {a.Author, Create{Chain: b.chain.Bytes()}, ErrMalformed},
		"another's device": {Author{a.Account, b.Device, b.Key}, Create{Chain: a.chain.Bytes()}, ErrNotMember},
		"another's key":    {Author{a.Account, a.Device, b.Key}, Create{Chain: a.chain.Bytes()}, key.ErrSignature},
		"zero key":         {Author{a.Account, a.Device, key.DevicePrivate{}}, Create{Chain: a.chain.Bytes()}, key.ErrInvalid},
	} {
		if _, _, err := create(now, try.by, try.op); !errors.Is(err, try.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	one, _, err := NewRoom(now, a.Author, a.chain)
	check(t, err)
	two, _, err := NewRoom(now, a.Author, a.chain)
	check(t, err)
	if one.Room() == two.Room() {
		t.Error("two rooms have one name")
	}
}

// everyOp is one of every operation.
func everyOp(t tester, c *cast) []Op {
	sealed := c.sealed(t)
	id, id2 := newAccountID(1), newAccountID(2)
	ids := []protocol.AccountID{id, id2}
	slices.SortFunc(ids, func(a, b protocol.AccountID) int { return bytes.Compare(a[:], b[:]) })
	return []Op{
		Create{Salt: [32]byte{1}, Chain: c.owner.chain.Bytes()},
		Invite{id}, Uninvite{id}, Link{c.link.Public(), start, 7}, Unlink{c.link.Public()},
		Join{Chain: c.stranger.chain.Bytes()}, c.signedInNamed(t, sealed), Leave{}, Remove{id}, Ban{id}, Unban{id},
		SetRole{id, RoleModerator}, SetMemberRights{Account: id}, SetMemberRights{Account: id, HasOwn: true, Own: Read | Admit, Muted: true},
		SetRoleRights{RoleGuest, Read}, Lock{true}, Lock{false}, Describe{sealed},
		SetPassword{Number: 3}, SetPassword{Number: 4, Open: true, AskAgain: true, Secret: sealed},
		GuestJoin{Chain: c.guest.chain.Bytes(), Name: sealed, Password: 3, Expires: start}, GuestRenew{id, start}, GuestExpire{id},
		Devices{id, []byte{1, 2, 3}}, Rotate{}, Merge{Common: 1, Seq: 2, Head: [32]byte{3}}, Merge{Common: 1, Seq: 9, Removed: ids},
	}
}

func (c *cast) signedInNamed(t tester, name Sealed) Join {
	j, err := Join{Chain: c.stranger.chain.Bytes(), Name: name}.SignIn(c.link, c.s.Room(), c.stranger.Account, c.stranger.Device)
	check(t, err)
	return j
}

// encode makes the entry of an operation that need not be allowed.
func encode(t tester, by Author, op Op) []byte {
	t.Helper()
	e := Entry{Op: op, Account: by.Account, Device: by.Device, Time: start}
	if op.Kind() != KindCreate {
		e.Seq, e.room = 7, protocol.RoomID{7}
	}
	e, err := e.sign(by.Key)
	check(t, err)
	return e.Bytes()
}

func TestEntryRoundTrip(t *testing.T) {
	c := newCast(t)
	seen := map[Kind]bool{}
	for _, op := range everyOp(t, c) {
		b := encode(t, c.owner.Author, op)
		e, err := ParseEntry(b)
		check(t, err)
		if !bytes.Equal(e.Bytes(), b) || !bytes.Equal(append(e.unsigned(), b[len(b)-key.SignatureSize:]...), b) {
			t.Errorf("%T is not canonical", op)
		}
		if !bytes.Equal(e.Op.body(), op.body()) || e.Op.Kind() != op.Kind() || e.Device != c.owner.Device || !e.Time.Equal(start) {
			t.Errorf("%T came back as %+v", op, e)
		}
		check(t, e.verify(c.owner.Key.Public()))
		seen[op.Kind()] = true
		for n := range len(b) {
			if _, err := ParseEntry(b[:n]); !errors.Is(err, ErrMalformed) {
				t.Fatalf("%T cut to %d of %d bytes: %v", op, n, len(b), err)
			}
		}
		if _, err := ParseEntry(append(b, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%T with a byte more: %v", op, err)
		}
	}
	if len(seen) != len(parsers) {
		t.Errorf("%d of %d kinds", len(seen), len(parsers))
	}
}

// Bodies that have a meaning, but not a canonical one, or none.
func TestMalformedBodies(t *testing.T) {
	c := newCast(t)
	id := newAccountID(1)
	withID := func(b ...byte) []byte { return append(id[:], b...) }
	far := time.Unix(253402300800, 0)
	weak := make([]byte, 32)
	sealed := c.sealed(t)
	two := append(newAccountID2(1), newAccountID2(1)...)
	for name, try := range map[string]struct {
		kind Kind
		body []byte
	}{
		"leave with a body":       {KindLeave, []byte{0}},
		"short account":           {KindInvite, id[:31]},
		"weak link key":           {KindUnlink, weak},
		"link for nobody":         {KindLink, Link{c.link.Public(), start, 0}.body()},
		"link for too many":       {KindLink, Link{c.link.Public(), start, MaxUses + 1}.body()},
		"link for ever":           {KindLink, Link{c.link.Public(), far, 1}.body()},
		"lock 2":                  {KindLock, []byte{2}},
		"role 0":                  {KindSetRole, withID(0)},
		"role guest":              {KindSetRole, withID(byte(RoleGuest))},
		"role 5":                  {KindSetRole, withID(5)},
		"unknown flag":            {KindSetMemberRights, withID(4, 0, 0)},
		"unknown right":           {KindSetMemberRights, withID(1, 1, 0)},
		"rights without the flag": {KindSetMemberRights, withID(0, 0, 1)},
		"rights of owners":        {KindSetRoleRights, SetRoleRights{RoleOwner, Read}.body()},
		"guests that admit":       {KindSetRoleRights, SetRoleRights{RoleGuest, Admit}.body()},
		"role without a name":     {KindSetRoleRights, SetRoleRights{0, 0}.body()},
		"nothing described":       {KindDescribe, Describe{}.body()},
		"box too short":           {KindDescribe, Describe{Sealed{sealed.Key, sealed.Box[:27]}}.body()},
		"box too long":            {KindDescribe, Describe{Sealed{sealed.Key, string(make([]byte, gcmOverhead+MaxSealed+1))}}.body()},
		"open without a secret":   {KindSetPassword, SetPassword{Number: 1, Open: true}.body()},
		"closed with a secret":    {KindSetPassword, SetPassword{Number: 1, Secret: sealed}.body()},
		"password flag 4":         {KindSetPassword, []byte{0, 0, 0, 1, 4, 0, 0, 0, 0}},
		"joins by 2":              {KindJoin, append(key.AppendLP(key.AppendLP(nil, nil), nil), 2)},
		"joins by a zero link":    {KindJoin, append(append(key.AppendLP(key.AppendLP(nil, nil), nil), 1), make([]byte, 96)...)},
		"merge out of order":      {KindMerge, append(append(Merge{}.body()[:48], 0, 2), two...)},
		"merge of too many":       {KindMerge, append(Merge{}.body()[:48], 0xff, 0xff)},
		"merge without accounts":  {KindMerge, append(Merge{}.body()[:48], 0, 1)},
		"long account":            {KindBan, withID(0)},
	} {
		if op, err := parseOp(try.kind, try.body); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, op, err)
		}
	}

	head := encode(t, c.owner.Author, Leave{})
	for name, change := range map[string]func(b []byte){
		"year 10000":         func(b []byte) { b[len(b)-key.SignatureSize-8] = 1 },
		"first, but a leave": func(b []byte) { clear(b[2:42]) },
	} {
		b := slices.Clone(head)
		change(b)
		if _, err := ParseEntry(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, change := range map[string]func(b []byte){
		"version 2":    func(b []byte) { b[1] = 2 },
		"operation 0":  func(b []byte) { b[74] = 0 },
		"operation 23": func(b []byte) { b[74] = byte(KindMerge) + 1 },
	} {
		b := slices.Clone(head)
		change(b)
		if _, err := ParseEntry(b); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
	first := encode(t, c.owner.Author, Create{Chain: c.owner.chain.Bytes()})
	for name, at := range map[string]int{"a first entry with a room": 2, "with a number": 41, "with one before": 42} {
		b := slices.Clone(first)
		b[at] = 1
		if _, err := ParseEntry(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseEntry(make([]byte, MaxEntry+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("longer than any entry: %v", err)
	}
	if _, _, err := c.s.Write(far, c.owner.Author, Lock{true}); !errors.Is(err, ErrMalformed) {
		t.Errorf("written in the year 10000: %v", err)
	}
}

func newAccountID2(i int) []byte {
	id := newAccountID(i)
	return id[:]
}

func TestRightsAndRolesAsText(t *testing.T) {
	if got := (Read | Files | SetRights).String(); got != "read, files, set rights" {
		t.Error(got)
	}
	for r, want := range map[Role]string{RoleGuest: "guest", RoleMember: "member", RoleModerator: "moderator", RoleOwner: "owner", 0: "no role"} {
		if r.String() != want {
			t.Errorf("%d: %v", r, r)
		}
	}
}

// The room is as large as it says, and no larger.
func TestFullRoom(t *testing.T) {
	c := newCast(t)
	for i := len(c.s.members); i < MaxMembers-1; i++ {
		c.s.members[newAccountID(i)] = &Member{Account: newAccountID(i), Role: RoleMember, Chain: c.stranger.chain}
	}
	c.do(c.invited, Join{Chain: c.invited.chain.Bytes()})
	c.refuse(c.stranger, c.signedIn(t, c.stranger), ErrFull)
	c.refuse(c.mod, c.guestJoin(newPerson(t, "fresh")), ErrFull)

	c.do(c.mod, Unlink{c.link.Public()})
	for i := range MaxInvites {
		c.do(c.mod, Invite{newAccountID(-1 - i)})
		c.do(c.mod, Link{key.NewLink().Public(), start, 1})
	}
	c.refuse(c.mod, Invite{newAccountID(-1000)}, ErrFull)
	c.refuse(c.mod, Link{key.NewLink().Public(), start, 1}, ErrFull)
}
