package rendezvous

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
)

// Whatever people do in a room, each reads what the log allows him and nothing else;
// also when the log is folded anew for every call.
func TestRoomModel(t *testing.T) {
	t.Parallel()
	at := map[bool][]*device{false: modelPeople(t, maxIdleLogs), true: modelPeople(t, 0)}
	rapid.Check(t, func(rt *rapid.T) {
		forgets := rapid.Bool().Draw(rt, "folded for each call")
		people := at[forgets]
		m := &roomModel{party: newParty(t, people[0]), t: rt, people: people, forgets: forgets, since: map[protocol.AccountID]int{people[0].owner: 0}}
		for range rapid.IntRange(1, 25).Draw(rt, "steps") {
			m.step()
		}
		for _, d := range people {
			m.check(d)
		}
	})
}

// modelPeople are people at a server that keeps so many logs folded, and limits nothing.
func modelPeople(t *testing.T, idle int) (people []*device) {
	t.Helper()
	s := startServer(t, func(c *Config) { c.Limits = Limits{RoomsMade: 1e6, RoomsJoined: 1e6, Calls: 1e6} })
	s.rooms.max = idle
	s.rates.roomsMade = newLimiters[protocol.AccountID](1e6, time.Second, 1e6)
	s.rates.roomPages = newLimiters[protocol.DeviceID](1e6, time.Second, 1e6)
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		people = append(people, member(t, s, name))
	}
	return people
}

// roomModel is a room as it should be.
type roomModel struct {
	*party
	t       *rapid.T
	people  []*device
	said    []saying
	since   map[protocol.AccountID]int // messages there were when he came
	number  uint64
	waits   [][]byte // messages that were made and not brought
	by      []*device
	forgets bool // which epochs ended just now: the log is folded for each call
}

type saying struct {
	message []byte
	cursor  uint64
}

func (m *roomModel) draw(what string) *device {
	return m.people[rapid.IntRange(0, len(m.people)-1).Draw(m.t, what)]
}

func (m *roomModel) step() {
	by, of := m.draw("by"), m.draw("of")
	switch kind := rapid.IntRange(0, 11).Draw(m.t, "step"); kind {
	case 0, 1:
		m.try(by, room.Invite{Account: of.owner})
	case 2, 3:
		m.try(by, room.Join{Chain: by.chain.Bytes()})
	case 4:
		m.try(by, room.Leave{})
	case 5:
		m.try(by, room.Remove{Account: of.owner})
	case 6:
		m.try(by, room.SetMemberRights{Account: of.owner, Muted: rapid.Bool().Draw(m.t, "muted")})
	case 7:
		m.try(by, room.SetRole{Account: of.owner, Role: rapid.SampledFrom([]room.Role{room.RoleMember, room.RoleModerator, room.RoleOwner}).Draw(m.t, "role")})
	case 8: // to be brought later, mostly by another
		m.number++
		m.waits, m.by = append(m.waits, m.message(by, m.number)), append(m.by, by)
	case 9:
		if n := len(m.waits); n > 0 {
			i := rapid.IntRange(0, n-1).Draw(m.t, "waiting")
			m.bring(of, m.by[i], m.waits[i])
		}
	default:
		m.number++
		m.bring(by, by, m.message(by, m.number))
	}
}

// try appends an entry, if its author may write it.
func (m *roomModel) try(by *device, op room.Op) {
	before := m.s
	if _, _, err := before.Write(by.server.clock.Now(), by.author(), op); err != nil {
		return
	}
	m.do(by, op)
	for _, d := range m.people {
		_, was := before.Member(d.owner)
		if _, is := m.s.Member(d.owner); is && !was {
			m.since[d.owner] = len(m.said)
		}
	}
}

func (m *roomModel) isIn(d *device) bool {
	_, in := m.s.Member(d.owner)
	return in
}

// bring puts a message and compares the answer with what the log says.
func (m *roomModel) bring(by, author *device, b []byte) {
	resp := by.call(putRoomRequest(m.id(), b))
	if !m.isIn(by) {
		m.mustBeOut(by, resp)
		return
	}
	parsed, err := message.Parse(b)
	if err != nil {
		m.t.Fatal(err)
	}
	may := m.s.Rights(author.owner)&room.Voice != 0
	_, did := m.s.Sender(author.id, parsed.Epoch)
	late := by == author && m.forgets && parsed.Epoch != m.s.Epoch()
	got := resp.GetRoomPutResults().GetResults()[0]
	if want := may && did && !late; want != (got.GetCode() == 0) { // an epoch that ended did so just now
		m.t.Fatalf("a message of %s: %v; may send %v, might then %v, late %v", author.name, got, may, did, late)
	} else if !want {
		return
	}
	i := slices.IndexFunc(m.said, func(s saying) bool { return bytes.Equal(s.message, b) })
	switch {
	case i >= 0 && m.said[i].cursor != got.GetCursor():
		m.t.Fatalf("a message at %d is at %d again", m.said[i].cursor, got.GetCursor())
	case i < 0:
		m.said = append(m.said, saying{b, got.GetCursor()})
	}
}

// mustBeOut checks the answer to who is not in the room.
func (m *roomModel) mustBeOut(d *device, resp *wire.Response) {
	want := protocol.UnknownRoom
	if m.s.Barred(d.owner) {
		want = protocol.Banned
	}
	if got := protocol.Code(resp.GetCode()); got != want || resp.GetResult() != nil {
		m.t.Fatalf("%s is out and gets %v, want %v", d.name, got, want)
	}
}

// check compares what somebody reads with what is there for him.
func (m *roomModel) check(d *device) {
	id := m.id()
	resp := d.call(readRequest(&wire.ReadRoom{Room: id[:]}))
	fill := fillRequest(id)
	for _, other := range m.people {
		fill.GetFillRoom().Ranges = append(fill.GetFillRoom().Ranges, rangeOf(other, 1, 1000))
	}
	filled := d.call(fill)
	if !m.isIn(d) {
		m.mustBeOut(d, filled)
		if m.s.Invited(d.owner) && len(resp.GetRoomPage().GetEntries()) == len(m.log) && len(resp.GetRoomPage().GetItems()) == 0 {
			return
		}
		m.mustBeOut(d, resp)
		return
	}
	var want [][]byte
	for _, s := range m.said[m.since[d.owner]:] {
		want = append(want, s.message)
	}
	if got := messagesOf(resp.GetRoomPage()); len(resp.GetRoomPage().GetEntries()) != len(m.log) || !slices.EqualFunc(got, want, bytes.Equal) {
		m.t.Fatalf("%s reads %d entries and %d messages, want %d and %d", d.name, len(resp.GetRoomPage().GetEntries()), len(got), len(m.log), len(want))
	}
	sorted := func(list [][]byte) string { slices.SortFunc(list, bytes.Compare); return fmt.Sprintf("%x", list) }
	if got := messagesOf(filled.GetRoomPage()); sorted(got) != sorted(want) {
		m.t.Fatalf("%s fills %d messages, want %d", d.name, len(got), len(want))
	}
}
