package engine

import (
	"errors"

	"github.com/parley-chat/parley/protocol/room"
)

// writeAgain is Rebase. What is sealed in an entry is sealed anew if somebody left
// meanwhile who has its key.
func (w *work) writeAgain(r *openRoom, top *room.State, entry room.Entry, base *room.State) (*room.State, room.Entry, error) {
	next, again, err := top.Rebase(w.now, w.author(), entry, base)
	if !errors.Is(err, room.ErrStaleKey) {
		return next, again, err
	}
	op, ok, resealErr := w.reseal(r, top, entry.Op)
	if resealErr != nil || !ok {
		return nil, room.Entry{}, errors.Join(resealErr, err)
	}
	return top.Write(w.now, w.author(), op)
}

// reseal seals what an operation holds with the key in force on top of a state. Not ok: it
// holds nothing that this device can open.
func (w *work) reseal(r *openRoom, top *room.State, op room.Op) (_ room.Op, ok bool, err error) {
	text := sealedIn(op)
	old, ok, err := w.stateKey(r.id, text.Key)
	if err != nil || !ok {
		return nil, false, err
	}
	k, err := w.sealingKeyAt(r, top)
	if err != nil {
		return nil, false, err
	}
	if _, is := op.(room.Describe); is {
		about, err := old.OpenAbout(r.id, text)
		if err != nil {
			return nil, false, err
		}
		text, err = k.SealAbout(r.id, about)
		return room.Describe{About: text}, err == nil, err
	}
	name, err := old.OpenName(r.id, text)
	if err != nil {
		return nil, false, err
	}
	if text, err = k.SealName(r.id, name); err != nil {
		return nil, false, err
	}
	switch op := op.(type) {
	case room.Join:
		op.Name = text
		return op, true, nil
	case room.GuestJoin:
		op.Name = text
		return op, true, nil
	}
	return nil, false, nil
}

// sealedIn is the text of an operation that readers have the key of; empty if it has none.
func sealedIn(op room.Op) room.Sealed {
	switch op := op.(type) {
	case room.Describe:
		return op.About
	case room.Join:
		return op.Name
	case room.GuestJoin:
		return op.Name
	}
	return room.Sealed{}
}
