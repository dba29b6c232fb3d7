package room

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

var start = time.Unix(1_800_000_000, 0).UTC()

// tester is a *testing.T, a *testing.B or a *rapid.T.
type tester interface {
	Helper()
	Fatal(args ...any)
	Fatalf(format string, args ...any)
}

func check(t tester, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// person is somebody with an account and a device. Its keys come from its name.
type person struct {
	Author
	name  string
	aik   key.AccountPrivate
	rk    key.RecoveryPrivate
	chain *account.Chain
}

func seed(name, use string) []byte {
	h := sha256.Sum256([]byte(name + " " + use))
	return h[:]
}

func newPerson(t tester, name string) *person {
	t.Helper()
	p := &person{name: name}
	var err error
	p.aik, err = key.ParseAccount(seed(name, "aik"))
	check(t, err)
	p.rk, err = key.ParseRecovery(seed(name, "rk"))
	check(t, err)
	p.chain, err = account.Create(start, p.aik, p.rk.Public())
	check(t, err)
	p.Author = p.addDevice(t, "laptop")
	return p
}

// addDevice certifies another device in the person's chain, and returns it as an
// author.
func (p *person) addDevice(t tester, name string) Author {
	t.Helper()
	dsk, err := key.ParseDevice(seed(p.name, name+" dsk"))
	check(t, err)
	dik, err := key.ParseIdentity(seed(p.name, name+" dik"))
	check(t, err)
	host, err := key.ParseHost(seed(p.name, name+" host"))
	check(t, err)
	cert, err := account.NewCert(p.aik, account.Cert{
		Account: p.chain.Account(), Signing: dsk.Public(), Identity: dik.Public(), PeerID: host.Public().PeerID(),
		MinProto: 1, MaxProto: 1, Created: start, NotAfter: start.AddDate(1, 0, 0), Name: name,
	})
	check(t, err)
	p.chain, err = p.chain.AddDevice(start, p.aik, cert)
	check(t, err)
	return Author{p.chain.Account(), cert.DeviceID(), dsk}
}

func (p *person) revoke(t tester, dev protocol.DeviceID) {
	t.Helper()
	var err error
	p.chain, err = p.chain.RevokeDevice(start, p.aik, dev, account.Lost, start)
	check(t, err)
}

// news is what the person's chain has and the room's log does not.
func (p *person) news(s *State) Devices {
	m, _ := s.Member(p.Account)
	return Devices{p.Account, p.chain.Bytes()[len(m.Chain.Bytes()):]}
}

// party is a room and its people.
type party struct {
	t     tester
	s     *State
	log   []Entry
	state StateKey // with which names are sealed
	admit StateKey // with which the password is
}

func newParty(t tester, founder *person) *party {
	t.Helper()
	s, e, err := NewRoom(start, founder.Author, founder.chain)
	check(t, err)
	return &party{t: t, s: s, log: []Entry{e}, state: NewStateKey(), admit: NewStateKey()}
}

// do appends what must be allowed.
func (p *party) do(by *person, op Op) {
	p.t.Helper()
	p.doFrom(by.Author, op)
}

func (p *party) doFrom(by Author, op Op) {
	p.t.Helper()
	s, e, err := p.s.Write(start, by, op)
	if err != nil {
		p.t.Fatalf("%T: %v", op, err)
	}
	p.s, p.log = s, append(p.log, e)
}

// refuse tries what must not be allowed.
func (p *party) refuse(by *person, op Op, want error) {
	p.t.Helper()
	p.refuseFrom(by.Author, op, want)
}

func (p *party) refuseFrom(by Author, op Op, want error) {
	p.t.Helper()
	before := dump(p.s)
	if _, _, err := p.s.Write(start, by, op); !errors.Is(err, want) {
		p.t.Fatalf("%T: %v, want %v", op, err, want)
	}
	if dump(p.s) != before {
		p.t.Fatalf("%T: changed the state although it was refused", op)
	}
}

// join brings people in, invited by the first.
func (p *party) join(by *person, people ...*person) {
	p.t.Helper()
	for _, who := range people {
		p.do(by, Invite{who.Account})
		p.do(who, Join{Chain: who.chain.Bytes()})
	}
}

func (p *party) promote(by *person, role Role, people ...*person) {
	p.t.Helper()
	for _, who := range people {
		p.do(by, SetRole{who.Account, role})
	}
}

// open sets a password.
func (p *party) open(by *person, askAgain bool) {
	p.t.Helper()
	secret, err := p.admit.SealPassword(p.s.Room(), [32]byte{1})
	check(p.t, err)
	p.do(by, SetPassword{Number: p.s.Password().Number + 1, Open: true, AskAgain: askAgain, Secret: secret})
}

func (p *party) guestJoin(who *person) GuestJoin {
	return GuestJoin{Chain: who.chain.Bytes(), Password: p.s.Password().Number, Expires: start.Add(time.Hour)}
}

// dump writes down everything a State says.
func dump(s *State) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v %d %x\nlost %d locked %v rights %d\nkey %x %d\nabout %x\npassword %v\nepochs", s.room, s.head.seq, s.head.hash, s.lost, s.locked, s.rights, s.key, s.keySeq, s.about, s.password)
	for _, e := range s.epochs {
		fmt.Fprintf(&b, " %d", e.seq)
	}
	for _, m := range s.Members() {
		fmt.Fprintf(&b, "\nmember %v %v %d %x own %v %v muted %v password %d until %v chain %x", m.Account, m.Role, m.Joined, m.Name, m.HasOwn, m.Own, m.Muted, m.Password, m.Expires, m.Chain.Head())
	}
	each(&b, s.devices, func(r *record) any { return fmt.Sprint(r.account, r.signing, r.newest.text()) })
	each(&b, s.powers, (*span).text)
	each(&b, s.invites, func(by protocol.AccountID) any { return by })
	each(&b, s.barred, func(bar bar) any { return bar })
	for _, l := range s.Links() {
		fmt.Fprintf(&b, "\nlink %+v", l)
	}
	return b.String()
}

func (p *span) text() any {
	text := ""
	for ; p != nil; p = p.before {
		text += fmt.Sprint(" ", p.seq, p.rights)
	}
	return text
}

func each[K ~[32]byte, V any](b *strings.Builder, m map[K]V, text func(V) any) {
	keys := slices.SortedFunc(maps.Keys(m), func(x, y K) int { return bytes.Compare(x[:], y[:]) })
	for _, k := range keys {
		fmt.Fprintf(b, "\n%x: %v", k, text(m[k]))
	}
}

// reread folds the log from its bytes, and checks that it says what p.s does.
func (p *party) reread() {
	p.t.Helper()
	var log []Entry
	for _, e := range p.log {
		back, err := ParseEntry(e.Bytes())
		check(p.t, err)
		log = append(log, back)
	}
	s, err := Fold(log)
	check(p.t, err)
	if dump(s) != dump(p.s) {
		p.t.Fatalf("the log says\n%s\nwant\n%s", dump(s), dump(p.s))
	}
	s, err = Refold(log, p.s.Head())
	check(p.t, err)
	if dump(s) != dump(p.s) {
		p.t.Fatalf("folded again, the log says\n%s\nwant\n%s", dump(s), dump(p.s))
	}
}

// A room from its beginning, as its people use it.
func TestRoom(t *testing.T) {
	anna, bob, carl, gast := newPerson(t, "anna"), newPerson(t, "bob"), newPerson(t, "carl"), newPerson(t, "gast")
	p := newParty(t, anna)
	if m, _ := p.s.Member(anna.Account); m.Role != RoleOwner || p.s.Rights(anna.Account) != AllRights {
		t.Fatalf("the founder is %v", m.Role)
	}
	about, err := p.state.SealAbout(p.s.Room(), About{"Climbing", "Sunday, 9:00"})
	check(t, err)
	p.do(anna, Describe{about})
	p.join(anna, bob, carl)
	p.promote(anna, RoleModerator, bob)
	p.open(bob, false)
	p.do(bob, p.guestJoin(gast))
	p.do(bob, SetMemberRights{Account: carl.Account, Muted: true})
	for who, want := range map[*person]Rights{anna: AllRights, bob: AllRights, carl: Read, gast: Read | Send | React} {
		if got := p.s.Rights(who.Account); got != want {
			t.Errorf("%s may %v", who.name, got)
		}
	}
	p.do(bob, SetMemberRights{Account: carl.Account})
	p.do(carl, Leave{})
	p.do(anna, Remove{bob.Account})
	p.reread()

	if got := p.s.Members(); len(got) != 2 || got[0].Account != anna.Account || got[1].Account != gast.Account {
		t.Errorf("members at the end: %v", got)
	}
	if got, err := p.state.OpenAbout(p.s.Room(), p.s.About()); err != nil || got.Name != "Climbing" || got.Topic != "Sunday, 9:00" {
		t.Errorf("name and topic: %+v, %v", got, err)
	}
}

// newAccountID names an account that does not exist.
func newAccountID(i int) protocol.AccountID { return sha256.Sum256(fmt.Append(nil, i)) }

// A log that was folded before folds to the same, without its signatures, and no other
// log passes for it.
func TestRefold(t *testing.T) {
	owner, guest := newPerson(t, "owner"), newPerson(t, "friend")
	p := newParty(t, owner)
	p.join(owner, guest)
	p.do(owner, Lock{On: true})
	s, err := Refold(p.log, p.s.Head())
	check(t, err)
	if s.Head() != p.s.Head() || !s.Locked() || len(s.Members()) != 2 {
		t.Error("folded to something else")
	}
	if slices.ContainsFunc(p.log, func(e Entry) bool { return e.known }) {
		t.Error("the entries given count as checked")
	}
	_, after, err := p.s.Write(start, owner.Author, Lock{On: false})
	check(t, err)
	after.sig[0]++
	if _, err := s.Extend(after); !errors.Is(err, key.ErrSignature) {
		t.Errorf("a forged entry behind: %v", err)
	}
	for i := range p.log {
		forged := slices.Clone(p.log)
		forged[i].sig[0]++
		if _, err := Refold(forged, p.s.Head()); !errors.Is(err, ErrPlace) {
			t.Errorf("entry %d is another one: %v", i, err)
		}
	}
	if _, err := Refold(p.log[:2], p.s.Head()); !errors.Is(err, ErrPlace) {
		t.Errorf("cut: %v", err)
	}
	if _, err := Refold(nil, p.s.Head()); !errors.Is(err, ErrPlace) {
		t.Errorf("empty: %v", err)
	}
}
