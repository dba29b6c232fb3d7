package engine

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
)

// work is one call of the engine inside one transaction. The rows that several
// steps of a call read and change are read once and written at the end, if
// they changed.
type work struct {
	e    *Engine
	tx   store.Tx
	now  time.Time
	hint Hint

	counts   loaded[countsRow]
	peers    map[protocol.AccountID]*loaded[peerRow]
	devices  map[protocol.DeviceID]*loaded[deviceRow]
	sessions map[protocol.SessionID]*loadedSession
	receipts map[receiptKey]*loaded[receiptRow]
	rooms    map[protocol.RoomID]*openRoom
	alarmed  *bool                // whether an alarm of the log stands; nil: not read yet
	changed  []protocol.AccountID // contacts that changed: our other devices are told at the end

	spent int // bytes written
}

// loaded is a row and the bytes it was read from; nil if there was none.
type loaded[R any] struct {
	row  R
	read []byte
}

type loadedSession struct {
	state   session.State
	read    []byte
	dropped bool
}

// batch bounds what one transaction moves of a queue of any length: well below
// store.MaxTx with a row of the greatest size on top. The rest is left to Tick.
const (
	batchRows  = 128
	batchBytes = 512 << 10
)

func (w *work) full(rows int) bool { return rows >= batchRows || w.spent >= batchBytes }

func (e *Engine) begin(tx store.Tx, now time.Time) (*work, error) {
	if e.ended.Load() {
		return nil, ErrRevoked
	}
	if e.swapping.Load() {
		return nil, ErrSwapping
	}
	return e.newWork(tx, now)
}

func (e *Engine) newWork(tx store.Tx, now time.Time) (*work, error) {
	w := &work{
		e: e, tx: tx, now: fromMillis(millis(now)), // what rows can hold
		peers:    make(map[protocol.AccountID]*loaded[peerRow], 1),
		devices:  make(map[protocol.DeviceID]*loaded[deviceRow], 1),
		sessions: make(map[protocol.SessionID]*loadedSession, 1),
		receipts: make(map[receiptKey]*loaded[receiptRow], 1),
	}
	b, err := get(tx, store.Key(tableCounts))
	if err != nil {
		return nil, err
	}
	if b != nil {
		w.counts.read = b
		if err := w.counts.row.decode(b); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// end writes what changed and returns what it means for others.
func (w *work) end() (Hint, error) {
	if err := w.tellChanges(); err != nil {
		return Hint{}, err
	}
	for id, p := range w.peers {
		if err := w.save(keyPeer(id), p.row.encode(), p.read); err != nil {
			return Hint{}, err
		}
	}
	for id, d := range w.devices {
		if err := w.save(keyDevice(id), d.row.encode(), d.read); err != nil {
			return Hint{}, err
		}
	}
	for id, s := range w.sessions {
		if err := w.saveSession(id, s); err != nil {
			return Hint{}, err
		}
	}
	for _, r := range w.rooms {
		if err := w.saveRoom(r); err != nil {
			return Hint{}, err
		}
	}
	for id, r := range w.receipts {
		if err := w.saveReceipts(id, r); err != nil {
			return Hint{}, err
		}
	}
	if err := w.save(store.Key(tableCounts), w.counts.row.encode(), w.counts.read); err != nil {
		return Hint{}, err
	}
	if w.e.isGuest() { // it has no list, and its rendezvous shows it no log
		w.hint.Contacts, w.hint.Log = false, false
	}
	return w.hint, nil
}

func (w *work) save(key, row, read []byte) error {
	if bytes.Equal(row, read) {
		return nil
	}
	return w.set(key, row)
}

func (w *work) saveSession(id protocol.SessionID, s *loadedSession) error {
	if s.dropped {
		return w.delete(keySession(id))
	}
	return w.save(keySession(id), s.state.Marshal(), s.read)
}

// count is the row of counters.
func (w *work) count() *countsRow { return &w.counts.row }

// peer returns what is known about an account. Of an unknown one it returns
// ErrNotFound; add makes it known.
func (w *work) peer(a protocol.AccountID) (*peerRow, error) {
	if p, ok := w.peers[a]; ok {
		return &p.row, nil
	}
	b, err := get(w.tx, keyPeer(a))
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, ErrNotFound
	}
	p := &loaded[peerRow]{read: b}
	if err := p.row.decode(b); err != nil {
		return nil, err
	}
	w.peers[a] = p
	return &p.row, nil
}

func (w *work) addPeer(a protocol.AccountID, p peerRow) *peerRow {
	w.peers[a] = &loaded[peerRow]{row: p}
	return &w.peers[a].row
}

// device is peer for devices.
func (w *work) device(id protocol.DeviceID) (*deviceRow, error) {
	if d, ok := w.devices[id]; ok {
		return &d.row, nil
	}
	b, err := get(w.tx, keyDevice(id))
	if err != nil {
		return nil, err
	}
	if b == nil {
		return nil, ErrNotFound
	}
	d := &loaded[deviceRow]{read: b}
	if err := d.row.decode(b); err != nil {
		return nil, err
	}
	w.devices[id] = d
	return &d.row, nil
}

func (w *work) addDevice(id protocol.DeviceID, d deviceRow) *deviceRow {
	w.devices[id] = &loaded[deviceRow]{row: d}
	return &w.devices[id].row
}

// session returns a session, if there is one of this id.
func (w *work) session(id protocol.SessionID) (s session.State, ok bool, err error) {
	if l, ok := w.sessions[id]; ok {
		return l.state, !l.dropped, nil
	}
	b, err := get(w.tx, keySession(id))
	if err != nil || b == nil {
		return s, false, err
	}
	if s, err = session.ParseState(b); err != nil || s.ID() != id {
		return s, false, fmt.Errorf("session row: %w", store.ErrDamaged)
	}
	w.sessions[id] = &loadedSession{state: s, read: b}
	return s, true, nil
}

// setSession keeps the next state of a session.
func (w *work) setSession(s session.State) {
	w.e.moved.Store(true)
	if old, ok := w.sessions[s.ID()]; ok {
		old.state, old.dropped = s, false
		return
	}
	w.sessions[s.ID()] = &loadedSession{state: s}
}

func (w *work) dropSession(id protocol.SessionID) {
	w.sessions[id] = &loadedSession{dropped: true}
}

// put writes a row.
func (w *work) put(key []byte, r row) error { return w.set(key, r.encode()) }

func (w *work) set(key, value []byte) error {
	w.spent += store.Cost(key, value)
	return w.tx.Set(key, value)
}

func (w *work) delete(key []byte) error {
	w.spent += store.Cost(key, nil)
	return w.tx.Delete(key)
}

// get is tx.Get with nil for a row that is not there.
func get(tx store.Tx, key []byte) ([]byte, error) {
	b, err := tx.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// load reads a row; ok is false if it is not there.
func load[R any, P interface {
	*R
	row
}](tx store.Tx, key []byte) (r R, ok bool, err error) {
	b, err := get(tx, key)
	if err != nil || b == nil {
		return r, false, err
	}
	r, err = decodeRow[R, P](b)
	return r, err == nil, err
}

// all yields the pairs below a prefix, ascending.
func all(tx store.Tx, prefix []byte, yield func(store.Pair) (bool, error)) error {
	for pair, err := range tx.Scan(prefix, store.PrefixEnd(prefix)) {
		if err != nil {
			return err
		}
		if more, err := yield(pair); err != nil || !more {
			return err
		}
	}
	return nil
}
