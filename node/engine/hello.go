package engine

import (
	"crypto/rand"
	"errors"

	"github.com/parley-chat/parley/protocol/proof"
	"github.com/parley-chat/parley/store"
)

// Hello is what the rendezvous is told at connecting and while sessions are in
// use, so that a copy of the store, or one that was set back, shows: the counter
// grows with every welcome, and the start is random.
type Hello struct {
	StoreID [16]byte
	Ctr     uint64
	Start   [16]byte
	Sig     []byte // by the device's signing key
}

// startRow is the last Hello.
type startRow struct {
	ctr      uint64
	start    [16]byte
	welcomed bool
	refused  bool // as a copy, or as one that was set back
}

func (r *startRow) encode() []byte {
	e := newRow(25)
	e.u64(r.ctr)
	e.raw(r.start[:])
	e.bool(r.welcomed, r.refused)
	return e.b
}

func (r *startRow) decode(b []byte) error {
	d := readRow(b)
	r.ctr = d.u64()
	d.fixed(r.start[:])
	d.bool(&r.welcomed, &r.refused)
	return d.end("start")
}

// ErrTurnedAway: the rendezvous took this store for a copy, or for one that was
// set back. It has to become a new device.
var ErrTurnedAway = errors.New("the rendezvous took this store for a copy, or for one that was set back")

// Hello returns what to tell the rendezvous. It is the same until Welcomed, so
// that it can be told again after an answer was lost. Call it when the
// connection is there, and let the transaction commit before it is sent.
// ErrTurnedAway after TurnedAway.
func (e *Engine) Hello(tx store.Tx, rendezvousPeer []byte) (Hello, error) {
	r, ok, err := load[startRow](tx, store.Key(tableStarts))
	if err != nil {
		return Hello{}, err
	}
	if r.refused {
		return Hello{}, ErrTurnedAway
	}
	if !ok || r.welcomed {
		e.moved.Store(false)
		r.ctr++
		r.welcomed = false
		rand.Read(r.start[:])
		if err := tx.Set(store.Key(tableStarts), r.encode()); err != nil {
			return Hello{}, err
		}
	}
	said := proof.Hello{Device: e.id.Device, StoreID: e.id.StoreID, Counter: r.ctr, Start: r.start, Rendezvous: rendezvousPeer}
	sig, err := said.Sign(e.id.DSK)
	return Hello{StoreID: said.StoreID, Ctr: said.Counter, Start: said.Start, Sig: sig}, err
}

// HelloDue tells whether sessions moved on since the last hello was made: a
// state of the store from before must not be taken for this one.
func (e *Engine) HelloDue() bool { return e.moved.Load() }

// Welcomed notes that the rendezvous took h. The next Hello is another.
func (e *Engine) Welcomed(tx store.Tx, h Hello) error {
	r, ok, err := load[startRow](tx, store.Key(tableStarts))
	if err != nil || !ok || r.ctr != h.Ctr || r.start != h.Start || r.welcomed {
		return err
	}
	r.welcomed = true
	return tx.Set(store.Key(tableStarts), r.encode())
}

// TurnedAway notes that the rendezvous took the store for a copy, or for one
// that was set back. From here on nothing is sealed or handed out, also after a
// restart, until another device took the place of this one.
func (e *Engine) TurnedAway(tx store.Tx) error {
	r, ok, err := load[startRow](tx, store.Key(tableStarts))
	if err != nil || !ok {
		return err
	}
	e.stopped.Store(true)
	r.refused = true
	return tx.Set(store.Key(tableStarts), r.encode())
}
