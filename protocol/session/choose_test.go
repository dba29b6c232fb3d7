package session

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
)

func TestChoose(t *testing.T) {
	now := start
	id := func(b byte) protocol.SessionID { return protocol.SessionID{b} }
	day := 24 * time.Hour
	tests := []struct {
		name     string
		sessions []Info
		want     int // -1: none
	}{
		{"none", nil, -1},
		{"accepted but nothing opened", []Info{{ID: id(1), Gen: 5, Created: now}}, -1},
		{"own opening", []Info{{ID: id(1), Gen: 5, Initiator: true, Created: now}}, 0},
		{"confirmed with the largest generation", []Info{
			{ID: id(1), Gen: 5, Confirmed: true}, {ID: id(2), Gen: 7, Confirmed: true}, {ID: id(3), Gen: 6, Confirmed: true}}, 1},
		{"smallest id breaks a tie", []Info{
			{ID: id(3), Gen: 5, Confirmed: true}, {ID: id(2), Gen: 5, Confirmed: true, Initiator: true}}, 1},
		{"own opening above every confirmed one", []Info{
			{ID: id(1), Gen: 5, Confirmed: true}, {ID: id(2), Gen: 6, Initiator: true, Created: now}}, 1},
		{"own opening not above", []Info{
			{ID: id(1), Gen: 6, Confirmed: true}, {ID: id(0), Gen: 6, Initiator: true, Created: now}}, 0},
		{"own opening unanswered for 30 days", []Info{
			{ID: id(1), Gen: 5, Confirmed: true}, {ID: id(2), Gen: 6, Initiator: true, Created: now.Add(-30 * day)}}, 0},
		{"own opening unanswered for less", []Info{
			{ID: id(2), Gen: 6, Initiator: true, Created: now.Add(-30*day + time.Second)}}, 0},
		{"reset ends older sessions", []Info{
			{ID: id(1), Gen: 5, Confirmed: true, Created: now.Add(-day)},
			{ID: id(2), Gen: 6, Confirmed: true, Reset: true, Created: now}}, 1},
		{"reset below an older session asks for a new one", []Info{
			{ID: id(1), Gen: 9, Confirmed: true, Created: now.Add(-day)},
			{ID: id(2), Gen: 6, Confirmed: true, Reset: true, Created: now}}, -1},
		{"newer session after a reset", []Info{
			{ID: id(2), Gen: 6, Confirmed: true, Reset: true, Created: now.Add(-day)},
			{ID: id(1), Gen: 9, Confirmed: true, Created: now}}, 1},
		{"own reset ends nothing", []Info{
			{ID: id(1), Gen: 9, Confirmed: true, Created: now.Add(-day)},
			{ID: id(2), Gen: 6, Confirmed: true, Initiator: true, Reset: true, Created: now}}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			i, ok := Choose(now, tt.sessions)
			if ok != (tt.want >= 0) || ok && i != tt.want {
				t.Errorf("chose %d, %v; want %d", i, ok, tt.want)
			}
		})
	}
}

func TestNextGen(t *testing.T) {
	now := time.Unix(1000, 0)
	for highest, want := range map[uint64]uint64{0: 1000, 998: 1000, 999: 1000, 1000: 1001, 5000: 5001} {
		if got := NextGen(now, highest); got != want {
			t.Errorf("NextGen(%d) = %d, want %d", highest, got, want)
		}
	}
	if NextGen(time.Unix(-5, 0), 0) != 1 {
		t.Error("a clock before 1970 gives no small generation")
	}
}

// side is one of two devices in a model without cryptography: which sessions
// it knows, and what it does about messages it cannot open.
type side struct {
	now      time.Time
	sessions []Info
}

// add keeps the newest protocol.MaxSessions sessions, as a device does.
func (s *side) add(i Info) {
	s.sessions = append(s.sessions, i)
	if len(s.sessions) > protocol.MaxSessions {
		s.sessions = s.sessions[1:]
	}
}

// wire is a message of the model on its way.
type wire struct {
	from    int
	session Info // as its opener made it
	opening bool
}

type model struct {
	sides    [2]side
	flying   []wire
	made     uint64
	accepted map[protocol.SessionID]bool // openings whose prekey is used up
	opened   int                         // sessions opened since the model calmed down
}

func (m *model) send(from int, reset bool) {
	s := &m.sides[from]
	i, ok := Choose(s.now, s.sessions)
	if !ok || reset {
		i = m.open(s, reset)
	}
	chosen := s.sessions[i]
	m.flying = append(m.flying, wire{from, chosen, chosen.Initiator && !chosen.Confirmed})
}

func (m *model) open(s *side, reset bool) int {
	var highest uint64
	for _, o := range s.sessions {
		highest = max(highest, o.Gen)
	}
	m.made++
	m.opened++
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, m.made))
	s.add(Info{ID: protocol.SessionID(sum[:]), Gen: NextGen(s.now, highest), Initiator: true, Reset: reset, Created: s.now})
	return len(s.sessions) - 1
}

func (m *model) deliver(i int) {
	w := m.flying[i]
	m.flying = slices.Delete(m.flying, i, i+1)
	to := &m.sides[1-w.from]
	known := slices.IndexFunc(to.sessions, func(o Info) bool { return o.ID == w.session.ID })
	switch {
	case known >= 0:
		to.sessions[known].Confirmed = true
	case w.opening && !m.accepted[w.session.ID]:
		m.accepted[w.session.ID] = true
		to.add(Info{ID: w.session.ID, Gen: w.session.Gen, Confirmed: true, Reset: w.session.Reset, Created: to.now})
	default:
		m.send(1-w.from, true) // repair
	}
}

// Whatever happened before, two devices that go on talking soon send on the
// same session and open no more.
func TestChooseConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{accepted: map[protocol.SessionID]bool{}}
		skew := rapid.Int64Range(-7200, 7200).Draw(t, "skew")
		m.sides[0].now, m.sides[1].now = start, start.Add(time.Duration(skew)*time.Second)
		for _, act := range rapid.SliceOfN(rapid.IntRange(0, 19), 0, 60).Draw(t, "acts") {
			who := act % 2
			switch act / 2 {
			case 0, 1, 2:
				m.send(who, false)
			case 3, 4, 5, 6:
				if len(m.flying) > 0 {
					m.deliver(rapid.IntRange(0, len(m.flying)-1).Draw(t, "which"))
				}
			case 7:
				m.sides[who].sessions = nil // a store lost
			case 8:
				s := &m.sides[who]
				s.sessions = s.sessions[:len(s.sessions)/2] // a store rolled back
			case 9:
				for i := range m.sides {
					m.sides[i].now = m.sides[i].now.Add(time.Second)
				}
			}
		}
		m.calmDown(t)
	})
}

func (m *model) calmDown(t *rapid.T) {
	for range 8 {
		m.opened = 0
		for range 2 {
			for i := range m.sides {
				m.sides[i].now = m.sides[i].now.Add(time.Second)
				m.send(i, false)
			}
			for n := 0; len(m.flying) > 0; n++ {
				m.deliver(0)
				if n > 1000 {
					t.Fatal("repairs do not end")
				}
			}
		}
		if m.opened == 0 && m.chosen(t, 0) == m.chosen(t, 1) {
			return
		}
	}
	t.Fatalf("no agreement:\n%+v\n%+v", m.sides[0].sessions, m.sides[1].sessions)
}

func (m *model) chosen(t *rapid.T, who int) protocol.SessionID {
	s := m.sides[who]
	i, ok := Choose(s.now, s.sessions)
	if !ok {
		return protocol.SessionID{byte(who + 1)} // each other's
	}
	return s.sessions[i].ID
}
