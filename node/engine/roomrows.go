package engine

import (
	"bytes"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/chain"
	"github.com/parley-chat/parley/store"
)

// roomRow is a room: how far its log and its messages are known here, and its
// conversation.
type roomRow struct {
	stage     RoomStage
	home      Home
	by        protocol.AccountID // who invited; zero: nobody
	name      string             // as the log told it last; before that, who told us of the room
	since     time.Time
	made      bool   // the log begins here, and the rendezvous has not got it
	joining   bool   // the user wants to join
	problem   string // why the rendezvous does not serve the room; empty: it does
	guests    bool   // there are guests, and this account may admit
	askGuests bool   // the rendezvous is to be asked when they were last online
	known     bool   // an entry of the log is here:
	seq       uint64
	head      [32]byte
	toldSeq   uint64 // what who invited has of the log
	toldHead  [32]byte
	aheadSeq  uint64 // an entry that a member signed for and that is not here yet; 0: none
	aheadHead [32]byte
	aheadBy   protocol.DeviceID
	fork      forkState
	accusers  []protocol.AccountID // that named another log since fork was settled, or ever; no guests
	ignored   []protocol.AccountID // that did before, and the user went on: they stop nothing any more

	cursor   uint64 // in the room's mailbox
	position uint64 // of the newest row of the conversation
	readTo   uint64
	unread   uint32
	queued   uint32 // own messages in StateQueued
	sent     uint64 // number of the newest row in out
}

var roomStages = []RoomStage{RoomTold, RoomInvited, RoomJoined, RoomOut}

func (r *roomRow) encode() []byte {
	e := newRow(320 + len(r.name))
	e.u8(indexOf(roomStages, r.stage))
	e.bytes(r.home.Peer)
	e.u8(uint8(min(len(r.home.Addrs), protocol.MaxAddrs)))
	for _, a := range r.home.Addrs[:min(len(r.home.Addrs), protocol.MaxAddrs)] {
		e.string(a)
	}
	e.raw(r.by[:])
	e.string(r.name)
	e.string(r.problem)
	e.time(r.since)
	e.bool(r.made, r.joining, r.known, r.guests, r.askGuests)
	e.u64(r.seq)
	e.raw(r.head[:])
	e.u64(r.toldSeq)
	e.raw(r.toldHead[:])
	e.u64(r.aheadSeq)
	e.raw(r.aheadHead[:])
	e.raw(r.aheadBy[:])
	e.u8(indexOf(forkStates, r.fork))
	for _, accounts := range [][]protocol.AccountID{r.accusers, r.ignored} {
		e.u8(uint8(len(accounts)))
		for _, a := range accounts {
			e.raw(a[:])
		}
	}
	for _, n := range []uint64{r.cursor, r.position, r.readTo, r.sent} {
		e.u64(n)
	}
	e.u32(r.unread)
	e.u32(r.queued)
	return e.b
}

func (r *roomRow) decode(b []byte) error {
	d := readRow(b)
	r.stage = at(d, roomStages)
	r.home.Peer = bytes.Clone(d.bytes())
	for range d.count(1) {
		r.home.Addrs = append(r.home.Addrs, d.string())
	}
	d.fixed(r.by[:])
	r.name, r.problem, r.since = d.string(), d.string(), d.time()
	d.bool(&r.made, &r.joining, &r.known, &r.guests, &r.askGuests)
	r.seq = d.u64()
	d.fixed(r.head[:])
	r.toldSeq = d.u64()
	d.fixed(r.toldHead[:])
	r.aheadSeq = d.u64()
	d.fixed(r.aheadHead[:])
	d.fixed(r.aheadBy[:])
	r.fork = at(d, forkStates)
	for _, accounts := range []*[]protocol.AccountID{&r.accusers, &r.ignored} {
		*accounts = make([]protocol.AccountID, d.count(32))
		for i := range *accounts {
			d.fixed((*accounts)[i][:])
		}
	}
	for _, n := range []*uint64{&r.cursor, &r.position, &r.readTo, &r.sent} {
		*n = d.u64()
	}
	r.unread, r.queued = d.u32(), d.u32()
	return d.end("room")
}

// roomChainRow is what is given to the readers of a room: an own chain, or, with
// an empty distribution, only keys of texts. It goes when everybody has it.
type roomChainRow struct {
	distribution []byte
	epoch        uint64
	since        uint64            // who could read in this epoch has the keys of texts
	next         protocol.DeviceID // go on with this device
	all          bool              // it is queued for all
	left         uint32            // contents with it that are not settled
}

func (r *roomChainRow) encode() []byte {
	e := newRow(72 + len(r.distribution))
	e.bytes(r.distribution)
	e.u64(r.epoch)
	e.u64(r.since)
	e.raw(r.next[:])
	e.bool(r.all)
	e.u32(r.left)
	return e.b
}

func (r *roomChainRow) decode(b []byte) error {
	d := readRow(b)
	r.distribution, r.epoch, r.since = d.bytes(), d.u64(), d.u64()
	d.fixed(r.next[:])
	d.bool(&r.all)
	r.left = d.u32()
	return d.end("chain of a room")
}

// roomReceiverRow is what is known of another device's messages in a room.
type roomReceiverRow struct {
	shown    uint64 // the largest number in the conversation
	seen     uint64 // the largest number that waited for its chain
	waiting  uint32 // messages that wait for their chain
	held     uint32 // messages that came early
	receiver []byte // chain.Receiver
}

func (r *roomReceiverRow) encode() []byte {
	e := newRow(32 + len(r.receiver))
	e.u64(r.shown)
	e.u64(r.seen)
	e.u32(r.waiting)
	e.u32(r.held)
	e.bytes(r.receiver)
	return e.b
}

func (r *roomReceiverRow) decode(b []byte) error {
	d := readRow(b)
	r.shown, r.seen = d.u64(), d.u64()
	r.waiting, r.held = d.u32(), d.u32()
	r.receiver = d.bytes()
	return d.end("sender in a room")
}

// parseChains returns what is known of the device's chains.
func (r *roomReceiverRow) parseChains() (chain.Receiver, error) {
	chains, err := chain.ParseReceiver(r.receiver)
	if err != nil {
		return chains, fmt.Errorf("chains of a sender in a room: %w", store.ErrDamaged)
	}
	return chains, nil
}

// roomOutRow is an own message that is not in the room's mailbox.
type roomOutRow struct {
	position uint64
	epoch    uint64 // that it was sealed in
	sealed   []byte // empty: not yet
	number   uint64 // of sealed
	void     []uint64
	content  []byte // wire.RoomContent of an action, which has no position
}

func (r *roomOutRow) encode() []byte {
	e := newRow(48 + len(r.sealed) + 8*len(r.void))
	e.u64(r.position)
	e.u64(r.epoch)
	e.bytes(r.sealed)
	e.u64(r.number)
	e.u8(uint8(len(r.void)))
	for _, n := range r.void {
		e.u64(n)
	}
	if r.position == 0 {
		e.bytes(r.content)
	}
	return e.b
}

func (r *roomOutRow) decode(b []byte) error {
	d := readRow(b)
	r.position, r.epoch = d.u64(), d.u64()
	r.sealed, r.number = d.bytes(), d.u64()
	r.void = make([]uint64, d.count(8))
	for i := range r.void {
		r.void[i] = d.u64()
	}
	if r.position == 0 {
		r.content = d.bytes()
	}
	return d.end("message to a room")
}

func keyRoom(id protocol.RoomID) []byte       { return store.Key(tableRoom, id[:]) }
func keyRoomSender(id protocol.RoomID) []byte { return store.Key(tableRoomSender, id[:]) }

func keyRoomKey(id protocol.RoomID, k room.KeyID) []byte {
	return store.Key(tableRoomKey, id[:], k[:])
}

// keyRoomItem is for something of a room that is in order: the log, the other log of a
// fork, the entries to be appended, out, and the ages of what is kept for members.
func keyRoomItem(table byte, id protocol.RoomID, number uint64) []byte {
	return store.Key(table, id[:], number)
}

func keyRoomChain(id protocol.RoomID, chain [32]byte) []byte {
	return store.Key(tableRoomChain, id[:], chain[:])
}

func keyRoomReceiver(id protocol.RoomID, d protocol.DeviceID) []byte {
	return store.Key(tableRoomReceiver, id[:], d[:])
}

// keyRoomFrom is for messages of a device in a room: those that wait, that are held, and
// that are kept for members.
func keyRoomFrom(table byte, id protocol.RoomID, d protocol.DeviceID, number uint64) []byte {
	return store.Key(table, id[:], d[:], number)
}

// openRoom is a room as a work has it.
type openRoom struct {
	id    protocol.RoomID
	row   roomRow
	read  []byte
	state *room.State // nil: nothing of the log is here

	sender     *chain.Sender // nil: not read yet
	senderRead []byte
	receivers  map[protocol.DeviceID]*roomReceiver
}

// roomReceiver is a roomReceiverRow as a work has it.
type roomReceiver struct {
	roomReceiverRow
	chains chain.Receiver
	read   []byte
}
