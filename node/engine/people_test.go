package engine

import (
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// What people do, and see.

func (n *node) ask(other *node) {
	n.w.t.Helper()
	f := n.found(other.name, true)
	n.do(func(tx store.Tx) (Hint, error) { return n.e.Add(tx, n.w.now, f, "hello") })
}

func (n *node) accept(other *node) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.Accept(tx, n.w.now, other.account()) })
}

// befriend makes two nodes contacts.
func (w *world) befriend(a, b *node) {
	w.t.Helper()
	a.ask(b)
	w.settle()
	b.accept(a)
	w.settle()
	if r := a.contact(b).Relation; r != Accepted {
		w.t.Fatalf("%s is %q to %s", b.name, r, a.name)
	}
}

func (n *node) send(to *node, text string) protocol.MsgID {
	n.w.t.Helper()
	id := protocol.NewMsgID()
	n.w.check(n.trySend(to, id, text))
	return id
}

func (n *node) trySend(to *node, id protocol.MsgID, text string) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.Compose(tx, n.w.now, to.account(), id, text) })
}

func (n *node) contact(other *node) (c Contact) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		c, err = n.e.Contact(tx, other.account())
		return err
	})
	return c
}

func (n *node) history(with *node) (list []Message) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		before := uint64(0)
		for {
			page, err := n.e.History(tx, with.account(), before, 1000)
			if err != nil {
				return err
			}
			list = append(slices.Clone(page), list...)
			if len(page) < 1000 {
				return nil
			}
			before = page[0].Position
		}
	})
	return list
}

func (n *node) message(id protocol.MsgID) (m Message) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		m, err = n.e.Message(tx, id)
		return err
	})
	return m
}

func (n *node) events(kind Kind) (list []Event) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		for after := uint64(0); ; {
			page, err := n.e.Events(tx, after, 1000)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, ev := range page {
				if ev.Kind == kind {
					list = append(list, ev)
				}
			}
			after = page[len(page)-1].Seq
		}
	})
	return list
}

func (n *node) counts() (queued, waiting int) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		queued, waiting, err = n.e.Counts(tx)
		return err
	})
	return queued, waiting
}

func (n *node) rows(table byte) (rows []store.Pair) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{table}, store.PrefixEnd([]byte{table})) {
			if err != nil {
				return err
			}
			rows = append(rows, pair)
		}
		return nil
	})
	return rows
}

func texts(list []Message) (out []string) {
	for _, m := range list {
		out = append(out, m.Text)
	}
	return out
}
