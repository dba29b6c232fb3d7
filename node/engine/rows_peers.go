package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/session"
)

// peerRow is an account we know: a contact, somebody who asked, or a visitor
// whose directory record we needed. Together with the device rows it is what
// the hot path reads, so the chain and the certificates are kept elsewhere.
type peerRow struct {
	relation Relation
	before   Relation // of a blocked account: what unblocking restores
	verified bool
	changed  bool // the rendezvous said that the chain changed
	known    bool // was a contact or asked to be one; else forgotten after a day

	name, display, note string
	since, checked      time.Time
	lookupAt            time.Time // no look-up is asked for before this
	tries               uint8     // failed look-ups in a row
	problem             string    // of the last look-up
	problemAt           time.Time
	alarm               string // the notice that was made of it, so that it is made once

	position uint64 // of the newest row of the conversation
	readTo   uint64 // read receipts are queued up to here
	readWant uint64 // and are wanted up to here
	unread   uint32
	queued   uint32         // own messages in StateQueued
	request  protocol.MsgID // our contact request, until it is answered

	devices []peerDevice // certified and not revoked at the last check

	changedAt   time.Time // of what other devices of ours must know too; the latest wins
	elsewhere   bool      // another device of ours made the last change
	hintedAt    time.Time // when it was last said that the chain changed
	head        [16]byte  // of the chain
	recoveries  uint32    // in the chain
	looked      uint32    // recoveries that the user has looked at
	recoveredAt time.Time // when the last recovery was learned of
}

// held tells that nothing is sent until the user has looked: the account of a
// verified contact was recovered, which whoever has the recovery words can do.
func (p *peerRow) held() bool { return p.verified && p.recoveries > p.looked }

// paused tells that nothing is sent for now, and why.
func (p *peerRow) paused() (why string, ok bool) {
	switch {
	case p.held():
		return "their account was recovered; verify them again or accept the change", true
	case p.changed:
		return "their keys changed; asking the directory", true
	}
	return "", false
}

// close tells that contents of any kind go both ways: a contact, or a device of
// our own.
func (p *peerRow) close() bool { return p.relation == Accepted || p.relation == Self }

type peerDevice struct {
	id       protocol.DeviceID
	notAfter time.Time
}

// relations in the order of wire.Relation, then Self.
var relations = []Relation{Stranger, Requested, Incoming, Accepted, Blocked, Self}

func (p *peerRow) encode() []byte {
	e := newRow(220 + len(p.name) + len(p.display) + len(p.note) + len(p.problem) + 40*len(p.devices))
	e.u8(indexOf(relations, p.relation))
	e.u8(indexOf(relations, p.before))
	e.bool(p.verified, p.changed, p.known)
	e.string(p.name)
	e.string(p.display)
	e.string(p.note)
	e.time(p.since)
	e.time(p.checked)
	e.time(p.lookupAt)
	e.u8(p.tries)
	e.string(p.problem)
	e.time(p.problemAt)
	e.string(p.alarm)
	e.u64(p.position)
	e.u64(p.readTo)
	e.u64(p.readWant)
	e.u32(p.unread)
	e.u32(p.queued)
	e.raw(p.request[:])
	e.u8(uint8(len(p.devices)))
	for _, d := range p.devices {
		e.raw(d.id[:])
		e.time(d.notAfter)
	}
	e.time(p.changedAt)
	e.time(p.hintedAt)
	e.time(p.recoveredAt)
	e.raw(p.head[:])
	e.u32(p.recoveries)
	e.u32(p.looked)
	e.bool(p.elsewhere)
	return e.b
}

func (p *peerRow) decode(b []byte) error {
	d := readRow(b)
	p.relation, p.before = at(d, relations), at(d, relations)
	d.bool(&p.verified, &p.changed, &p.known)
	p.name, p.display, p.note = d.string(), d.string(), d.string()
	p.since, p.checked, p.lookupAt = d.time(), d.time(), d.time()
	p.tries = d.u8()
	p.problem, p.problemAt = d.string(), d.time()
	p.alarm = d.string()
	p.position, p.readTo, p.readWant = d.u64(), d.u64(), d.u64()
	p.unread, p.queued = d.u32(), d.u32()
	d.fixed(p.request[:])
	p.devices = make([]peerDevice, d.count(40))
	for i := range p.devices {
		d.fixed(p.devices[i].id[:])
		p.devices[i].notAfter = d.time()
	}
	p.changedAt, p.hintedAt, p.recoveredAt = d.time(), d.time(), d.time()
	d.fixed(p.head[:])
	p.recoveries, p.looked = d.u32(), d.u32()
	d.bool(&p.elsewhere)
	return d.end("contact")
}

// deviceRow is one device of an account we know.
type deviceRow struct {
	account protocol.AccountID
	revoked bool

	sentSeq uint64    // Content.seq of the last text to it
	next    uint64    // Content.seq expected from it; 0: take the first that comes
	held    uint32    // texts that came early and wait in held rows
	waiting uint32    // contents that wait for a session
	run     uint32    // contents received since we last sent
	heard   time.Time // when a content of it was last received, to the minute
	resent  time.Time // when kept contents were last sealed anew because it was heard of

	sessions []knownSession
	highest  uint64 // greatest generation ever known with it

	headSent time.Time // when it was last sent a head of the log,
	headSize uint64    // of so many entries

	repair    session.Repair
	repairing bool               // a new session with reset is wanted, and a bundle for it
	renewing  bool               // a new session is wanted in place of one that works
	failed    protocol.SessionID // the session whose message did not open
	reseal    uint64             // contents queued before this number are to be sealed anew; 0: none
}

// knownSession is what is needed to choose among sessions.
type knownSession struct {
	session.Info
	until time.Time // of one we opened: when its prekeys expire; unanswered, it is not used after that
	used  time.Time // last, to the minute; zero: never
}

func newDeviceRow(a protocol.AccountID) *deviceRow { return &deviceRow{account: a, next: 1} }

func (r *deviceRow) encode() []byte {
	e := newRow(193 + 49*len(r.sessions))
	e.raw(r.account[:])
	e.bool(r.revoked, r.repairing, r.renewing)
	e.u64(r.sentSeq)
	e.u64(r.next)
	e.u32(r.held)
	e.u32(r.waiting)
	e.u32(r.run)
	e.time(r.heard)
	e.time(r.resent)
	e.u64(r.highest)
	e.time(r.headSent)
	e.u64(r.headSize)
	e.bytes(r.repair.Marshal())
	e.raw(r.failed[:])
	e.u64(r.reseal)
	e.u8(uint8(len(r.sessions)))
	for _, s := range r.sessions {
		e.raw(s.ID[:])
		e.u64(s.Gen)
		e.bool(s.Confirmed, s.Initiator, s.Reset)
		e.time(s.Created)
		e.time(s.until)
		e.time(s.used)
	}
	return e.b
}

func (r *deviceRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.account[:])
	d.bool(&r.revoked, &r.repairing, &r.renewing)
	r.sentSeq, r.next = d.u64(), d.u64()
	r.held, r.waiting, r.run = d.u32(), d.u32(), d.u32()
	r.heard, r.resent = d.time(), d.time()
	r.highest = d.u64()
	r.headSent, r.headSize = d.time(), d.u64()
	repair, err := session.ParseRepair(d.bytes())
	d.bad = d.bad || err != nil
	r.repair = repair
	d.fixed(r.failed[:])
	r.reseal = d.u64()
	r.sessions = make([]knownSession, d.count(49))
	for i := range r.sessions {
		s := &r.sessions[i]
		d.fixed(s.ID[:])
		s.Gen = d.u64()
		d.bool(&s.Confirmed, &s.Initiator, &s.Reset)
		s.Created, s.until, s.used = d.time(), d.time(), d.time()
	}
	return d.end("device")
}
