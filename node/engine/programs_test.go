package engine

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// What the program around an engine does.

// settle lets everything happen that can happen now, and what is due within
// the next second.
func (w *world) settle() {
	w.t.Helper()
	for round := 0; ; round++ {
		busy := false
		for _, n := range w.nodes {
			busy = n.step() || busy
		}
		if !busy {
			return
		}
		if round > 2000 {
			w.t.Fatalf("the world does not settle")
		}
		w.now = w.now.Add(20 * time.Millisecond)
	}
}

// pass lets time pass, with everything that happens meanwhile.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		for _, n := range w.nodes { // what was refused is tried again
			n.view(func(tx store.Tx) error {
				list, err := n.e.QueuedDevices(tx)
				n.hint.Merge(Hint{Outbox: list})
				if err != nil {
					return err
				}
				n.hint.Rooms, err = n.e.RoomsToFollow(tx)
				return err
			})
		}
		w.settle()
		next := w.now.Add(10 * time.Minute)
		if next.After(end) {
			next = end
		}
		for _, n := range w.nodes {
			if !n.next.IsZero() && n.next.Before(next) {
				next = n.next
			}
		}
		w.now = maxTime(next, w.now.Add(time.Millisecond))
	}
	w.settle()
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// step does what a node does when it is woken, and tells whether it did
// anything.
func (n *node) step() bool {
	n.w.t.Helper()
	busy := false
	if n.hint.Tick || n.next.IsZero() || !n.w.now.Before(n.next.Add(-time.Second)) {
		if due := !n.next.IsZero() && !n.w.now.Before(n.next); due || n.hint.Tick || n.next.IsZero() {
			n.tick()
		}
		busy = !n.w.now.Before(n.next.Add(-time.Second))
	}
	h := n.hint
	n.hint = Hint{NewRSA: h.NewRSA}
	if n.offline {
		n.hint.Lookup, n.hint.Refresh, n.hint.Prekeys, n.hint.Rooms = h.Lookup, h.Refresh, h.Prekeys, h.Rooms
	} else {
		n.w.home.seen[n.account()] = n.w.now
		for _, id := range h.Rooms {
			busy = n.followRoom(id) || busy
		}
		busy = n.look(h) || busy
		if h.Log {
			n.followLog()
			busy = true
		}
		if h.Prekeys {
			n.syncPrekeys()
		}
		busy = n.fetch() || busy
	}
	for _, d := range h.Outbox {
		if n.flush(d) {
			busy = true
		} else {
			n.hint.outbox(d)
		}
	}
	return busy
}

func (n *node) tick() {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (h Hint, err error) {
		n.next, h, err = n.e.Tick(tx, n.w.now)
		return h, err
	})
	if !n.next.IsZero() {
		n.next = n.next.Add(-n.skew)
	}
	n.hint.Tick = false
}

func (n *node) look(h Hint) bool {
	n.w.t.Helper()
	busy := false
	for prekeys, list := range map[bool][]protocol.AccountID{true: h.Lookup, false: h.Refresh} {
		for _, a := range list {
			n.lookUp(a, prekeys)
			busy = true
		}
	}
	return busy
}

func (n *node) lookUp(a protocol.AccountID, prekeys bool) {
	n.w.t.Helper()
	f := n.w.home.prove(n, n.w.home.lookAccount(a, prekeys))
	if n.w.home.guests[a] != nil && a != n.account() && !n.w.home.share(n.account(), a) {
		f = nil
	}
	if f == nil {
		n.lookupFailed(a, protocol.Refuse(protocol.UnknownAccount, ""))
		return
	}
	err := n.update(func(tx store.Tx) (Hint, error) { return n.e.SetAccount(tx, n.w.now, n.w.now, f) })
	if err != nil {
		n.lookupFailed(a, err)
	}
}

func (n *node) lookupFailed(a protocol.AccountID, cause error) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.LookupFailed(tx, n.w.now, a, cause) })
}

// flush sends what is queued for a device, directly or to its mailbox. False:
// neither can be reached now.
func (n *node) flush(to protocol.DeviceID) bool {
	n.w.t.Helper()
	var queue []Queued
	n.view(func(tx store.Tx) (err error) {
		queue, err = n.e.Queue(tx, n.w.now, to, 0, 1<<20, 64)
		return err
	})
	peer := n.w.nodeOf(to)
	direct := peer != nil && n.reaches(peer)
	if !direct && n.offline {
		return false
	}
	for _, q := range queue {
		n.sent = append(n.sent, q.Envelope)
		if n.tap != nil && peer != nil {
			n.tap(peer, q.Envelope)
		}
		if direct {
			n.deliver(peer, q)
		} else {
			n.putMail(q)
		}
	}
	return true
}

// reaches tells whether there is a direct connection.
func (n *node) reaches(other *node) bool { return !n.away && !other.away && n.side == other.side }

func (w *world) nodeOf(d protocol.DeviceID) *node {
	for _, n := range w.nodes {
		if n.device() == d {
			return n
		}
	}
	return nil
}

// deliver hands an envelope to the peer's engine, and the answer back.
func (n *node) deliver(peer *node, q Queued) {
	n.w.t.Helper()
	what := arrives
	if n.fate != nil {
		what = n.fate()
	}
	switch what {
	case lost:
		return
	case astray:
		n.w.stray = append(n.w.stray, stray{n, peer, q.Envelope})
		return
	case delayed:
		n.putMail(q)
		return
	case repeated:
		peer.receive(q.Envelope, n.device(), Direct)
	}
	code := peer.receive(q.Envelope, n.device(), Direct)
	if what == ackLost {
		return
	}
	n.answered(q, code, peer.offer(n.device(), q.Envelope, code), n.delivered)
}

// offer is what a node gives a device with its refusal.
func (n *node) offer(to protocol.DeviceID, env []byte, code protocol.Code) *wire.Bundle {
	n.w.t.Helper()
	if code != protocol.StaleKey {
		return nil
	}
	id, _, err := session.PeekSession(env)
	n.w.check(err)
	var b *wire.Bundle
	n.update(func(tx store.Tx) (h Hint, err error) { // it may have none to give
		b, err = n.e.GiveBundle(tx, n.w.now, to, id[:])
		return h, err
	})
	return b
}

func (n *node) delivered(q Queued) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.Delivered(tx, n.w.now, q.To, []protocol.EnvelopeID{q.ID}, Direct)
	})
}

func (n *node) putMail(q Queued) {
	n.w.t.Helper()
	n.answered(q, n.w.home.put(n, q), nil, func(q Queued) {
		n.do(func(tx store.Tx) (Hint, error) {
			return n.e.Stored(tx, n.w.now, q.To, []protocol.EnvelopeID{q.ID})
		})
	})
}

func (n *node) answered(q Queued, code protocol.Code, offer *wire.Bundle, ok func(Queued)) {
	n.w.t.Helper()
	if code == protocol.OK {
		ok(q)
		return
	}
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.Refused(tx, n.w.now, q.To, q.ID, protocol.Refuse(code, ""), offer)
	})
}

// receive is what a node does with an envelope that came.
func (n *node) receive(env []byte, from protocol.DeviceID, via Path) protocol.Code {
	n.w.t.Helper()
	o, err := n.openFrom(from, env)
	if need, ok := errors.AsType[*NeedAccount](err); ok {
		n.lookUp(need.Account, false)
		o, err = n.openFrom(from, env)
	}
	if refusal, ok := errors.AsType[*protocol.Error](err); ok {
		return refusal.Code
	}
	if errors.As(err, new(*NeedAccount)) {
		return protocol.Unavailable
	}
	n.w.check(err)
	var code protocol.Code
	n.do(func(tx store.Tx) (h Hint, err error) {
		code, h, err = n.e.Receive(tx, n.w.now, o, via)
		return h, err
	})
	return code
}

func (n *node) open(env []byte) (o Opened, err error) {
	return n.openFrom(protocol.DeviceID{}, env)
}

func (n *node) openFrom(from protocol.DeviceID, env []byte) (o Opened, err error) {
	defer n.clock(threadTime())
	err = n.kv.View(context.Background(), func(tx store.Tx) (err error) {
		o, err = n.e.Open(tx, n.w.now, n.w.now, from, env)
		return err
	})
	return o, err
}

// fetch takes the node's mail.
func (n *node) fetch() bool {
	n.w.t.Helper()
	s := n.w.home.devices[n.device()]
	before := len(s.mail)
	for _, env := range slices.Clone(s.mail) {
		if code := n.receive(env, protocol.DeviceID{}, Mailbox); code == protocol.Unavailable || code == protocol.RateLimited {
			continue
		}
		i := slices.IndexFunc(s.mail, func(m []byte) bool { return &m[0] == &env[0] })
		s.mail = slices.Delete(s.mail, i, i+1)
	}
	return len(s.mail) < before
}

// syncPrekeys uploads what the plan asks for. It returns how many requests it
// made.
func (n *node) syncPrekeys() (requests int) {
	n.w.t.Helper()
	have := n.w.home.counts(n.device())
	for range 3 {
		up := n.plan(have)
		if up == nil {
			return requests
		}
		requests++
		var got *wire.PrekeyCounts
		if got = n.w.home.upload(n.device(), up); got == nil {
			return requests
		}
		if !n.stored(up, got) {
			return requests
		}
		have = got
	}
	n.w.t.Fatalf("uploads do not end")
	return requests
}

func (n *node) plan(have *wire.PrekeyCounts) (up *wire.UploadPrekeys) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (h Hint, err error) {
		up, err = n.e.PrekeyPlan(tx, n.w.now, have)
		return Hint{Tick: true}, err
	})
	return up
}

func (n *node) stored(up *wire.UploadPrekeys, got *wire.PrekeyCounts) (again bool) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (h Hint, err error) {
		again, h, err = n.e.PrekeysStored(tx, n.w.now, up, got)
		return h, err
	})
	return again
}
