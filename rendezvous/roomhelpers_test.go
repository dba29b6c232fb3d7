package rendezvous

import (
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/message"
	"github.com/parley-chat/parley/protocol/wire"
)

// party is a room at a server, and its log as its members have it.
type party struct {
	t   testing.TB
	log []room.Entry
	s   *room.State
}

func (d *device) author() room.Author {
	return room.Author{Account: d.owner, Device: d.id, Key: d.dsk}
}

// newParty makes a room of founder's in which others are members.
func newParty(t testing.TB, founder *device, others ...*device) *party {
	t.Helper()
	s, e, err := room.NewRoom(founder.server.clock.Now(), founder.author(), founder.chain)
	if err != nil {
		t.Fatal(err)
	}
	p := &party{t: t, log: []room.Entry{e}, s: s}
	p.appended(founder, e)
	for _, d := range others {
		p.do(founder, room.Invite{Account: d.owner})
		p.do(d, room.Join{Chain: d.chain.Bytes()})
	}
	return p
}

// write makes the next entry, and appends it nowhere.
func (p *party) write(by *device, op room.Op) room.Entry {
	p.t.Helper()
	_, e, err := p.s.Write(by.server.clock.Now(), by.author(), op)
	if err != nil {
		p.t.Fatal(err)
	}
	return e
}

// do appends an entry that has to be taken.
func (p *party) do(by *device, op room.Op) *wire.RoomAppended {
	p.t.Helper()
	e := p.write(by, op)
	answer := p.appended(by, e)
	s, err := p.s.Extend(e)
	if err != nil {
		p.t.Fatal(err)
	}
	p.s, p.log = s, append(p.log, e)
	return answer
}

func (p *party) appended(by *device, e room.Entry) *wire.RoomAppended {
	p.t.Helper()
	answer := by.must(appendRequest(e)).GetRoomAppended()
	if answer.GetCode() != 0 {
		p.t.Fatalf("entry %d: %v", e.Seq, protocol.Code(answer.GetCode()))
	}
	return answer
}

func (p *party) id() protocol.RoomID { return p.s.Room() }

// message is message number n of a device, in the epoch that the log has now.
func (p *party) message(by *device, number uint64) []byte {
	p.t.Helper()
	h := message.Header{
		View:   message.View{Room: p.id(), Epoch: p.s.Epoch(), Seq: p.s.Seq(), Head: p.s.Head()},
		Device: by.id, Chain: [32]byte{1}, Number: number,
	}
	return sealed(p.t, by.dsk, h)
}

func sealed(t testing.TB, k key.DevicePrivate, h message.Header) []byte {
	t.Helper()
	b, err := message.Sign(k, append(h.Append(nil), make([]byte, 28+64)...))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func appendRequest(e room.Entry) *wire.Request {
	return &wire.Request{Call: &wire.Request_AppendRoom{AppendRoom: &wire.AppendRoom{Entry: e.Bytes()}}}
}

func readRequest(r *wire.ReadRoom) *wire.Request {
	return &wire.Request{Call: &wire.Request_ReadRoom{ReadRoom: r}}
}

func putRoomRequest(id protocol.RoomID, messages ...[]byte) *wire.Request {
	return &wire.Request{Call: &wire.Request_PutRoom{PutRoom: &wire.PutRoom{Room: id[:], Messages: messages}}}
}

func fillRequest(id protocol.RoomID, ranges ...*wire.RoomRange) *wire.Request {
	return &wire.Request{Call: &wire.Request_FillRoom{FillRoom: &wire.FillRoom{Room: id[:], Ranges: ranges}}}
}

func rangeOf(d *device, first, last uint64) *wire.RoomRange {
	return &wire.RoomRange{Device: d.id[:], First: first, Last: last}
}

// read reads a room from an entry and a cursor on.
func (d *device) read(p *party, fromSeq, after uint64) *wire.RoomPage {
	d.t.Helper()
	id := p.id()
	return d.must(readRequest(&wire.ReadRoom{Room: id[:], FromSeq: fromSeq, After: after})).GetRoomPage()
}

// say puts messages and returns what became of each.
func (d *device) say(p *party, messages ...[]byte) (codes []protocol.Code, cursors []uint64) {
	d.t.Helper()
	for _, r := range d.must(putRoomRequest(p.id(), messages...)).GetRoomPutResults().GetResults() {
		codes, cursors = append(codes, protocol.Code(r.GetCode())), append(cursors, r.GetCursor())
	}
	return codes, cursors
}

func messagesOf(page *wire.RoomPage) (list [][]byte) {
	for _, item := range page.GetItems() {
		list = append(list, item.GetMessage())
	}
	return list
}

// awaitRoom waits for a hint that tells of this entry and this message, or later ones.
func (l *linkEnd) awaitRoom(p *party, seq, cursor uint64) {
	l.t.Helper()
	id := p.id()
	l.await("news of the room", func(h *wire.Hint) bool {
		for _, r := range h.GetRooms() {
			if protocol.RoomID(r.GetRoom()) == id && r.GetSeq() >= seq && r.GetCursor() >= cursor {
				return true
			}
		}
		return false
	})
}
