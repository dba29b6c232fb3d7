package engine

import (
	"bytes"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// pairRow is one of our prekeys with its private half.
type pairRow struct {
	keepUntil time.Time
	pair      []byte
}

func (r *pairRow) encode() []byte {
	e := newRow(10 + len(r.pair))
	e.time(r.keepUntil)
	e.bytes(r.pair)
	return e.b
}

func (r *pairRow) decode(b []byte) error {
	d := readRow(b)
	r.keepUntil, r.pair = d.time(), bytes.Clone(d.bytes())
	return d.end("prekey")
}

// prekeysRow is the state of our published keys. The stock rows list the
// one-time prekeys in the order of upload; the rendezvous hands out the oldest
// first, so what it has left is always the newest of them.
type prekeysRow struct {
	signed         protocol.PrekeyID // the newest; zero: none yet
	signedPending  bool              // not confirmed by the rendezvous
	signedUsed     bool              // a session was opened with it
	liveAt         time.Time         // when the newest was made that the rendezvous confirmed; zero: none
	signedAt       time.Time
	rotateAt       time.Time
	fallback       bool   // the newest signed one served as the last resort,
	fallbacks      uint32 // this often
	rsaWanted      bool   // asked for by the user, not yet made
	rsaRotateAt    time.Time
	rsaLive        [32]byte // the one that the rendezvous last confirmed
	published, cap uint32
	lastUpload     time.Time
	problem        string
	uploads        uint64    // number of the newest one-time prekey
	kept           uint32    // one-time rows
	resetting      bool      // an upload with reset is not confirmed yet
	resetAt        time.Time // when the stock was last replaced
	conflicts      uint8     // uploads with conflicts in a row
	conflictAt     time.Time // the last one
	notBefore      time.Time // no upload is planned before this
}

func (r *prekeysRow) encode() []byte {
	e := newRow(192 + len(r.problem))
	e.raw(r.signed[:])
	e.bool(r.signedPending, r.fallback, r.resetting, r.rsaWanted, r.signedUsed)
	e.u32(r.fallbacks)
	e.time(r.liveAt)
	e.time(r.rsaRotateAt)
	e.raw(r.rsaLive[:])
	e.time(r.signedAt)
	e.time(r.rotateAt)
	e.u32(r.published)
	e.u32(r.cap)
	e.time(r.lastUpload)
	e.string(r.problem)
	e.u64(r.uploads)
	e.u32(r.kept)
	e.time(r.resetAt)
	e.u8(r.conflicts)
	e.time(r.conflictAt)
	e.time(r.notBefore)
	return e.b
}

func (r *prekeysRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.signed[:])
	d.bool(&r.signedPending, &r.fallback, &r.resetting, &r.rsaWanted, &r.signedUsed)
	r.fallbacks = d.u32()
	r.liveAt, r.rsaRotateAt = d.time(), d.time()
	d.fixed(r.rsaLive[:])
	r.signedAt, r.rotateAt = d.time(), d.time()
	r.published, r.cap = d.u32(), d.u32()
	r.lastUpload = d.time()
	r.problem = d.string()
	r.uploads = d.u64()
	r.kept = d.u32()
	r.resetAt = d.time()
	r.conflicts = d.u8()
	r.conflictAt = d.time()
	r.notBefore = d.time()
	return d.end("prekeys")
}
