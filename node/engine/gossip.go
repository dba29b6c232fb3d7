package engine

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Heads of the log go along in what contacts send each other, where the
// rendezvous cannot take them out. Two that no one log can have convict it, and
// the evidence goes to all contacts (SPEC "Gossip").

const (
	headEvery    = time.Hour      // between two heads for a device, while the log does not grow
	confirmedFor = 24 * time.Hour // how long a contact's head counts
)

// heardRow is what an account's devices said of the log; of the zero account,
// what was said on the topic.
type heardRow struct {
	at    time.Time           // of the newest head of theirs that is one of our log's
	size  uint64              // its entries
	ahead []byte              // a head of theirs that goes beyond what was read here, to be judged again
	reads uint64              // logReads when it came
	told  protocol.EnvelopeID // the hash of the evidence that went to or came from them
}

func (r *heardRow) encode() []byte {
	e := newRow(64 + len(r.ahead))
	e.time(r.at)
	e.u64(r.size)
	e.bytes(r.ahead)
	e.u64(r.reads)
	e.raw(r.told[:])
	return e.b
}

func (r *heardRow) decode(b []byte) error {
	d := readRow(b)
	r.at, r.size, r.ahead, r.reads = d.time(), d.u64(), d.bytes(), d.u64()
	d.fixed(r.told[:])
	return d.end("heard")
}

func keyHeard(a protocol.AccountID) []byte { return store.Key(tableHeard, a[:]) }

// LogHead returns the newest head of the log that was accepted; the zero head if
// there is none.
func (e *Engine) LogHead(tx store.Tx) (directory.Head, error) {
	b, err := get(tx, e.keyLog())
	if err != nil || b == nil {
		return directory.Head{}, err
	}
	if held := e.held.Load(); held != nil && bytes.Equal(held.Bytes(), b) { // its signature was checked
		return *held, nil
	}
	v, err := e.logView(tx)
	if err == nil {
		e.held.Store(&v.Head)
	}
	return v.Head, err
}

// withHead adds the head of the log to what is sealed for a contact's device or
// another one of ours: when the log has grown since the last time, else once an
// hour. A zero headSent makes it the next content, whichever that is.
func (w *work) withHead(d *deviceRow, plain []byte) ([]byte, error) {
	p, err := w.peer(d.account)
	if err != nil || !p.close() {
		return plain, err
	}
	head, err := w.e.LogHead(w.tx)
	if err != nil || head.IsZero() || head.Size == d.headSize && waits(w.now, d.headSent.Add(headEvery), headEvery) {
		return plain, err
	}
	d.headSent, d.headSize = w.now, head.Size
	more, err := proto.Marshal(&wire.Content{LogHead: head.Bytes()}) // encodings of one message add up
	if err != nil {
		return nil, fmt.Errorf("encode head of the log: %w", err)
	}
	return slices.Concat(plain, more), nil
}

// hear takes in what a content says of the log, whatever else it says. What is
// of another log, or wrong, is nothing.
func (w *work) hear(in *incoming) error {
	if !in.p.listed() && in.p.relation != Self {
		return nil
	}
	if b := in.content.GetEvidence(); len(b) > 0 {
		if err := w.hearEvidence(in.d.account, in.p, b); err != nil {
			return err
		}
	}
	if len(in.content.GetLogHead()) == 0 {
		return nil
	}
	v, err := w.e.logView(w.tx)
	if err != nil {
		return err
	}
	h, err := v.Log.Open(in.content.GetLogHead())
	if err != nil {
		return nil
	}
	found, err := w.hearHead(in.d.account, h)
	if found == headAhead {
		in.d.headSent, in.owed = time.Time{}, true // they have read what we have not, and can judge ours
	}
	return err
}

// HeardHead takes in a head of the log that was heard on the topic.
func (e *Engine) HeardHead(tx store.Tx, now time.Time, h directory.Head) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	if _, err := w.hearHead(protocol.AccountID{}, h); err != nil {
		return Hint{}, err
	}
	return w.end()
}

// hearHead judges a head that an account's device showed, and remembers what
// came of it.
func (w *work) hearHead(from protocol.AccountID, h directory.Head) (verdict, error) {
	r, _, err := load[heardRow](w.tx, keyHeard(from))
	if err != nil {
		return 0, err
	}
	again := bytes.Equal(r.ahead, h.Bytes())
	reads := r.reads
	if !again {
		if reads, err = w.logReads(); err != nil {
			return 0, err
		}
	}
	found, err := w.judgeHead(h, reads)
	if err != nil {
		return found, err
	}
	before := r.encode()
	switch {
	case found != headAhead && again:
		r.ahead = nil
	case found == headAhead && len(r.ahead) == 0: // else the one that waits longer will tell
		r.ahead, r.reads = h.Bytes(), reads
	}
	if at := earlier(h.Time, w.now); found == headSame && at.After(r.at) {
		r.at, r.size = at, h.Size
	}
	return found, w.save(keyHeard(from), r.encode(), before)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// judgeHeard judges again the heads that went beyond what had been read: more
// was.
func (w *work) judgeHeard(log directory.Log) error {
	waiting := map[protocol.AccountID][]byte{}
	err := all(w.tx, []byte{tableHeard}, func(pair store.Pair) (bool, error) {
		r, err := decodeRow[heardRow](pair.Value)
		if len(r.ahead) > 0 {
			waiting[protocol.AccountID(pair.Key[1:])] = r.ahead
		}
		return true, err
	})
	if err != nil {
		return err
	}
	for from, b := range waiting {
		h, err := log.Open(b)
		if err != nil {
			return fmt.Errorf("heard row: %w", store.ErrDamaged)
		}
		if _, err := w.hearHead(from, h); err != nil {
			return err
		}
	}
	return nil
}

// Standing is what there is to say for the key of a contact besides comparing
// numbers.
type Standing struct {
	Since     time.Time            // the account has had no other key since then, as far as this device knows
	Entry     uint64               // the newest one of it in the log, from 0
	Logged    bool                 // there is one
	Confirmed []protocol.AccountID // contacts who were shown the same log in the last 24 h
}

// Standing returns what there is to say for a contact's key; ErrNotFound if there
// is no such contact.
func (e *Engine) Standing(tx store.Tx, now time.Time, a protocol.AccountID) (s Standing, err error) {
	p, ok, err := load[peerRow](tx, keyPeer(a))
	if err != nil {
		return s, err
	}
	if !ok {
		return s, ErrNotFound
	}
	if s.Since = p.since; p.recoveredAt.After(s.Since) {
		s.Since = p.recoveredAt
	}
	v, err := e.logView(tx)
	if err != nil {
		return s, err
	}
	m, err := e.mirrored(tx, v.Log)
	if err != nil {
		return s, err
	}
	leaf, index, ok, err := m.Newest(directory.Label(v.Log.Origin(), p.name))
	if err != nil {
		return s, err
	}
	s.Entry, s.Logged = index, ok && leaf.Account == a
	since := now.Add(-confirmedFor)
	if m.accepted.After(since) { // before, it was another log
		since = m.accepted
	}
	s.Confirmed, err = confirmedSince(tx, since, s.Entry)
	return s, err
}

// confirmedSince lists the contacts who showed a newer head of our log, with an
// entry in it.
func confirmedSince(tx store.Tx, since time.Time, entry uint64) (list []protocol.AccountID, err error) {
	err = all(tx, []byte{tableHeard}, func(pair store.Pair) (bool, error) {
		r, err := decodeRow[heardRow](pair.Value)
		if err != nil || !r.at.After(since) || r.size <= entry {
			return true, err
		}
		a := protocol.AccountID(pair.Key[1:])
		p, ok, err := load[peerRow](tx, keyPeer(a))
		if err == nil && ok && p.relation == Accepted {
			list = append(list, a)
		}
		return true, err
	})
	return list, err
}
