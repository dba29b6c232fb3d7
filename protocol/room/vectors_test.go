package room

import (
	"fmt"
	"strings"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vector is the life of one room.
type vector struct {
	Comment  string         `json:"comment"`
	People   []personVector `json:"people"`
	LinkSeed keytest.Hex    `json:"link_seed"`
	StateKey keytest.Hex    `json:"state_key"`
	KeyID    keytest.Hex    `json:"state_key_id"`
	AdmitKey keytest.Hex    `json:"password_key"`
	About    []string       `json:"name_and_topic"`
	Password keytest.Hex    `json:"password"`
	Room     keytest.Hex    `json:"room_id"`
	Entries  []entryVector  `json:"entries"`
}

type personVector struct {
	Name    string      `json:"name"`
	Account keytest.Hex `json:"account_id"`
	Device  keytest.Hex `json:"device_id"`
	DSKSeed keytest.Hex `json:"dsk_seed"`
	Chain   keytest.Hex `json:"chain"`
}

// entryVector is an entry, and what the log says after it.
type entryVector struct {
	Author  string      `json:"author"`
	Op      string      `json:"op"`
	Entry   keytest.Hex `json:"entry"`
	Hash    keytest.Hex `json:"hash"`
	Epoch   uint64      `json:"epoch"`
	Members []string    `json:"members"`
}

// Every operation once, from fixed keys.
func TestVectors(t *testing.T) {
	cryptotest.SetGlobalRandom(t, 5) // the salt of the room and the nonces of what is sealed
	anna, bob, carl, dora := newPerson(t, "anna"), newPerson(t, "bob"), newPerson(t, "carl"), newPerson(t, "dora")
	gast := newPerson(t, "gast")
	p := newParty(t, anna)
	var err error
	p.state, err = ParseStateKey(seed("room", "state key"))
	check(t, err)
	p.admit, err = ParseStateKey(seed("room", "password key"))
	check(t, err)
	link, err := key.ParseLink(seed("room", "link"))
	check(t, err)
	room, id := p.s.Room(), p.state.ID()
	v := vector{
		Comment:  "every operation once, at 1800000000; after each entry the epoch, and what everybody is and may",
		LinkSeed: link.Bytes(), StateKey: p.state.Bytes(), KeyID: id[:], AdmitKey: p.admit.Bytes(),
		About: []string{"Climbing", "Sunday, 9:00"}, Password: seed("room", "password"), Room: room[:],
	}
	names := map[protocol.AccountID]string{}
	for _, who := range []*person{anna, bob, carl, dora, gast} {
		names[who.Account] = who.name
		v.People = append(v.People, personVector{who.name, who.Account[:], who.Device[:], who.Key.Bytes(), who.chain.Bytes()})
	}
	noted := func() {
		e := p.log[len(p.log)-1]
		hash := e.Hash()
		ev := entryVector{names[e.Account], strings.TrimPrefix(fmt.Sprintf("%T", e.Op), "room."), e.Bytes(), hash[:], p.s.Epoch(), nil}
		for _, m := range p.s.Members() {
			ev.Members = append(ev.Members, fmt.Sprintf("%s: %s: %s", names[m.Account], m.Role, p.s.Rights(m.Account)))
		}
		v.Entries = append(v.Entries, ev)
	}
	do := func(by *person, op Op) {
		t.Helper()
		p.do(by, op)
		noted()
	}
	noted()

	about, err := p.state.SealAbout(room, About{v.About[0], v.About[1]})
	check(t, err)
	secret, err := p.admit.SealPassword(room, [32]byte(v.Password))
	check(t, err)
	name, err := p.state.SealName(room, "Carl")
	check(t, err)
	byLink, err := Join{Chain: carl.chain.Bytes(), Name: name}.SignIn(link, room, carl.Account, carl.Device)
	check(t, err)
	guest := GuestJoin{Chain: gast.chain.Bytes(), Password: 1, Expires: start.Add(time.Hour)}

	do(anna, Describe{about})
	do(anna, Invite{bob.Account})
	do(bob, Join{Chain: bob.chain.Bytes()})
	do(anna, SetRole{bob.Account, RoleModerator})
	do(bob, Invite{dora.Account})
	do(bob, Uninvite{dora.Account})
	do(bob, Link{link.Public(), start.Add(time.Hour), 2})
	do(carl, byLink)
	do(bob, Unlink{link.Public()})
	do(bob, SetMemberRights{Account: carl.Account, HasOwn: true, Own: Read | Send | Admit})
	do(bob, SetMemberRights{Account: carl.Account, Muted: true})
	do(anna, SetRoleRights{RoleGuest, Access})
	do(anna, SetPassword{Number: 1, Open: true, Secret: secret})
	do(bob, guest)
	do(bob, GuestRenew{gast.Account, start.Add(MaxGuestStay)})
	do(bob, Remove{gast.Account})
	do(bob, Unban{gast.Account})
	guest.Expires = start.Add(time.Second)
	do(bob, guest)
	s, e, err := p.s.Write(start.Add(time.Second), bob.Author, GuestExpire{gast.Account})
	check(t, err)
	p.s, p.log = s, append(p.log, e)
	noted()
	carl.addDevice(t, "phone")
	do(anna, carl.news(p.s))
	do(bob, Rotate{})
	do(bob, Lock{true})
	do(bob, Ban{dora.Account})
	do(anna, Merge{Common: 20, Seq: 22, Head: [32]byte(seed("room", "other head")), Removed: []protocol.AccountID{carl.Account}})
	do(anna, SetRole{bob.Account, RoleMember})
	do(bob, Leave{})

	seen := map[string]bool{}
	for _, e := range v.Entries {
		seen[e.Op] = true
	}
	if len(seen) != len(parsers) {
		t.Errorf("%d of %d operations", len(seen), len(parsers))
	}
	p.reread()
	keytest.Golden(t, "room.json", v)
}

// What is in the vectors opens, and is read, without anything that made them.
func TestVectorsAreRead(t *testing.T) {
	if keytest.Updating() {
		t.Skip("being written")
	}
	var v vector
	keytest.LoadGolden(t, "room.json", &v)
	var s *State
	for i, want := range v.Entries {
		e, err := ParseEntry(want.Entry)
		check(t, err)
		if i == 0 {
			s, err = Open(e)
		} else {
			s, err = s.Extend(e)
		}
		check(t, err)
		if head := s.Head(); string(head[:]) != string(want.Hash) || s.Epoch() != want.Epoch || len(s.Members()) != len(want.Members) {
			t.Errorf("entry %d: %s", i, want.Op)
		}
	}
	k, err := ParseStateKey(v.StateKey)
	check(t, err)
	if about, err := k.OpenAbout(s.Room(), s.About()); err != nil || about.Name != v.About[0] || about.Topic != v.About[1] {
		t.Errorf("%+v, %v", about, err)
	}
	k, err = ParseStateKey(v.AdmitKey)
	check(t, err)
	if secret, err := k.OpenPassword(s.Room(), s.Password().Secret); err != nil || string(secret[:]) != string(v.Password) {
		t.Errorf("password: %x, %v", secret, err)
	}
}
