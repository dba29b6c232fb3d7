package rendezvous

import (
	"bytes"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
)

func expectLog(t testing.TB, page *wire.RoomPage, want ...room.Entry) {
	t.Helper()
	same := slices.EqualFunc(page.GetEntries(), want, func(b []byte, e room.Entry) bool { return bytes.Equal(b, e.Bytes()) })
	if !same || page.GetMore() {
		t.Fatalf("%d entries, more %v; want %d", len(page.GetEntries()), page.GetMore(), len(want))
	}
}

// A room grows by entries that follow. Who lost a race is told what was first, the same
// entry again is success, and a restart changes nothing.
func TestRoomLog(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newParty(t, alice, bob)
	expectLog(t, bob.read(p, 0, 0), p.log...)
	expectLog(t, bob.read(p, 2, 0), p.log[2:]...)
	expectLog(t, bob.read(p, 9, 0))

	lost := p.write(bob, room.Leave{})
	p.do(alice, room.Lock{On: true})
	p.do(alice, room.Rotate{})
	answer := bob.must(appendRequest(lost)).GetRoomAppended()
	if protocol.Code(answer.GetCode()) != protocol.RoomMoved {
		t.Fatalf("the loser of a race: %v", answer)
	}
	expectLog(t, answer.GetSince(), p.log[lost.Seq:]...)

	for _, e := range p.log {
		p.appended(bob, e)
	}
	s.stopNow()
	s = startServer(t, func(c *Config) { c.Dir = dir })
	s.welcomeBack(bob)
	expectLog(t, bob.read(p, 0, 0), p.log...)
	p.do(bob, room.Leave{})
	p.appended(bob, p.log[len(p.log)-1]) // the answer was lost
	bob.refused(protocol.UnknownRoom, fillRequest(p.id()))
}

// What does not follow, or may not be, changes nothing.
func TestRoomEntriesRefused(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	p := newParty(t, alice, bob)
	p.do(alice, room.Ban{Account: carol.owner})
	unlocked := *p
	p.do(alice, room.Lock{On: true})

	forge := func(e room.Entry) []byte {
		b := e.Bytes()
		b[len(b)-1] ^= 1
		return b
	}
	raw := func(b []byte) *wire.Request {
		return &wire.Request{Call: &wire.Request_AppendRoom{AppendRoom: &wire.AppendRoom{Entry: b}}}
	}
	later := p.write(alice, room.Rotate{}).Bytes()
	later[1] = 9
	other, first, err := room.NewRoom(s.clock.Now(), alice.author(), alice.chain)
	if err != nil {
		t.Fatal(err)
	}
	_, second, err := other.Write(s.clock.Now(), alice.author(), room.Rotate{})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		by   *device
		req  *wire.Request
		want protocol.Code
	}{
		"nothing":                       {alice, raw(nil), protocol.BadRequest},
		"noise":                         {alice, raw(bytes.Repeat([]byte{0, 1}, 250)), protocol.BadRequest},
		"a later version":               {alice, raw(later), protocol.UnsupportedVersion},
		"forged":                        {alice, raw(forge(p.write(alice, room.Rotate{}))), protocol.BadSignature},
		"forged by another member":      {bob, raw(forge(p.write(alice, room.Rotate{}))), protocol.BadSignature},
		"by a stranger":                 {carol, raw(forge(p.write(alice, room.Rotate{}))), protocol.Banned},
		"another's room":                {bob, appendRequest(first), protocol.UnknownRoom},
		"of a room that is not there":   {alice, appendRequest(second), protocol.UnknownRoom},
		"a first entry that is forged":  {alice, raw(forge(first)), protocol.BadSignature},
		"what the author may not do":    {alice, raw(notAllowed(t, p, bob)), protocol.BadRequest},
		"valid, but brought by outside": {carol, appendRequest(p.write(alice, room.Rotate{})), protocol.Banned},
	} {
		t.Run(name, func(t *testing.T) {
			c.by.refused(c.want, c.req)
			expectLog(t, alice.read(p, 0, 0), p.log...)
		})
	}
	moved := alice.must(appendRequest(unlocked.write(alice, room.Rotate{}))).GetRoomAppended()
	if protocol.Code(moved.GetCode()) != protocol.RoomMoved {
		t.Errorf("an old place: %v", moved)
	}
}

// notAllowed is an entry that follows and that its author wrote without the right.
func notAllowed(t testing.TB, p *party, by *device) []byte {
	t.Helper()
	e := p.write(by, room.Leave{}).Bytes()
	const op = 2 + 32 + 8 + 32
	e[op] = byte(room.KindRotate)
	sig, err := by.dsk.Sign("roomlog", e[:len(e)-key.SignatureSize])
	if err != nil {
		t.Fatal(err)
	}
	return append(e[:len(e)-key.SignatureSize], sig...)
}

// To who is not in it a room does not exist.
func TestRoomIsUnknownToOthers(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, stranger := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "stranger")
	p := newParty(t, alice, bob)
	text := p.message(alice, 1)
	alice.say(p, text)
	for name, ask := range map[string]func(protocol.RoomID) *wire.Request{
		"read": func(id protocol.RoomID) *wire.Request { return readRequest(&wire.ReadRoom{Room: id[:]}) },
		"read with a link": func(id protocol.RoomID) *wire.Request {
			return readRequest(&wire.ReadRoom{Room: id[:], Link: make([]byte, 32), Proof: make([]byte, 64)})
		},
		"put":  func(id protocol.RoomID) *wire.Request { return putRoomRequest(id, text) },
		"fill": func(id protocol.RoomID) *wire.Request { return fillRequest(id, rangeOf(alice, 1, 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			here := stranger.refused(protocol.UnknownRoom, ask(p.id()))
			nowhere := stranger.refused(protocol.UnknownRoom, ask(protocol.RoomID{1}))
			if here.String() != nowhere.String() {
				t.Errorf("a room that is there answers %v, one that is not %v", here, nowhere)
			}
			if alice.call(ask(p.id())).GetCode() != 0 {
				t.Error("a member is refused")
			}
		})
	}
	stranger.refused(protocol.UnknownRoom, appendRequest(p.write(alice, room.Rotate{})))
}

// Who is invited reads the log and nothing else; who has a link, too, as long as it holds.
func TestRoomInvited(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol, dave := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol"), member(t, s, "dave")
	p := newParty(t, alice)
	alice.say(p, p.message(alice, 1))
	link := key.NewLink()
	p.do(alice, room.Invite{Account: bob.owner})
	p.do(alice, room.Link{Key: link.Public(), Expires: s.clock.Now().Add(time.Hour), Uses: 1})
	id := p.id()
	signedIn := func(d *device) (room.Join, *wire.Request) {
		t.Helper()
		join, err := room.Join{Chain: d.chain.Bytes()}.SignIn(link, id, d.owner, d.id)
		if err != nil {
			t.Fatal(err)
		}
		return join, readRequest(&wire.ReadRoom{Room: id[:], Link: link.Public().Bytes(), Proof: join.Proof[:]})
	}
	join, carols := signedIn(carol)
	for name, page := range map[string]*wire.RoomPage{
		"bob": bob.read(p, 0, 0), "carol": carol.must(carols).GetRoomPage(),
	} {
		expectLog(t, page, p.log...)
		if len(page.GetItems()) > 0 {
			t.Errorf("%s reads messages", name)
		}
	}
	dave.refused(protocol.UnknownRoom, carols) // carol's proof
	bob.refused(protocol.UnknownRoom, putRoomRequest(id, p.message(alice, 2)))

	s.clock.add(time.Hour + time.Second)
	carol.refused(protocol.InviteExpired, carols)
	carol.refused(protocol.InviteExpired, appendRequest(p.write(carol, join)))
	s.clock.add(-time.Minute)
	p.do(carol, join)
	_, daves := signedIn(dave)
	dave.refused(protocol.UnknownRoom, daves) // it was for one
	if len(carol.read(p, 0, 0).GetItems()) > 0 {
		t.Error("carol reads what was said before she came")
	}
}

// TestGST06_RemovedIsToldAtOnce: who was removed hears of it by a hint, and is refused
// from then on with a code of its own.
func TestGST06_RemovedIsToldAtOnce(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	p := newParty(t, alice, bob, carol)
	text := p.message(bob, 1)
	bobs, carols := bob.link(), carol.link()
	bobs.awaitRoom(p, p.s.Seq(), 0)
	p.do(alice, room.Remove{Account: bob.owner})
	bobs.awaitRoom(p, p.s.Seq(), 0)
	carols.awaitRoom(p, p.s.Seq(), 0)
	id := p.id()
	for _, req := range []*wire.Request{
		readRequest(&wire.ReadRoom{Room: id[:]}), putRoomRequest(id, text), fillRequest(id, rangeOf(alice, 1, 1)),
		appendRequest(p.write(alice, room.Rotate{})),
	} {
		bob.refused(protocol.Banned, req)
	}
	if codes, _ := carol.say(p, text); codes[0] != protocol.StaleEpoch {
		t.Errorf("another brings what the removed says: %v", codes)
	}
	p.do(alice, room.Invite{Account: bob.owner})
	expectLog(t, bob.read(p, 0, 0), p.log...)
}

// Everybody's entries find their place, however many race for it.
func TestRoomRace(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	people := []*device{alice}
	for i := range 4 {
		people = append(people, member(t, s, fmt.Sprint("member_", i)))
	}
	p := newParty(t, alice, people[1:]...)
	for _, d := range people[1:] {
		p.do(alice, room.SetRole{Account: d.owner, Role: room.RoleModerator})
	}
	const each = 5
	var group sync.WaitGroup
	for i, d := range people {
		group.Go(func() {
			state := p.s
			for n := range each {
				op := room.Invite{Account: protocol.AccountID{byte(i), byte(n)}}
				for {
					next, e, err := state.Write(s.clock.Now(), d.author(), op)
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := d.tryCall(appendRequest(e))
					if err != nil || resp.GetCode() != 0 {
						t.Error(resp, err)
						return
					}
					if resp.GetRoomAppended().GetCode() == 0 {
						state = next
						break
					}
					for _, b := range resp.GetRoomAppended().GetSince().GetEntries() {
						since, err := room.ParseEntry(b)
						if err == nil {
							state, err = state.Extend(since)
						}
						if err != nil {
							t.Error(err)
							return
						}
					}
				}
			}
		})
	}
	group.Wait()
	page := alice.read(p, 0, 0)
	if got, want := len(page.GetEntries()), len(p.log)+each*len(people); got != want {
		t.Errorf("%d entries, want %d", got, want)
	}
}

// A full log takes nothing but what removes somebody.
func TestRoomLogIsBounded(t *testing.T) {
	t.Parallel()
	const limit = 16
	s := startServer(t, func(c *Config) { c.Limits = Limits{RoomEntries: limit, RoomsMade: 1} })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	p := newParty(t, alice, bob)
	for len(p.log) < limit {
		p.do(alice, room.Rotate{})
	}
	alice.refused(protocol.RoomFull, appendRequest(p.write(alice, room.Rotate{})))
	p.do(alice, room.Remove{Account: bob.owner})
	expectLog(t, alice.read(p, 0, 0), p.log...)

	_, another, err := room.NewRoom(s.clock.Now(), alice.author(), alice.chain)
	if err != nil {
		t.Fatal(err)
	}
	alice.refused(protocol.TooLarge, appendRequest(another))
	alice.refused(protocol.TooLarge, appendRequest(another)) // a refusal leaves nothing behind
}
