package engine

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// TestActionsAnyOrderAnyCrash lets two people, one with two devices, write and react
// to, edit, delete and pin what was written, over a network that loses, doubles and
// reorders, while processes die. After it heals every device shows the same.
func TestActionsAnyOrderAnyCrash(t *testing.T) {
	origin, _, _ := crowd(t, 2, 1)
	rapid.Check(t, func(rt *rapid.T) {
		c := &actionChaos{chaos: chaos{t: rt, w: origin.clone(rt)}}
		c.run()
		c.heal()
		c.verify()
	})
}

type actionChaos struct{ chaos }

func (c *actionChaos) run() {
	for _, n := range c.w.nodes {
		n.fate = func() fate { return fates[rapid.IntRange(0, len(fates)-1).Draw(c.t, "fate")] }
		n.crash = func() bool { return rapid.IntRange(0, 49).Draw(c.t, "crash") == 49 }
	}
	emoji := []string{"👍", "👎", "🎉", ""}
	actions := map[string]func(n *node){
		"send": func(n *node) { n.trySend(c.other(n), protocol.NewMsgID(), "said") },
		"react": func(n *node) {
			c.do(n, func(id protocol.MsgID) { n.react(id, rapid.SampledFrom(emoji).Draw(c.t, "emoji")) })
		},
		"edit": func(n *node) {
			c.do(n, func(id protocol.MsgID) { n.edit(id, rapid.SampledFrom(emoji).Draw(c.t, "text")) })
		},
		"delete": func(n *node) { c.do(n, func(id protocol.MsgID) { n.erase(id) }) },
		"pin":    func(n *node) { c.do(n, func(id protocol.MsgID) { n.pin(id, rapid.Bool().Draw(c.t, "on")) }) },
		"timer": func(n *node) {
			n.setTimer(c.other(n).account(), rapid.SampledFrom([]time.Duration{0, 60 * 24 * time.Hour}).Draw(c.t, "timer"))
		},
		"send a file": func(n *node) { n.draft(c.other(n).account(), Draft{File: aFile(c.t, "a", "abc")}) },
		"file":        func(n *node) { c.do(n, func(id protocol.MsgID) { c.file(n, id) }) },
		"step":        func(n *node) { n.step() },
		"settle":      func(*node) { c.steps() },
		"away":        func(n *node) { n.away = !n.away },
		"offline":     func(n *node) { n.offline = !n.offline },
		"restart":     func(n *node) { n.load() },
		"stray":       func(*node) { c.arrive() },
		"mail":        c.shuffle,
		"time":        func(*node) { c.w.now = c.w.now.Add(rapid.SampledFrom(times).Draw(c.t, "time")) },
	}
	names := slices.Sorted(maps.Keys(actions))
	for range rapid.IntRange(5, 25).Draw(c.t, "actions") {
		n := c.w.nodes[rapid.IntRange(0, len(c.w.nodes)-1).Draw(c.t, "node")]
		c.survive(func() { actions[rapid.SampledFrom(names).Draw(c.t, "action")](n) })
	}
}

func (c *actionChaos) other(n *node) *node {
	if n.account() == c.w.nodes[0].account() {
		return c.w.nodes[1]
	}
	return c.w.nodes[0]
}

// do does something to a message that a node shows; what it may not is refused.
func (c *actionChaos) do(n *node, fn func(protocol.MsgID)) {
	if list := n.history(c.other(n)); len(list) > 0 {
		fn(list[rapid.IntRange(0, len(list)-1).Draw(c.t, "message")].ID)
	}
}

// file does something with the file of a message, if that has one and it may be done.
func (c *actionChaos) file(n *node, id protocol.MsgID) {
	f := n.fileOf(id)
	manage := func(fn func(*Engine, store.Tx, time.Time, FileRef, string) (Hint, error)) {
		n.update(func(tx store.Tx) (Hint, error) { return fn(n.e, tx, n.w.now, f.FileRef, "/somewhere") })
	}
	switch rapid.IntRange(0, 7).Draw(c.t, "what with the file") {
	case 0:
		n.wantsFile(id)
	case 1:
		n.onFile(id, n.e.PauseFile)
	case 2:
		n.onFile(id, n.e.ResumeFile)
	case 3:
		n.onFile(id, n.e.DeclineFile)
	case 4:
		n.onFile(id, n.e.CancelFile)
	case 5:
		manage((*Engine).FileFailed)
	case 6:
		manage((*Engine).FileChanged)
	case 7:
		manage((*Engine).FileDone)
	}
}

// wholeFiles checks that the rows of files are of messages that are shown, and that each
// file can be found in every way.
func (c *actionChaos) wholeFiles(n *node) {
	shown := map[FileRef]File{}
	n.view(func(tx store.Tx) error {
		list, err := n.e.History(tx, c.other(n).account(), 0, 1000)
		for _, m := range list {
			if m.File != nil {
				shown[m.File.FileRef] = *m.File
			}
		}
		return err
	})
	open := 0
	for at, f := range shown {
		if !n.hasRow(keyFileID(f.ID, at)) {
			c.t.Fatalf("%s cannot find a file by its id", n.name)
		}
		var r fileRow
		n.view(func(tx store.Tx) (err error) {
			r, _, err = load[fileRow](tx, keyFile(at))
			return err
		})
		if got := n.hasRow(keyOpenFile(at)); got != r.open() {
			c.t.Fatalf("%s: a file in state %q is open: %v", n.name, f.State, got)
		}
		if r.open() {
			open++
		}
	}
	for _, table := range []byte{tableFile, tableFileID} {
		if got := len(n.rows(table)); got != len(shown) {
			c.t.Fatalf("%s has %d rows %q of %d files", n.name, got, table, len(shown))
		}
	}
	if got := len(n.rows(tableOpenFile)); got != open {
		c.t.Fatalf("%s has %d open files, of %d", n.name, got, open)
	}
}

func (c *actionChaos) verify() {
	want := c.looks(c.w.nodes[0])
	timer := c.w.nodes[0].settings(c.w.nodes[1].account()).Timer
	for _, n := range c.w.nodes {
		c.wholeFiles(n)
	}
	for _, n := range c.w.nodes[1:] {
		if got := c.looks(n); !maps.Equal(got, want) {
			c.t.Fatalf("%s shows %q, %s %q", n.name, got, c.w.nodes[0].name, want)
		}
		if got := n.settings(c.other(n).account()).Timer; got != timer {
			c.t.Fatalf("%s has the timer %v, %s %v", n.name, got, c.w.nodes[0].name, timer)
		}
		if got := len(n.rows(tableAction)); got != 0 {
			c.t.Fatalf("%s: %d actions still wait", n.name, got)
		}
	}
}

// looks is what a node shows, by message.
func (c *actionChaos) looks(n *node) map[protocol.MsgID]string {
	all := map[protocol.MsgID]string{}
	var list []Message
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.History(tx, c.other(n).account(), 0, 1000)
		return err
	})
	for _, m := range list {
		all[m.ID] = looks([]Message{m})[0]
	}
	return all
}
