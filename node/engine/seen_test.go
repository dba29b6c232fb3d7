package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// intoMailbox sends a text that only the mailbox has, and returns its envelope.
func (n *node) intoMailbox(to *node, text string) (env []byte) {
	n.w.t.Helper()
	n.send(to, text)
	n.do(func(tx store.Tx) (Hint, error) {
		queue, err := n.e.Queue(tx, n.w.now, to.device(), 0, 1<<20, 10)
		if err != nil || len(queue) != 1 {
			return Hint{}, fmt.Errorf("%d envelopes queued: %w", len(queue), err)
		}
		env = queue[0].Envelope
		return n.e.Stored(tx, n.w.now, to.device(), []protocol.EnvelopeID{queue[0].ID})
	})
	return env
}

// turns lets the ratchet turn many times.
func (w *world) turns(a, b *node, n int) {
	w.t.Helper()
	for i := range n {
		a.send(b, fmt.Sprint("a", i))
		w.settle()
		b.send(a, fmt.Sprint("b", i))
		w.settle()
	}
}

// drop deletes a table.
func (n *node) drop(table byte) {
	n.w.t.Helper()
	n.w.check(n.kv.Update(context.Background(), func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{table}, store.PrefixEnd([]byte{table})) {
			if err != nil {
				return err
			}
			if err := tx.Delete(pair.Key); err != nil {
				return err
			}
		}
		return nil
	}))
}

// Mail that waited while the two went on talking directly, for many turns of
// the ratchet, still opens, and is shown where it belongs.
func TestMailOvertakenByManyTurns(t *testing.T) {
	w, a, b := pair(t)
	w.turns(a, b, 1)
	late := a.intoMailbox(b, "late")
	w.turns(a, b, 20)
	if code := b.receive(late, protocol.DeviceID{}, Mailbox); code != protocol.OK {
		t.Fatalf("the late mail: %v", code)
	}
	w.settle()
	var got []string
	for _, m := range b.history(a) {
		if !m.Mine {
			got = append(got, m.Text)
		}
	}
	want := []string{"a0", "late"}
	for i := range 20 {
		want = append(want, fmt.Sprint("a", i))
	}
	if !slices.Equal(got, want) {
		t.Errorf("shown: %q", got)
	}
	if e := b.events(KindUndecryptable); len(e) != 0 {
		t.Errorf("events: %+v", e)
	}
}

// A copy that comes when its session has long forgotten the keys is a copy,
// not a forgery, for as long as the mailbox may keep one.
func TestCopyAfterManyTurns(t *testing.T) {
	w, a, b := pair(t)
	env := a.intoMailbox(b, "once")
	if code := b.receive(env, protocol.DeviceID{}, Mailbox); code != protocol.OK {
		t.Fatal(code)
	}
	w.turns(a, b, 20)
	w.pass(protocol.MailboxTTL)
	if code := b.receive(env, protocol.DeviceID{}, Mailbox); code != protocol.OK {
		t.Errorf("the copy: %v", code)
	}
	if e := b.events(KindUndecryptable); len(e) != 0 {
		t.Errorf("events: %+v", e)
	}
	w.pass(3 * 24 * time.Hour)
	if n := len(b.rows(tableSeen)); n != 0 {
		t.Errorf("%d envelopes are remembered although no copy can come", n)
	}
}
