package engine

import (
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// attach takes over the file that somebody's message carries. One that makes no sense is
// left out, and what the message says stays.
func (w *work) attach(x *extras, f *wire.File, by protocol.AccountID) error {
	if f == nil || x.gone {
		return nil
	}
	d, err := file.FromWire(f)
	if err != nil {
		return w.trouble(CauseMalformed, by, "a message carries a file that cannot be read: "+err.Error())
	}
	x.carries, x.file = true, d
	return nil
}

// wireFile is the file of a message as it is sealed; nil if there is none.
func (x *extras) wireFile() *wire.File {
	if x.file == nil {
		return nil
	}
	return x.file.Wire()
}

// addFile begins the row of the file that a message carries, if it carries one. Fresh
// tells that the message has just come: the user is asked.
func (w *work) addFile(a protocol.AccountID, position uint64, h *historyRow, fresh bool) error {
	if h.file == nil || h.gone {
		return nil
	}
	at := FileRef{a, position}
	r := fileRow{id: h.file.ID, name: h.file.Name, state: FileOffered, since: w.now, asks: fresh && !h.mine}
	if h.file.Inline == nil {
		r.list = h.file.List
	}
	if r.asks {
		auto, err := w.autoAccepts(a, h.file.Size)
		if err != nil {
			return err
		}
		if auto != nil {
			r.state, r.path, r.asks = FileWanted, auto.folder, false
		}
	}
	if err := w.set(keyFileID(r.id, at), []byte{rowVersion}); err != nil {
		return err
	}
	return w.putFile(at, &r)
}

// autoAccepts returns where to fetch a file that just came to; nil if the user is to be
// asked.
func (w *work) autoAccepts(a protocol.AccountID, size int64) (*autoAccept, error) {
	auto := w.e.autoAccept.Load()
	if auto == nil || size > auto.maxBytes || auto.maxBytes == 0 {
		return nil, nil
	}
	p, err := w.peer(a)
	if err == ErrNotFound { // a room
		return nil, nil
	}
	if err != nil || !p.verified || !p.sharesFiles() {
		return nil, err
	}
	wanted, _, err := w.openOf(a, func(r *fileRow) bool { return r.state == FileWanted })
	if err != nil || wanted >= maxAutoFiles {
		return nil, err
	}
	lately, _, err := load[fileAutoRow](w.tx, keyFileAuto(a))
	if err != nil {
		return nil, err
	}
	if w.now.Sub(lately.since) >= autoDay {
		lately = fileAutoRow{since: w.now}
	}
	if lately.bytes += size; lately.bytes > maxAutoFiles*auto.maxBytes {
		return nil, nil
	}
	return auto, w.put(keyFileAuto(a), &lately)
}

// sendFile notes where a file lies that was just sent with a message of ours.
func (w *work) sendFile(id protocol.MsgID, draft *FileDraft) error {
	if draft == nil {
		return nil
	}
	index, ok, err := load[indexRow](w.tx, keyMine(id))
	if err == nil && !ok {
		err = fmt.Errorf("sent message: %w", store.ErrDamaged)
	}
	if err != nil {
		return err
	}
	at := FileRef{index.account, index.position}
	r, _, err := load[fileRow](w.tx, keyFile(at))
	if err != nil {
		return err
	}
	r.source, r.spool, r.path, r.toStore, r.state = true, draft.Spool, draft.Path, true, FileDone
	if err := w.at(w.now.Add(sentFor), timerSent, keyFile(at)[1:]); err != nil {
		return err
	}
	return w.putFile(at, &r)
}

// putFile writes the row of a file, and keeps the list of those that are open.
func (w *work) putFile(at FileRef, r *fileRow) error {
	w.hint.Files = true
	if err := w.put(keyFile(at), r); err != nil {
		return err
	}
	if !r.open() {
		return w.delete(keyOpenFile(at))
	}
	old, err := get(w.tx, keyOpenFile(at))
	if err != nil || old != nil {
		return err
	}
	if r.asks {
		if err := w.makeRoomForFile(at.With); err != nil {
			return err
		}
	}
	return w.set(keyOpenFile(at), []byte{rowVersion})
}

// makeRoomForFile asks no more about the oldest file of a conversation that the user
// was asked about, if there are too many.
func (w *work) makeRoomForFile(a protocol.AccountID) error {
	count, oldest, err := w.openOf(a, func(r *fileRow) bool { return r.asks })
	if err != nil || count < maxOpenFiles {
		return err
	}
	r, _, err := load[fileRow](w.tx, keyFile(oldest))
	if err != nil {
		return err
	}
	r.asks = false
	return w.putFile(oldest, &r)
}

// openOf counts the open files of a conversation that are picked, and finds the oldest.
func (w *work) openOf(a protocol.AccountID, pick func(*fileRow) bool) (count int, oldest FileRef, err error) {
	err = all(w.tx, store.Key(tableOpenFile, a[:]), func(pair store.Pair) (bool, error) {
		at := fileRefOf(pair.Key)
		r, ok, err := load[fileRow](w.tx, keyFile(at))
		if ok && pick(&r) {
			if count++; count == 1 {
				oldest = at
			}
		}
		return true, err
	})
	return count, oldest, err
}

// fileIs gives a file another state, and says so. That answers what the user was asked.
func (w *work) fileIs(at FileRef, r *fileRow, state FileState, problem string) error {
	r.asks = false
	if state == FileCancelled || state == FileChanged {
		r.toStore = false
	}
	if state != r.state {
		r.state, r.since = state, w.now
	}
	r.problem = problem
	if err := w.putFile(at, r); err != nil {
		return err
	}
	return w.event(eventRow{kind: KindChanged, account: at.With, position: at.Position, cause: CauseFile, by: w.e.id.Account, text: state.String()})
}

// answerFile tells what the user did with somebody else's file: the account it came from, if
// that is a contact that can be told now, and the account's other devices.
func (w *work) answerFile(at FileRef, r *fileRow, what FileAnswer) error {
	h, ok, err := load[historyRow](w.tx, keyHistory(at.With, at.Position))
	if err != nil || !ok || h.mine {
		return err
	}
	author, err := w.authorOf(at.With, &h)
	if err != nil {
		return err
	}
	act := &action{kind: actFile, to: Ref{author, h.id}, at: w.later(r.answerAt), answer: what}
	tell, err := w.canTell(at.With)
	if err != nil {
		return err
	}
	if tell {
		return w.actWith(at.With, act)
	}
	if err := w.apply(at.With, w.e.id.Account, act, contactPowers); err != nil {
		return err
	}
	return w.tellSiblings(at.With, act)
}

// canTell tells whether something can be sent to a contact now; not if a is a room.
func (w *work) canTell(a protocol.AccountID) (bool, error) {
	p, err := w.peer(a)
	if err == ErrNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	devices := p.valid(w.now)
	for _, device := range devices {
		d, err := w.device(device)
		if err != nil || d.waiting >= maxQueued {
			return false, err
		}
	}
	return p.mayWrite(w.now, devices) == nil, nil
}

// applyAnswer takes what somebody did with a file that was sent to him.
func (w *work) applyAnswer(a protocol.AccountID, position uint64, h *historyRow, by protocol.AccountID, act *action) error {
	at := FileRef{a, position}
	r, ok, err := load[fileRow](w.tx, keyFile(at))
	if err != nil || !ok || !(markRow{act.at, by, act.answer.String()}).newer(markRow{r.answerAt, by, r.answer.String()}) {
		return err
	}
	r.answer, r.answerAt, r.asks, r.toStore = act.answer, act.at, false, false
	if r.answer == FileRefused {
		if err := w.takeBack(at, &r); err != nil {
			return err
		}
	}
	if r.answer == FileRefused && !h.mine && r.state == FileOffered { // on another device of ours
		r.state, r.since = FileDeclined, w.now
	}
	if err := w.putFile(at, &r); err != nil {
		return err
	}
	event := eventRow{kind: KindChanged, account: a, position: position, cause: CauseFile, by: by}
	if by != w.e.id.Account { // what this account did is told by the state that the file came to
		event.text = act.answer.String()
	}
	return w.event(event)
}

// dropFile forgets the file of a message that goes: it is not fetched nor given to others
// any more. What was fetched to its end stays where it is.
func (w *work) dropFile(a protocol.AccountID, position uint64) error {
	at := FileRef{a, position}
	r, ok, err := load[fileRow](w.tx, keyFile(at))
	if err != nil || !ok {
		return err
	}
	if err := errors.Join(w.endFile(at, &r), w.takeBack(at, &r)); err != nil {
		return err
	}
	w.hint.Files = true
	for _, key := range [][]byte{keyFile(at), keyFileID(r.id, at), keyOpenFile(at)} {
		if err := w.delete(key); err != nil {
			return err
		}
	}
	return nil
}

// endFile notes what is left to do on this device of a file that is done with.
func (w *work) endFile(at FileRef, r *fileRow) error {
	end := fileEndRow{name: r.name, list: r.list}
	if r.partial() {
		end.part = r.path
	}
	if r.spool {
		end.spool = r.path
	}
	return w.putEnd(at, r.id, end)
}

// putEnd adds to what is left to do of a file.
func (w *work) putEnd(at FileRef, id protocol.FileID, end fileEndRow) error {
	if end == (fileEndRow{name: end.name}) {
		return nil
	}
	key := keyFileEnd(id, at, end.part)
	old, _, err := load[fileEndRow](w.tx, key)
	if err != nil {
		return err
	}
	if end.spool == "" {
		end.spool = old.spool
	}
	if end.list == (file.Hash{}) {
		end.list = old.list
	}
	if end.blob == "" {
		end.blob = old.blob
	}
	w.hint.Files = true
	return w.put(key, &end)
}

// keepPart takes it back that a part of a file is to be deleted in a folder: it is wanted
// there again.
func (w *work) keepPart(at FileRef, id protocol.FileID, folder string) error {
	key := keyFileEnd(id, at, folder)
	end, ok, err := load[fileEndRow](w.tx, key)
	if err != nil || !ok {
		return err
	}
	if err := w.delete(key); err != nil {
		return err
	}
	end.part = ""
	return w.putEnd(at, id, end)
}

// fileOf is what people see of the file of a message that was read with its text; nil if it
// carries none.
func (h *historyRow) fileOf(tx store.Tx, at FileRef) (*File, error) {
	if h.file == nil {
		return nil, nil
	}
	r, ok, err := load[fileRow](tx, keyFile(at))
	if err != nil || !ok {
		return nil, err
	}
	return &File{
		FileRef: at, Message: h.id, Device: h.device, Mine: h.mine, Source: r.source, Spool: r.spool,
		Asks: r.asks, Stored: r.stored, State: r.state, Since: r.since, Path: r.path, Problem: r.problem, Answer: r.answer, Descriptor: *h.file,
	}, nil
}

// loadFile reads a file; nil if it is not there any more.
func loadFile(tx store.Tx, at FileRef) (*File, error) {
	h, ok, err := loadHistory(tx, at.With, at.Position)
	if err != nil || !ok || h.hidden {
		return nil, err
	}
	return h.fileOf(tx, at)
}
