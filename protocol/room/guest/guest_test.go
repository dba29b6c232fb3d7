package guest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/room"
)

var start = time.Unix(1_800_000_000, 0).UTC()

// tester is a *testing.T, a *testing.F or a *rapid.T.
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

// person is an account with one device. Its keys come from its name.
type person struct {
	room.Author
	name  string
	chain *account.Chain
	cert  account.Cert
}

func newPerson(t tester, name, device string) *person {
	t.Helper()
	seed := func(use string) []byte { return keytest.Seed(name+" "+use, 32) }
	aik, err := key.ParseAccount(seed("aik"))
	check(t, err)
	rk, err := key.ParseRecovery(seed("rk"))
	check(t, err)
	dsk, err := key.ParseDevice(seed("dsk"))
	check(t, err)
	dik, err := key.ParseIdentity(seed("dik"))
	check(t, err)
	host, err := key.ParseHost(seed("host"))
	check(t, err)
	chain, err := account.Create(start, aik, rk.Public())
	check(t, err)
	cert, err := account.NewCert(aik, account.Cert{
		Account: chain.Account(), Signing: dsk.Public(), Identity: dik.Public(), PeerID: host.Public().PeerID(),
		MinProto: 1, MaxProto: 1, Created: start, NotAfter: start.AddDate(1, 0, 0), Name: device,
	})
	check(t, err)
	chain, err = chain.AddDevice(start, aik, cert)
	check(t, err)
	return &person{room.Author{Account: chain.Account(), Device: cert.DeviceID(), Key: dsk}, name, chain, cert}
}

func (p *person) self(in protocol.RoomID) Self {
	return Self{Room: in, Chain: p.chain, Key: p.Key, Name: p.name}
}

// house is a room with its owner, an open password and the keys.
type house struct {
	t        tester
	s        *room.State
	owner    *person
	names    room.StateKey
	password room.StateKey
	secret   [32]byte
}

func newHouse(t tester) *house {
	t.Helper()
	owner := newPerson(t, "anna", "laptop")
	s, _, err := room.NewRoom(start, owner.Author, owner.chain)
	check(t, err)
	h := &house{t: t, s: s, owner: owner, names: room.NewStateKey(), password: room.NewStateKey()}
	h.setPassword(false)
	return h
}

// setPassword opens the room by the next password, a random one: what is derived
// from real ones is tested apart, since that costs.
func (h *house) setPassword(askAgain bool) {
	h.t.Helper()
	h.secret = [32]byte(room.NewStateKey().Bytes())
	sealed, err := h.password.SealPassword(h.s.Room(), h.secret)
	check(h.t, err)
	h.do(room.SetPassword{Number: h.s.Password().Number + 1, Open: true, AskAgain: askAgain, Secret: sealed})
}

func (h *house) do(op room.Op) room.Entry {
	h.t.Helper()
	s, e, err := h.s.Write(start, h.owner.Author, op)
	check(h.t, err)
	h.s = s
	return e
}

func (h *house) door() Door { return Door{State: h.s, Cert: h.owner.cert, Secret: key.Hide(&h.secret)} }

// attempt is one conversation and what passed on the way.
type attempt struct {
	t        tester
	visitor  *Visitor
	admitter *Admitter
	frames   [][]byte
}

// pass notes a frame that goes from one side to the other.
func (c *attempt) pass(frame []byte, err error) []byte {
	c.t.Helper()
	check(c.t, err)
	c.frames = append(c.frames, frame)
	return frame
}

func (c *attempt) last() []byte { return c.frames[len(c.frames)-1] }

// untilAnswer runs an attempt up to the guest's guess.
func untilAnswer(t tester, d Door, self Self, guess [32]byte) *attempt {
	t.Helper()
	c := &attempt{t: t}
	v, frame, err := Knock(self)
	c.pass(frame, err)
	a, frame, err := Answer(d, frame)
	c.pass(frame, err)
	number, err := v.Offered(frame)
	check(t, err)
	if number != d.State.Password().Number {
		t.Fatalf("password number %d", number)
	}
	frame, err = v.Answer(guess)
	c.pass(frame, err)
	c.visitor, c.admitter = v, a
	return c
}

// untilRequest runs an attempt with the right password, up to the admitter's decision.
func untilRequest(t tester, d Door, self Self) (*attempt, Request) {
	t.Helper()
	c := untilAnswer(t, d, self, *d.Secret())
	c.pass(c.admitter.Answered(start, &Limits{}, "", c.last()))
	c.pass(c.visitor.Confirmed(c.last()))
	r, err := c.admitter.Requested(c.last())
	check(t, err)
	return c, r
}

// letIn writes the guest into the log and tells it.
func (h *house) letIn(c *attempt, r Request) Welcome {
	h.t.Helper()
	name, err := h.names.SealName(h.s.Room(), r.Name)
	check(h.t, err)
	e := h.do(r.Join(start, name))
	c.pass(c.admitter.Admit(Welcome{Entry: e, Keys: []room.StateKey{h.names}}))
	w, err := c.visitor.Welcomed(c.last())
	check(h.t, err)
	return w
}

// From the knock to the entry in the log, and what the guest can then read.
func TestGuestComesIn(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	c, r := untilRequest(t, h.door(), bert.self(h.s.Room()))
	if r.Name != "bert" || r.Chain.Account() != bert.Account || r.Device.DeviceID() != bert.Device || r.Number != 1 {
		t.Fatalf("asked: %+v", r)
	}
	before := h.s
	w := h.letIn(c, r)
	m, ok := h.s.Member(bert.Account)
	if !ok || m.Role != room.RoleGuest || !m.Expires.Equal(start.Add(24*time.Hour)) || m.Password != 1 {
		t.Fatalf("in the log: %+v", m)
	}
	check(t, w.Check(h.s))
	if len(w.Keys) != 1 || w.Keys[0].ID() != m.Name.Key {
		t.Fatalf("%d keys", len(w.Keys))
	}
	if name, err := w.Keys[0].OpenName(h.s.Room(), m.Name); err != nil || name != "bert" {
		t.Errorf("name %q: %v", name, err)
	}
	if err := w.Check(before); err != ErrOtherRoom {
		t.Errorf("a log that ends before the entry: %v", err)
	}
	other, _, err := before.Write(start, h.owner.Author, room.Rotate{})
	check(t, err)
	if err := w.Check(other); err != ErrOtherRoom {
		t.Errorf("another branch: %v", err)
	}

	for i, f := range c.frames {
		if len(f) > MaxFrame {
			t.Errorf("frame %d of %d bytes", i, len(f))
		}
	}
}

// A guest that lost the answer knocks again and gets the entry that it has.
func TestGuestComesAgain(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	c, r := untilRequest(t, h.door(), bert.self(h.s.Room()))
	first := h.letIn(c, r)
	c, r = untilRequest(t, h.door(), bert.self(h.s.Room()))
	if _, _, err := h.s.Write(start, h.owner.Author, r.Join(start, room.Sealed{})); !errors.Is(err, room.ErrNoEffect) {
		t.Fatalf("twice in the log: %v", err)
	}
	c.pass(c.admitter.Admit(first))
	again, err := c.visitor.Welcomed(c.last())
	check(t, err)
	if again.Entry.Hash() != first.Entry.Hash() {
		t.Error("another entry")
	}
}

// A password of before is another one, and asks nothing of who stays.
func TestGST05_PasswordChanged(t *testing.T) {
	h, bert, carl := newHouse(t), newPerson(t, "bert", ""), newPerson(t, "carl", "")
	old := h.secret
	c, r := untilRequest(t, h.door(), bert.self(h.s.Room()))
	h.letIn(c, r)
	c, late := untilRequest(t, h.door(), carl.self(h.s.Room()))
	h.setPassword(false)
	if _, ok := h.s.Member(bert.Account); !ok {
		t.Error("the guest is out")
	}
	_, _, err := h.s.Write(start, h.owner.Author, late.Join(start, room.Sealed{}))
	c.pass(c.admitter.Refuse(Refusal(err)))
	if _, err := c.visitor.Welcomed(c.last()); protocol.CodeOf(err) != protocol.WrongPassword {
		t.Errorf("let in by the old password: %v", err)
	}
	c = untilAnswer(t, h.door(), carl.self(h.s.Room()), old)
	if _, err := c.admitter.Answered(start, &Limits{}, "", c.last()); protocol.CodeOf(err) != protocol.WrongPassword {
		t.Errorf("the old password: %v", err)
	}
	h.setPassword(true)
	if _, ok := h.s.Member(bert.Account); ok {
		t.Error("the guest was not asked again")
	}
	h.names = room.NewStateKey() // the guest who was out has the old one
	c, r = untilRequest(t, h.door(), bert.self(h.s.Room()))
	h.letIn(c, r)
}

// The log says why, and the guest hears it once its password was confirmed.
func TestGST10_EveryRefusalHasACode(t *testing.T) {
	for name, x := range map[string]struct {
		do   func(h *house, bert *person)
		want protocol.Code
	}{
		"locked": {func(h *house, _ *person) { h.do(room.Lock{On: true}) }, protocol.RoomLocked},
		"banned": {func(h *house, bert *person) { h.do(room.Ban{Account: bert.Account}) }, protocol.Banned},
	} {
		h, bert := newHouse(t), newPerson(t, "bert", "")
		x.do(h, bert)
		c, r := untilRequest(t, h.door(), bert.self(h.s.Room()))
		_, _, err := h.s.Write(start, h.owner.Author, r.Join(start, room.Sealed{}))
		c.pass(c.admitter.Refuse(Refusal(err)))
		if _, err := c.visitor.Welcomed(c.last()); protocol.CodeOf(err) != x.want {
			t.Errorf("%s: %v", name, err)
		}
	}
	for err, want := range map[error]protocol.Code{
		room.ErrFull: protocol.RoomFull, room.ErrForbidden: protocol.NobodyAdmits, room.ErrPlace: protocol.Unavailable,
	} {
		if got := Refusal(fmt.Errorf("wrapped: %w", err)); got.Code != want {
			t.Errorf("%v: %v", err, got)
		}
	}
}

func TestKnockRefuses(t *testing.T) {
	h, bert, anna := newHouse(t), newPerson(t, "bert", ""), newPerson(t, "anna", "laptop")
	other := bert.self(h.s.Room())
	other.Key = anna.Key
	noName := bert.self(h.s.Room())
	noName.Name = ""
	control := bert.self(h.s.Room())
	control.Name = "bert\x1b[2J"
	for name, self := range map[string]Self{
		"nobody": {}, "a device with a name": anna.self(h.s.Room()), "another key": other, "no name": noName, "a control": control,
	} {
		if v, _, err := Knock(self); err == nil || v != nil {
			t.Errorf("%s may knock", name)
		}
	}
	_, knock, err := Knock(bert.self(h.s.Room()))
	check(t, err)
	h.do(room.SetPassword{Number: 2})
	if _, _, err := Answer(h.door(), knock); protocol.CodeOf(err) != protocol.NobodyAdmits {
		t.Errorf("a closed door: %v", err)
	}
}

func TestSidesAreHidden(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	c, _ := untilRequest(t, h.door(), bert.self(h.s.Room()))
	d := h.door()
	j, err := json.Marshal([]any{c.visitor, c.admitter, d})
	check(t, err)
	for _, out := range []string{string(j), fmt.Sprintf("%v %+v %#v %s", c.visitor, c.visitor, c.admitter, c.admitter), fmt.Sprintf("%v %+v %#v %x", d, d, d, d), fmt.Sprintf("%+v", struct{ d Door }{d})} {
		for _, form := range []string{fmt.Sprintf("%x", h.secret[:4]), strings.Trim(fmt.Sprint(h.secret[:4]), "[]")} {
			if strings.Contains(out, form) {
				t.Errorf("secret shown: %s", out)
			}
		}
	}
}

func TestDerive(t *testing.T) {
	in := protocol.RoomID(keytest.Seed("room", 32))
	derive := func(password string, in protocol.RoomID, number uint32) [32]byte {
		t.Helper()
		d, err := Derive(password, in, number)
		check(t, err)
		return d
	}
	a := derive("Café ﬁn", in, 1)
	if derive("Cafe\u0301 fin", in, 1) != a {
		t.Error("the same text, typed elsewhere, is another password")
	}
	for name, b := range map[string][32]byte{
		"another text": derive("cafe fin", in, 1), "another number": derive("Café fin", in, 2), "another room": derive("Café fin", protocol.RoomID{}, 1),
	} {
		if a == b {
			t.Errorf("%s derives the same", name)
		}
	}
	for _, bad := range []string{"", "\xff", strings.Repeat("x", MaxPassword+1)} {
		if d, err := Derive(bad, in, 1); err != ErrPassword || d != [32]byte{} {
			t.Errorf("password %.8q: %v", bad, err)
		}
	}
}

// The most keys that a room can need fit, and one more is refused.
func TestManyKeys(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	c, r := untilRequest(t, h.door(), bert.self(h.s.Room()))
	keys := make([]room.StateKey, MaxKeys+1)
	for i := range keys {
		keys[i] = room.NewStateKey()
	}
	e := h.do(r.Join(start, room.Sealed{}))
	for name, w := range map[string]Welcome{"too many keys": {e, keys}, "a zero key": {e, make([]room.StateKey, 1)}, "no entry": {}} {
		if _, err := c.admitter.Admit(w); err == nil {
			t.Errorf("%s were given", name)
		}
	}
	c.pass(c.admitter.Admit(Welcome{e, keys[:MaxKeys]}))
	w, err := c.visitor.Welcomed(c.last())
	check(t, err)
	if len(w.Keys) != MaxKeys || !bytes.Equal(w.Keys[MaxKeys-1].Bytes(), keys[MaxKeys-1].Bytes()) {
		t.Errorf("%d keys", len(w.Keys))
	}
}
