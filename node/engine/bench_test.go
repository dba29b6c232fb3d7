package engine

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// BenchmarkMessage is a text of 1 KiB on an established session: composed,
// received and acknowledged, on stores in memory. The receipts that follow are
// part of it.
func BenchmarkMessage(b *testing.B) {
	w, alice, bob := pair(b)
	w.settle()
	text := strings.Repeat("x", 1<<10)
	ctx := context.Background()
	to, account := bob.device(), bob.account()
	b.ReportAllocs()
	for b.Loop() {
		var q []Queued
		w.check(alice.kv.Update(ctx, func(tx store.Tx) error {
			if _, err := alice.e.Compose(tx, w.now, account, protocol.NewMsgID(), text); err != nil {
				return err
			}
			var err error
			q, err = alice.e.Queue(tx, w.now, to, 0, 1<<20, 1)
			return err
		}))
		o, err := bob.open(q[0].Envelope)
		w.check(err)
		w.check(bob.kv.Update(ctx, func(tx store.Tx) error {
			code, h, err := bob.e.Receive(tx, w.now, o, Direct)
			if code != protocol.OK {
				b.Fatal(code)
			}
			bob.hint.Merge(h)
			return err
		}))
		w.check(alice.kv.Update(ctx, func(tx store.Tx) error {
			_, err := alice.e.Delivered(tx, w.now, to, []protocol.EnvelopeID{q[0].ID}, Direct)
			return err
		}))
		if len(bob.hint.Outbox) > 0 {
			bob.hint.Outbox = nil
			bob.flush(alice.device())
		}
	}
}

// The parts, without the store: transactions that forget what they wrote.

func BenchmarkCompose(b *testing.B) {
	w, alice, bob := pair(b)
	w.settle()
	alice.send(bob, "") // a chain begins; its other messages take no key agreement
	text := strings.Repeat("x", 200)
	account := bob.account()
	tx := freshTx(b, alice)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := alice.e.Compose(tx, w.now, account, protocol.NewMsgID(), text); err != nil {
			b.Fatal(err)
		}
		tx.forget()
	}
}

func BenchmarkReceive(b *testing.B) {
	w, alice, bob := pair(b)
	w.settle()
	alice.send(bob, "")
	alice.send(bob, strings.Repeat("x", 200))
	queue := alice.queue(bob)
	bob.receive(queue[0].Envelope, alice.device(), Direct) // a chain begins
	q := queue[1]
	tx := freshTx(b, bob)
	b.ReportAllocs()
	for b.Loop() {
		o, err := bob.e.Open(tx, w.now, w.now, alice.device(), q.Envelope)
		if err != nil {
			b.Fatal(err)
		}
		if code, _, err := bob.e.Receive(tx, w.now, o, Direct); code != protocol.OK || err != nil {
			b.Fatal(code, err)
		}
		if len(tx.over) < 4 {
			b.Fatal("nothing was received")
		}
		tx.forget()
	}
}

// overTx keeps writes apart from the rows below, so that they can be dropped.
type overTx struct {
	store.Tx
	rows, over map[string][]byte
	keys       []string // of rows, sorted
}

func freshTx(b *testing.B, n *node) *overTx {
	o := &overTx{rows: map[string][]byte{}, over: map[string][]byte{}}
	n.view(func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{0}, nil) {
			if err != nil {
				return err
			}
			o.rows[string(pair.Key)] = pair.Value
			o.keys = append(o.keys, string(pair.Key))
		}
		return nil
	})
	return o
}

func (o *overTx) forget() { clear(o.over) }

func (o *overTx) Get(key []byte) ([]byte, error) {
	if v, ok := o.over[string(key)]; ok {
		return v, nil
	}
	if v, ok := o.rows[string(key)]; ok {
		return v, nil
	}
	return nil, store.ErrNotFound
}

// Scan yields the rows below; no benchmark scans what it wrote.
func (o *overTx) Scan(start, end []byte) iter.Seq2[store.Pair, error] {
	return func(yield func(store.Pair, error) bool) {
		first, _ := slices.BinarySearch(o.keys, string(start))
		for _, k := range o.keys[first:] {
			if k >= string(end) || !yield(store.Pair{Key: []byte(k), Value: o.rows[k]}, nil) {
				return
			}
		}
	}
}

func (o *overTx) Set(key, value []byte) error {
	o.over[string(key)] = value
	return nil
}

func (o *overTx) Delete(key []byte) error {
	delete(o.over, string(key))
	return nil
}

// BenchmarkSession is a session from the look-up's answer to the first message
// received: both ends, on stores in memory.
func BenchmarkSession(b *testing.B) { benchSessions(b, func(*node) {}) }

// BenchmarkSessionRotating is the same with a new signed prekey each time.
func BenchmarkSessionRotating(b *testing.B) {
	benchSessions(b, func(n *node) {
		n.rotate(RotateSigned)
		n.syncPrekeys()
	})
}

func benchSessions(b *testing.B, before func(*node)) {
	w, alice, bob := pair(b)
	w.settle()
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		w.now = w.now.Add(11 * time.Minute)
		alice.loseSessions(bob)
		if len(bob.shelf().oneTime) < protocol.PrekeyRefill {
			bob.syncPrekeys()
		}
		alice.hint, bob.hint = Hint{}, Hint{}
		w.check(alice.trySend(bob, protocol.NewMsgID(), "opens a session"))
		b.StartTimer()
		before(bob)
		alice.lookUp(bob.account(), true)
		alice.flush(bob.device())
		b.StopTimer()
		w.pass(time.Minute)
		b.StartTimer()
	}
	b.StopTimer()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "sessions/s")
	if bad := bob.events(KindUndecryptable); len(bad) > 0 {
		b.Errorf("%d could not be opened", len(bad))
	}
}

// BenchmarkFanOut is a text of 200 bytes between accounts with several devices:
// the work of all devices, with receipts and what one's own devices are told.
// Author-B is the envelopes of the text itself, all-B those of everything.
func BenchmarkFanOut(b *testing.B) {
	for _, devices := range []int{1, 2, 5, protocol.MaxDevices} {
		b.Run(fmt.Sprint(devices, "x", devices), func(b *testing.B) { benchFanOut(b, devices) })
	}
}

func benchFanOut(b *testing.B, devices int) {
	w, alices, bobs := crowd(b, devices, devices)
	for _, n := range slices.Concat(alices, bobs) { // sessions between all of them
		n.send([]*node{bobs[0], alices[0]}[slices.Index([]string{"alice", "bob"}, n.name)], "hello")
		w.settle()
	}
	w.pass(time.Hour)
	author, others := alices[0], slices.Concat(alices[1:], bobs)
	text := strings.Repeat("x", 200)
	var composing time.Duration
	var envelopes, own, all int
	for b.Loop() {
		for _, n := range w.nodes {
			n.sent = nil
		}
		begun := time.Now()
		w.check(author.trySend(bobs[0], protocol.NewMsgID(), text))
		composing += time.Since(begun)
		for _, n := range others {
			author.flush(n.device())
		}
		envelopes += len(author.sent)
		own += bytesOf(author.sent)
		w.now = w.now.Add(time.Second)
		w.settle()
		for _, n := range w.nodes {
			all += bytesOf(n.sent)
		}
	}
	per := func(n int) float64 { return float64(n) / float64(b.N) }
	b.ReportMetric(float64(composing.Microseconds())/float64(b.N), "compose-µs")
	b.ReportMetric(per(envelopes), "envelopes")
	b.ReportMetric(per(own), "author-B")
	b.ReportMetric(per(all), "all-B")
}

func bytesOf(list [][]byte) (n int) {
	for _, b := range list {
		n += len(b)
	}
	return n
}
