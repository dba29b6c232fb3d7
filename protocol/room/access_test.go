package room

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

// Which entries begin an epoch, and which of them take something from a reader.
func TestEpochs(t *testing.T) {
	c := newCast(t)
	c.member.addDevice(t, "phone")
	phone := c.member.news(c.s)
	const none, gain, loss = 0, 1, 2
	for _, step := range []struct {
		name string
		by   *person
		op   Op
		want int
	}{
		{"invite", c.mod, Invite{newAccountID(1)}, none},
		{"uninvite", c.mod, Uninvite{newAccountID(1)}, none},
		{"ban somebody outside", c.mod, Ban{newAccountID(1)}, none},
		{"unban", c.mod, Unban{newAccountID(1)}, none},
		{"link", c.mod, Link{key.NewLink().Public(), start, 1}, none},
		{"lock", c.mod, Lock{true}, none},
		{"unlock", c.mod, Lock{false}, none},
		{"describe", c.mod, Describe{c.sealed(t)}, none},
		{"password", c.mod, c.nextPassword(t, false), none},
		{"right to admit", c.mod, SetMemberRights{Account: c.member2.Account, HasOwn: true, Own: Access | Admit}, none},
		{"join", c.invited, Join{Chain: c.invited.chain.Bytes()}, gain},
		{"device", c.member2, phone, gain},
		{"mute", c.mod, SetMemberRights{Account: c.member.Account, Muted: true}, gain},
		{"unmute", c.mod, SetMemberRights{Account: c.member.Account}, gain},
		{"files for guests", c.mod, SetRoleRights{RoleGuest, Access}, gain},
		{"no reading for one", c.mod, SetMemberRights{Account: c.member.Account, HasOwn: true, Own: Send}, loss},
		{"no reading for guests", c.mod, SetRoleRights{RoleGuest, 0}, loss},
		{"promotion of who reads", c.owner, SetRole{c.member2.Account, RoleModerator}, none},
		{"no right to admit", c.owner, SetMemberRights{Account: c.member2.Account, HasOwn: true, Own: AllRights &^ (Admit | SetRights)}, none},
		{"no right to rename", c.owner, SetMemberRights{Account: c.member2.Account, HasOwn: true, Own: Access | Kick}, gain},
		{"demotion of who may kick", c.owner, SetRole{c.member2.Account, RoleMember}, gain},
		{"no right to kick for moderators", c.owner, SetRoleRights{RoleModerator, AllRights &^ Kick}, gain},
		{"right to kick for moderators", c.owner, SetRoleRights{RoleModerator, AllRights}, none},
		{"rotate", c.mod, Rotate{}, loss},
		{"merge", c.mod, Merge{Common: 1, Seq: 2}, loss},
		{"leave", c.invited, Leave{}, loss},
		{"remove", c.mod, Remove{c.guest.Account}, none}, // it could not read
		{"ban", c.owner, Ban{c.mod2.Account}, loss},
	} {
		before := c.s.Epoch()
		c.do(step.by, step.op)
		if began := c.s.Epoch() == c.s.Seq(); began != (step.want != none) || (!began && c.s.Epoch() != before) {
			t.Errorf("%s: epoch %d at entry %d", step.name, c.s.Epoch(), c.s.Seq())
		}
		if (c.s.lost > before) != (step.want == loss) {
			t.Errorf("%s: lost %v", step.name, c.s.lost > before)
		}
	}
	c.reread()
}

// A member's devices are what the account signed, whoever brings the news, and
// nothing else. A revoked one is out from its own epoch on.
func TestDevices(t *testing.T) {
	c := newCast(t)
	phone := c.member.addDevice(t, "phone")
	before := c.s.Epoch()
	c.do(c.member2, c.member.news(c.s))
	added := c.s.Epoch()
	if c.s.May(phone.Device, before, Read) || !c.s.May(phone.Device, added, Access) {
		t.Error("the new device is not in from its epoch on")
	}
	c.doFrom(phone, Devices{c.member.Account, c.renewal(t, c.member)})
	if c.s.Epoch() != added {
		t.Error("a renewed certificate began an epoch")
	}

	c.member.revoke(t, c.member.Device)
	c.do(c.member2, c.member.news(c.s)) // its owner has nothing online
	gone := c.s.Epoch()
	if !c.s.May(c.member.Device, added, Send) || c.s.May(c.member.Device, gone, Send) || !c.s.May(phone.Device, gone, Send) {
		t.Error("the revoked device is not out from its epoch on")
	}
	if acc, signing, ok := c.s.AccountOf(c.member.Device); !ok || acc != c.member.Account || signing != c.member.Key.Public() {
		t.Error("who wrote before is not known any more")
	}
	c.refuse(c.member, Leave{}, ErrNotMember)
	c.doFrom(phone, Leave{})
	c.refuseFrom(phone, Leave{}, ErrNotMember)
	if len(c.s.Readers()) != 9-2 {
		t.Errorf("%d readers", len(c.s.Readers()))
	}
	c.reread()
}

// A new device brings itself in, also one of a recovered account, of which no other is
// left. It brings nothing else before, and nobody else's devices.
func TestDeviceBringsItselfIn(t *testing.T) {
	c := newCast(t)
	old := c.member.Author
	phone := c.member.addDevice(t, "phone")
	news := c.member.news(c.s)
	c.refuseFrom(phone, Leave{}, ErrNotMember)
	other := c.member2.addDevice(t, "phone")
	c.refuseFrom(other, news, ErrNotMember)
	c.refuseFrom(phone, c.member2.news(c.s), ErrNotMember)
	c.refuseFrom(phone, Devices{Account: c.member.Account}, ErrNotMember)
	torn := Devices{c.member.Account, slices.Clone(news.Statements)}
	torn.Statements[len(torn.Statements)-1] ^= 1
	c.refuseFrom(phone, torn, key.ErrSignature)
	c.doFrom(phone, news)

	c.member.revoke(t, old.Device)
	c.member.revoke(t, phone.Device)
	last := c.member.addDevice(t, "new laptop")
	c.doFrom(last, c.member.news(c.s))
	if !c.s.May(last.Device, c.s.Epoch(), Access) || c.s.May(phone.Device, c.s.Epoch(), Read) {
		t.Error("not the devices that the account has")
	}
	c.refuseFrom(phone, Leave{}, ErrNotMember)
	c.refuseFrom(c.guest.addDevice(t, "phone"), c.guest.news(c.s), ErrForbidden)
	c.reread()
}

// renewal is the statement that renews a person's last device.
func (c *cast) renewal(t *testing.T, p *person) []byte {
	t.Helper()
	standing := p.chain.Standing()
	cert := standing[len(standing)-1]
	cert.NotAfter = cert.NotAfter.AddDate(1, 0, 0)
	cert, err := account.NewCert(p.aik, cert)
	check(t, err)
	old := len(p.chain.Bytes())
	p.chain, err = p.chain.AddDevice(start, p.aik, cert)
	check(t, err)
	return p.chain.Bytes()[old:]
}

// No ghost: a device that the account did not sign into this very chain is not
// taken, whoever brings it.
func TestGhostDevices(t *testing.T) {
	c := newCast(t)
	thief := newPerson(t, "member") // the same keys as member: what a thief of a device has
	thief.addDevice(t, "ghost")
	ghost := thief.news(c.s)

	forged := Devices{c.member2.Account, ghost.Statements} // of another account
	c.refuse(c.owner, forged, account.ErrMalformed)
	torn := Devices{c.member.Account, slices.Clone(ghost.Statements)}
	torn.Statements[len(torn.Statements)-1] ^= 1
	c.refuse(c.owner, torn, key.ErrSignature)
	c.refuse(c.owner, Devices{c.member.Account, c.member.chain.Bytes()}, account.ErrMalformed) // again from the start
	c.refuse(c.owner, Devices{c.stranger.Account, ghost.Statements}, ErrNotMember)
	c.refuse(c.stranger, ghost, ErrNotMember)

	// The owner's own statement is in the log: a branch of the chain does not follow.
	c.member.addDevice(t, "phone")
	c.do(c.member, c.member.news(c.s))
	c.refuse(c.owner, ghost, account.ErrMalformed)

	// And where the thief was first: removal and a new invitation bring the true chain.
	c = newCast(t)
	c.do(c.mod, ghost)
	c.refuse(c.mod, c.member.news2(t, "phone"), account.ErrMalformed)
	c.do(c.mod, Remove{c.member.Account})
	c.do(c.mod, Invite{c.member.Account})
	c.do(c.member, Join{Chain: c.member.chain.Bytes()})
	if m, _ := c.s.Member(c.member.Account); len(m.Devices()) != 2 || !slices.ContainsFunc(m.Devices(), func(d Device) bool { return d.Cert.Name == "phone" }) {
		t.Error("the true chain did not come in")
	}
	c.reread()
}

// news2 adds a device and returns the statement that does.
func (p *person) news2(t *testing.T, name string) Devices {
	t.Helper()
	old := len(p.chain.Bytes())
	p.addDevice(t, name)
	return Devices{p.Account, p.chain.Bytes()[old:]}
}

// A closed account keeps its place until somebody removes it, without any device.
func TestClosedAccount(t *testing.T) {
	c := newCast(t)
	old := len(c.member.chain.Bytes())
	var err error
	c.member.chain, err = c.member.chain.Close(start, c.member.aik)
	check(t, err)
	c.do(c.member2, Devices{c.member.Account, c.member.chain.Bytes()[old:]})
	c.refuse(c.member, Leave{}, ErrNotMember)
	if m, in := c.s.Member(c.member.Account); !in || len(m.Devices()) != 0 {
		t.Error("devices of a closed account")
	}
	c.do(c.mod, Remove{c.member.Account})
	c.reread()
}

func TestMay(t *testing.T) {
	c := newCast(t)
	epoch := c.s.Epoch()
	c.do(c.mod, Lock{true})
	for name, try := range map[string]struct {
		device protocol.DeviceID
		epoch  uint64
		rights Rights
		want   bool
	}{
		"member":                  {c.member.Device, epoch, Access, true},
		"guest sends files":       {c.guest.Device, epoch, Files, false},
		"not an epoch":            {c.member.Device, epoch + 1, Send, false},
		"not yet":                 {c.member.Device, epoch + 2, Send, false},
		"before it came":          {c.member.Device, 0, Read, false},
		"stranger":                {c.stranger.Device, epoch, Read, false},
		"nothing to do with keys": {c.owner.Device, epoch, Kick, false},
		"removed":                 {c.removed.Device, epoch, Read, false},
		"nothing asked":           {c.removed.Device, epoch, 0, true},
	} {
		if may := c.s.May(try.device, try.epoch, try.rights); may != try.want {
			t.Errorf("%s: %v", name, may)
		}
	}
}

// What a message says of its author's log is judged by epoch, number and hash.
func TestJudge(t *testing.T) {
	c := newCast(t)
	old := c.s.Epoch()
	c.do(c.mod, Lock{true})
	lock := c.s
	c.do(c.mod, Remove{c.member.Account})
	removal := c.s
	c.do(c.mod, Lock{false})
	here, epoch := c.s, c.s.Epoch()
	c.do(c.mod, Lock{true})
	sameEpoch := c.s
	c.do(c.mod, Remove{c.member2.Account})
	later := c.s
	fork := func(s *State, op Op) *State { return must(s.Extend(must2(s.Write(start, c.owner.Author, op)))) }
	other := fork(removal, Rotate{})   // an epoch where we have none
	longer := fork(other, Lock{false}) // and longer than ours
	quiet := fork(removal, Unban{c.banned.Account})

	for _, try := range []struct {
		name  string
		epoch uint64
		of    *State
		want  Verdict
	}{
		{"the newest", epoch, here, Fits},
		{"older, in this epoch", epoch, removal, Fits},
		{"the end of the epoch before", old, lock, Fits},
		{"an old log", old, must(Fold(c.log[:old+1])), Fits},
		{"newer, in this epoch", epoch, sameEpoch, Ahead},
		{"newer, in a new epoch", later.Epoch(), later, Ahead},
		{"newer, in a past epoch", old, later, Forked},
		{"this epoch, an entry before it", epoch, lock, Forked},
		{"a past epoch, the newest entry", old, here, Forked},
		{"no epoch of ours", here.Seq(), here, Forked},
		{"a branch with another epoch", other.Epoch(), other, Forked},
		{"a longer branch with another epoch", longer.Epoch(), longer, Forked},
		{"a branch in this epoch", epoch, quiet, Forked},
	} {
		if got := here.Judge(try.epoch, try.of.Seq(), try.of.Head()); got != try.want {
			t.Errorf("%s: %d, want %d", try.name, got, try.want)
		}
	}
	for name, v := range map[string]Verdict{
		"another hash":           here.Judge(epoch, here.Seq(), [32]byte{1}),
		"another, in the past":   here.Judge(old, lock.Seq(), [32]byte{1}),
		"another first entry":    here.Judge(0, 0, [32]byte{1}),
		"an epoch after its end": here.Judge(here.Seq()+1, here.Seq(), here.Head()),
	} {
		if v != Forked {
			t.Errorf("%s: %d", name, v)
		}
	}
	if got := later.Judge(quiet.Epoch(), quiet.Seq(), quiet.Head()); got != Forked {
		t.Errorf("a branch, seen from a later log: %d", got)
	}
}

func must2(_ *State, e Entry, err error) Entry { return must(e, err) }

// Who lost what he might do with messages is demoted for what he says with a log of before,
// and not for more.
func TestDemoted(t *testing.T) {
	c := newCast(t)
	before := c.s.Seq()
	c.do(c.owner, SetRole{c.mod.Account, RoleMember})
	demoted := c.s.Seq()
	c.do(c.owner, SetMemberRights{Account: c.member.Account, HasOwn: true, Own: Read | React})
	c.do(c.owner, SetMemberRights{Account: c.mod2.Account, HasOwn: true, Own: AllRights &^ (Admit | SetRights)})
	c.do(c.owner, SetRole{c.member2.Account, RoleModerator})
	c.do(c.owner, Remove{c.guest.Account})
	for name, try := range map[string]struct {
		by   Author
		seq  uint64
		want bool
	}{
		"a moderator, before":        {c.mod.Author, before, true},
		"a moderator, after":         {c.mod.Author, demoted, false},
		"who may not write any more": {c.member.Author, before, true},
		"who may not admit any more": {c.mod2.Author, before, false},
		"who became a moderator":     {c.member2.Author, before, false},
		"who is out":                 {c.guest.Author, before, true},
		"a number that is not yet":   {c.mod.Author, c.s.Seq() + 1, false},
		"a stranger":                 {c.stranger.Author, before, false},
		"who lost nothing":           {c.owner.Author, before, false},
	} {
		if got := c.s.Demoted(try.by.Device, try.seq); got != try.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Senders are the devices that may write anything, in epochs that there are.
func TestSender(t *testing.T) {
	c := newCast(t)
	epoch := c.s.Epoch()
	c.do(c.mod, SetMemberRights{Account: c.guest.Account, HasOwn: true, Own: Read | React})
	c.do(c.mod, SetMemberRights{Account: c.member.Account, Muted: true})
	now := c.s.Epoch()
	for name, try := range map[string]struct {
		by    Author
		epoch uint64
		want  bool
	}{
		"reacts":        {c.guest.Author, now, true},
		"muted":         {c.member.Author, now, false},
		"not yet muted": {c.member.Author, epoch, true},
		"removed":       {c.removed.Author, epoch, false},
		"stranger":      {c.stranger.Author, now, false},
		"no epoch":      {c.owner.Author, now + 1, false},
	} {
		signing, ok := c.s.Sender(try.by.Device, try.epoch)
		if ok != try.want || (ok && signing != try.by.Key.Public()) {
			t.Errorf("%s: %v, %v", name, signing, ok)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What is sealed is not sealed with a key that a former reader has.
func TestSealingKey(t *testing.T) {
	c := newCast(t)
	seal := func() Describe { return Describe{c.sealed(t)} }
	if _, ok := c.s.SealingKey(); ok {
		t.Error("a key before there was one")
	}
	c.do(c.mod, seal())
	if id, ok := c.s.SealingKey(); !ok || id != c.state.ID() {
		t.Error("the key is not in force")
	}
	c.do(c.mod, seal())
	c.do(c.mod, SetMemberRights{Account: c.member.Account, Muted: true}) // still reads
	c.do(c.mod, seal())

	name, err := c.state.SealName(c.s.Room(), "Gast")
	check(t, err)
	for _, leave := range []func(){
		func() { c.do(c.member, Leave{}) },
		func() { c.do(c.mod, Remove{c.guest.Account}) },
		func() { c.do(c.mod, Rotate{}) },
		func() { c.member2.revoke(t, c.member2.Device); c.do(c.mod, c.member2.news(c.s)) },
		func() { c.do(c.mod, c.nextPassword(t, true)) },
	} {
		leave()
		if _, ok := c.s.SealingKey(); ok {
			t.Error("who left knows the key in force")
		}
		c.refuse(c.mod, seal(), ErrStaleKey)
		join := c.guestJoin(c.guest2)
		join.Name = name
		c.state = NewStateKey()
		c.do(c.mod, seal())
		name, err = c.state.SealName(c.s.Room(), "Gast")
		check(t, err)
	}
	guest := newPerson(t, "with a name")
	join := c.guestJoin(guest)
	join.Name = name
	c.do(c.mod, join)
	if got := c.s.Keys(); len(got) != 1 || got[0] != c.state.ID() {
		t.Errorf("keys in use: %x", got)
	}
	c.do(c.mod, Rotate{})
	join = c.guestJoin(newPerson(t, "another"))
	join.Name = name
	c.refuse(c.mod, join, ErrStaleKey)
	c.reread()
}

func TestSealed(t *testing.T) {
	room, k := protocol.RoomID{1}, NewStateKey()
	about, err := k.SealAbout(room, About{"Klettern 🧗", "Sonntag\n9 Uhr"})
	check(t, err)
	got, err := k.OpenAbout(room, about)
	if err != nil || got.Name != "Klettern 🧗" || got.Topic != "Sonntag\n9 Uhr" {
		t.Errorf("%+v, %v", got, err)
	}
	name, err := k.SealName(room, "Ömer")
	check(t, err)
	if got, err := k.OpenName(room, name); err != nil || got != "Ömer" {
		t.Errorf("%q, %v", got, err)
	}
	secret, err := k.SealPassword(room, [32]byte{9})
	check(t, err)
	if got, err := k.OpenPassword(room, secret); err != nil || got != [32]byte{9} {
		t.Errorf("%x, %v", got, err)
	}
	back, err := ParseStateKey(k.Bytes())
	if err != nil || back.ID() != k.ID() {
		t.Errorf("a key came back as %x, %v", back.ID(), err)
	}

	flipped := about
	flipped.Box = string([]byte{about.Box[0] ^ 1}) + about.Box[1:]
	for what, open := range map[string]func() error{
		"another room":        func() error { _, err := k.OpenAbout(protocol.RoomID{2}, about); return err },
		"another kind":        func() error { _, err := k.OpenName(room, about); return err },
		"a password, a name":  func() error { _, err := k.OpenPassword(room, name); return err },
		"another key":         func() error { _, err := NewStateKey().OpenAbout(room, about); return err },
		"another key's name":  func() error { _, err := k.OpenAbout(room, Sealed{NewStateKey().ID(), about.Box}); return err },
		"changed":             func() error { _, err := k.OpenAbout(room, flipped); return err },
		"nothing":             func() error { _, err := k.OpenAbout(room, Sealed{}); return err },
		"a zero key":          func() error { _, err := StateKey{}.OpenAbout(room, Sealed{}); return err },
		"zero key, zero name": func() error { _, err := StateKey{}.OpenName(room, name); return err },
	} {
		if err := open(); !errors.Is(err, ErrSealed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, seal := range map[string]func() error{
		"no name":       func() error { _, err := k.SealAbout(room, About{}); return err },
		"bad name":      func() error { _, err := k.SealAbout(room, About{Name: "a\u202eb"}); return err },
		"long topic":    func() error { _, err := k.SealAbout(room, About{"x", string(make([]byte, MaxTopic+1))}); return err },
		"no text":       func() error { _, err := k.SealAbout(room, About{"x", "\xff"}); return err },
		"no member":     func() error { _, err := k.SealName(room, ""); return err },
		"line in name":  func() error { _, err := k.SealName(room, "a\nb"); return err },
		"with zero key": func() error { _, err := StateKey{}.SealName(room, "a"); return err },
	} {
		if seal() == nil {
			t.Errorf("%s is sealed", what)
		}
	}
	longest := make([]byte, MaxTopic)
	for i := range longest {
		longest[i] = 'x'
	}
	if _, err := k.SealAbout(room, About{string(longest[:protocol.MaxDisplay]), string(longest)}); err != nil {
		t.Errorf("the longest: %v", err)
	}
	if a, b := seals(t, k, "a"), seals(t, k, "a name as long as some are"); len(a.Box) != len(b.Box) || a.Box == b.Box {
		t.Error("the length of a name shows, or two nonces are one")
	}
}

func seals(t *testing.T, k StateKey, name string) Sealed {
	t.Helper()
	s, err := k.SealName(protocol.RoomID{}, name)
	check(t, err)
	return s
}

// Who orders the log refuses a link whose time is over; who reads the log does not
// look at the time.
func TestCheckTime(t *testing.T) {
	c := newCast(t)
	_, e, err := c.s.Write(start.Add(-time.Hour), c.stranger.Author, c.signedIn(t, c.stranger)) // the author lies
	check(t, err)
	if err := c.s.CheckTime(e, start.Add(time.Hour)); err != nil {
		t.Errorf("in time: %v", err)
	}
	if err := c.s.CheckTime(e, start.Add(time.Hour+time.Second)); !errors.Is(err, ErrNotInvited) {
		t.Errorf("too late: %v", err)
	}
	_, e, err = c.s.Write(start, c.invited.Author, Join{Chain: c.invited.chain.Bytes()})
	check(t, err)
	if err := c.s.CheckTime(e, start.AddDate(1, 0, 0)); err != nil {
		t.Errorf("an invitation by name has no end: %v", err)
	}
}
