package embedded

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func roomKey(r protocol.RoomID) []byte                         { return store.Key('R', r[:]) }
func roomEntryKey(r protocol.RoomID, seq uint64) []byte        { return store.Key('G', r[:], seq) }
func roomMailKey(r protocol.RoomID, cursor uint64) []byte      { return store.Key('M', r[:], cursor) }
func inRoomPrefix(a protocol.AccountID) []byte                 { return store.Key('A', a[:]) }
func inRoomKey(a protocol.AccountID, r protocol.RoomID) []byte { return store.Key('A', a[:], r[:]) }
func madeKey(a protocol.AccountID) []byte                      { return store.Key('C', a[:]) }

func roomNumberKey(r protocol.RoomID, d protocol.DeviceID, number uint64) []byte {
	return store.Key('N', r[:], d[:], number)
}

func roomUsageKey(r protocol.RoomID, a protocol.AccountID) []byte {
	return store.Key('U', r[:], a[:])
}

// roomRow is the state of a room.
type roomRow struct {
	creator  protocol.AccountID
	seq      uint64 // of the newest entry
	head     [32]byte
	logBytes uint64
	members  uint64

	count, bytes uint64    // of the messages
	cursor       uint64    // of the newest message there ever was
	first        uint64    // no message before it
	earliest     time.Time // no message expires before; meaningless when there is none
}

func (m *roomRow) encode(w *writer) {
	w.fixed(m.creator[:])
	w.num(m.seq)
	w.fixed(m.head[:])
	for _, n := range []uint64{m.logBytes, m.members, m.count, m.bytes, m.cursor, m.first} {
		w.num(n)
	}
	w.time(m.earliest)
}

func (m *roomRow) decode(r *reader) {
	r.fixed(m.creator[:])
	m.seq = r.num()
	r.fixed(m.head[:])
	for _, n := range []*uint64{&m.logBytes, &m.members, &m.count, &m.bytes, &m.cursor, &m.first} {
		*n = r.num()
	}
	m.earliest = r.time()
}

func (m *roomRow) room(id protocol.RoomID) store.Room {
	return store.Room{
		ID: id, Seq: m.seq, Head: m.head, LogBytes: int(m.logBytes),
		Cursor: m.cursor, Mail: store.Usage{Count: int(m.count), Bytes: int(m.bytes)},
	}
}

type roomEntryRow struct {
	cursor uint64
	entry  []byte
}

func (e *roomEntryRow) encode(w *writer) { w.num(e.cursor); w.bytes(e.entry) }
func (e *roomEntryRow) decode(r *reader) { e.cursor, e.entry = r.num(), r.bytes() }

type roomMailRow struct {
	device  protocol.DeviceID
	number  uint64
	by      protocol.AccountID
	expires time.Time
	message []byte
}

func (m *roomMailRow) encode(w *writer) {
	w.fixed(m.device[:])
	w.num(m.number)
	w.fixed(m.by[:])
	w.time(m.expires)
	w.bytes(m.message)
}

func (m *roomMailRow) decode(r *reader) {
	r.fixed(m.device[:])
	m.number = r.num()
	r.fixed(m.by[:])
	m.expires = r.time()
	m.message = r.bytes()
}

type roomNumberRow struct {
	cursor uint64
	id     protocol.EnvelopeID
}

func (n *roomNumberRow) encode(w *writer) { w.num(n.cursor); w.fixed(n.id[:]) }
func (n *roomNumberRow) decode(r *reader) { n.cursor = r.num(); r.fixed(n.id[:]) }
