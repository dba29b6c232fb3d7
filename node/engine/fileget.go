package engine

import (
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// maxSources is how many devices FileSources names at most.
const maxSources = 32

// File returns a file; ErrNotFound if it, or its message, is not there any more.
func (e *Engine) File(tx store.Tx, at FileRef) (File, error) {
	f, err := loadFile(tx, at)
	if err == nil && f == nil {
		err = ErrNotFound
	}
	if err != nil {
		return File{}, err
	}
	return *f, nil
}

// Files returns the newest files of a conversation, oldest first, at most limit as in
// History.
func (e *Engine) Files(tx store.Tx, with protocol.AccountID, limit int) (list []File, err error) {
	limit = pageSize(limit)
	prefix := store.Key(tableFile, with[:])
	for pair, err := range tx.ScanDown(prefix, store.PrefixEnd(prefix)) {
		if err != nil {
			return nil, err
		}
		f, err := loadFile(tx, fileRefOf(pair.Key))
		if err != nil {
			return nil, err
		}
		if f == nil {
			continue
		}
		if list = append(list, *f); len(list) == limit {
			break
		}
	}
	slices.Reverse(list)
	return list, nil
}

// OpenFiles returns the files of all conversations that are being fetched or that the
// user is asked about, and those sent from here lately that neither the rendezvous has nor
// who they are for.
func (e *Engine) OpenFiles(tx store.Tx) ([]File, error) {
	return openFiles(tx, func(FileRef, *fileRow) (bool, error) { return true, nil })
}

// FilesToFetch returns the files that are wanted, the one that has been for longest first.
func (e *Engine) FilesToFetch(tx store.Tx) ([]File, error) {
	return openFiles(tx, func(_ FileRef, r *fileRow) (bool, error) { return r.state == FileWanted, nil })
}

// openFiles returns the open files that are picked.
func openFiles(tx store.Tx, pick func(FileRef, *fileRow) (bool, error)) (list []File, err error) {
	err = all(tx, []byte{tableOpenFile}, func(pair store.Pair) (bool, error) {
		ref := fileRefOf(pair.Key)
		r, ok, err := load[fileRow](tx, keyFile(ref))
		if err != nil || !ok {
			return err == nil, err
		}
		picked, err := pick(ref, &r)
		if err != nil || !picked {
			return err == nil, err
		}
		f, err := loadFile(tx, ref)
		if f != nil {
			list = append(list, *f)
		}
		return err == nil, err
	})
	slices.SortStableFunc(list, func(a, b File) int { return a.Since.Compare(b.Since) })
	return list, err
}

// maxEnds is how many FileEnds returns at most.
const maxEnds = 1000

// FileEnds returns what is left to do for files that are done with, and is picked: of much
// some.
func (e *Engine) FileEnds(tx store.Tx, pick func(FileEnd) bool) (list []FileEnd, err error) {
	err = eachFileEnd(tx, func(end FileEnd) bool {
		if pick(end) {
			list = append(list, end)
		}
		return len(list) < maxEnds
	})
	return list, err
}

func eachFileEnd(tx store.Tx, fn func(FileEnd) (more bool)) error {
	return all(tx, []byte{tableFileEnd}, func(pair store.Pair) (bool, error) {
		r, err := decodeRow[fileEndRow](pair.Value)
		if err != nil {
			return false, err
		}
		end := FileEnd{FileRef: fileRefOf(pair.Key), Name: r.name, Part: r.part, Spool: r.spool, List: r.list, Blob: r.blob}
		copy(end.ID[:], store.ReadKey(pair.Key).Bytes(len(end.ID)))
		return fn(end), nil
	})
}

// ListUsed tells whether the list of the pieces of a file is needed for a message. It is by
// its hash, not by its file's id alone, which is for each author to choose.
func (e *Engine) ListUsed(tx store.Tx, id protocol.FileID, list file.Hash) (used bool, err error) {
	err = all(tx, store.Key(tableFileID, id[:]), func(pair store.Pair) (bool, error) {
		r, ok, err := load[fileRow](tx, keyFile(fileRefOf(pair.Key)))
		used = ok && r.list == list && r.needsList()
		return !used, err
	})
	return used, err
}

// MayFetch returns a file that this device has, for another device that asks for it by
// its id and the hash of its list: one of the contact of its conversation or of this
// account, or, of a room, one that may read there now. ErrNotFound if there is none, or not
// for this device, which is not to learn which; ErrFilePaused, ErrFileGone and ErrFileEnded
// if there is one that cannot be given.
func (e *Engine) MayFetch(tx store.Tx, now time.Time, device protocol.DeviceID, id protocol.FileID, list file.Hash) (found File, err error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return found, err
	}
	refusal := ErrNotFound
	err = all(tx, store.Key(tableFileID, id[:]), func(pair store.Pair) (bool, error) {
		ref := fileRefOf(pair.Key)
		may, err := w.mayHave(device, ref.With)
		if err != nil || !may {
			return err == nil, err
		}
		f, err := loadFile(tx, ref)
		if err != nil || f == nil || f.List != list {
			return err == nil, err
		}
		switch {
		case f.State == FileDone:
			found, refusal = *f, nil
		case f.Source && f.State == FilePaused:
			refusal = ErrFilePaused
		case f.State == FileChanged:
			refusal = ErrFileGone
		case f.Source && f.State == FileCancelled:
			refusal = ErrFileEnded
		}
		return refusal != nil, nil
	})
	if err == nil {
		err = refusal
	}
	return found, err
}

// mayHave tells whether a device may have the files of a conversation now.
func (w *work) mayHave(device protocol.DeviceID, a protocol.AccountID) (bool, error) {
	list, err := w.siblings()
	if err != nil || slices.Contains(list, device) {
		return err == nil, err
	}
	r, err := w.room(protocol.RoomID(a))
	if err == nil {
		return w.mayHaveOfRoom(r, device)
	}
	if err != ErrNoRoom {
		return false, err
	}
	p, err := w.peer(a)
	if err == ErrNotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return p.sharesFiles() && slices.Contains(p.valid(w.now), device), nil
}

// mayHaveOfRoom tells whether a device may read in a room now.
func (w *work) mayHaveOfRoom(r *openRoom, device protocol.DeviceID) (bool, error) {
	if r.row.stage != RoomJoined || r.state == nil || !r.state.May(device, r.state.Epoch(), room.Read) {
		return false, nil
	}
	if d, err := w.device(device); err == nil && d.revoked { // the room's log does not say so yet
		return false, nil
	} else if err != nil && err != ErrNotFound {
		return false, err
	}
	account, _, _ := r.state.AccountOf(device)
	p, err := w.peer(account)
	if err == ErrNotFound {
		return true, nil
	}
	return err == nil && p.relation != Blocked, err
}

// FileSources returns the devices that may have a file, those first that most likely do:
// the author's, the account's own, then others that may have fetched it; at most
// maxSources.
func (e *Engine) FileSources(tx store.Tx, now time.Time, at FileRef) ([]protocol.DeviceID, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	h, ok, err := load[historyRow](tx, keyHistory(at.With, at.Position))
	if err != nil || !ok {
		return nil, err
	}
	list := []protocol.DeviceID{h.device}
	own, err := w.siblings()
	if err != nil {
		return nil, err
	}
	others, err := w.fileOthers(at.With, h.device)
	if err != nil {
		return nil, err
	}
	list = addOnce(list, others.ofAuthor...)
	list = addOnce(list, own...)
	list = addOnce(list, others.rest...)
	list = slices.DeleteFunc(list, func(d protocol.DeviceID) bool {
		return d == w.e.id.Device || !slices.Contains(own, d) && !slices.Contains(others.ofAuthor, d) && !slices.Contains(others.rest, d)
	})
	return list[:min(len(list), maxSources)], nil
}

// fileDevices are the devices of others that may read a conversation now.
type fileDevices struct{ ofAuthor, rest []protocol.DeviceID }

func (w *work) fileOthers(a protocol.AccountID, author protocol.DeviceID) (list fileDevices, err error) {
	r, err := w.room(protocol.RoomID(a))
	if err == ErrNoRoom {
		p, err := w.peer(a)
		if err == ErrNotFound {
			return list, nil
		}
		if err == nil && p.sharesFiles() {
			list.rest = p.valid(w.now)
		}
		return list, err
	}
	if err != nil || r.state == nil || r.row.stage != RoomJoined {
		return list, err
	}
	by, _, _ := r.state.AccountOf(author)
	for _, d := range r.state.Readers() {
		may, err := w.mayHaveOfRoom(r, d.ID)
		if err != nil {
			return list, err
		}
		switch {
		case !may || d.Cert.Account == w.e.id.Account:
		case d.Cert.Account == by:
			list.ofAuthor = append(list.ofAuthor, d.ID)
		default:
			list.rest = append(list.rest, d.ID)
		}
	}
	return list, nil
}
