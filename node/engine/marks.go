package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// maxReactions is how many accounts may react to one message.
const maxReactions = 1024

// A mark is a reaction of one account to a message, or that a message is pinned, or
// was. What was taken back stays, so that what is older and comes later does not count.
type mark byte

const (
	markReaction mark = 1
	markPin      mark = 2
)

type markRow struct {
	at   time.Time
	by   protocol.AccountID
	text string // the emoji; of a pin empty if it is one no more
}

func (r *markRow) encode() []byte {
	e := newRow(60)
	e.time(r.at)
	e.raw(r.by[:])
	e.string(r.text)
	return e.b
}

func (r *markRow) decode(b []byte) error {
	d := readRow(b)
	r.at = d.time()
	d.fixed(r.by[:])
	r.text = d.string()
	return d.end("mark")
}

// keyMark is for the reaction of an account, or for the pin, which has none.
func keyMark(a protocol.AccountID, kind mark, position uint64, by protocol.AccountID) []byte {
	if kind == markPin {
		return store.Key(tableMark, a[:], []byte{byte(kind)}, position)
	}
	return store.Key(tableMark, a[:], []byte{byte(kind)}, position, by[:])
}

func pinText(on bool) string {
	if on {
		return "pinned"
	}
	return ""
}

// newer tells whether r counts in place of an older mark: by time, then by value, so
// that everybody decides alike in whatever order the two come.
func (r markRow) newer(old markRow) bool {
	if !r.at.Equal(old.at) {
		return r.at.After(old.at)
	}
	return string(r.by[:])+r.text > string(old.by[:])+old.text
}

// setMark sets a mark, if it is newer than what is there; changed tells whether it
// was set.
func (w *work) setMark(a protocol.AccountID, kind mark, position uint64, r markRow) (changed bool, err error) {
	key := keyMark(a, kind, position, r.by)
	old, ok, err := load[markRow](w.tx, key)
	if err != nil || ok && !r.newer(old) {
		return false, err
	}
	if !ok && kind == markReaction {
		full, err := w.atLeast(store.Key(tableMark, a[:], []byte{byte(kind)}, position), maxReactions)
		if err != nil || full {
			return false, err
		}
	}
	return true, w.put(key, &r)
}

// atLeast tells whether so many rows are below a prefix.
func (w *work) atLeast(prefix []byte, n int) (bool, error) {
	count := 0
	err := all(w.tx, prefix, func(store.Pair) (bool, error) {
		count++
		return count < n, nil
	})
	return count >= n, err
}

// dropMarks destroys all marks of a message.
func (w *work) dropMarks(a protocol.AccountID, position uint64) error {
	for _, kind := range []mark{markReaction, markPin} {
		err := all(w.tx, store.Key(tableMark, a[:], []byte{byte(kind)}, position), func(pair store.Pair) (bool, error) {
			return true, w.delete(pair.Key)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reactions returns those to a message that were not taken back.
func reactions(tx store.Tx, a protocol.AccountID, position uint64) (list []Reaction, err error) {
	err = all(tx, store.Key(tableMark, a[:], []byte{byte(markReaction)}, position), func(pair store.Pair) (bool, error) {
		r, err := decodeRow[markRow](pair.Value)
		if err == nil && r.text != "" {
			list = append(list, Reaction{r.by, r.text})
		}
		return true, err
	})
	return list, err
}

// Pinned returns the pinned messages of a conversation, oldest first, at most limit
// as in History.
func (e *Engine) Pinned(tx store.Tx, with protocol.AccountID, limit int) (list []Message, err error) {
	limit = pageSize(limit)
	err = all(tx, store.Key(tableMark, with[:], []byte{byte(markPin)}), func(pair store.Pair) (bool, error) {
		r, err := decodeRow[markRow](pair.Value)
		if err != nil || r.text == "" {
			return true, err
		}
		position := keyNumber(pair.Key)
		h, ok, err := loadHistory(tx, with, position)
		if err != nil || !ok {
			return true, err
		}
		m, err := h.message(tx, with, position)
		list = append(list, m)
		return len(list) < limit, err
	})
	return list, err
}
