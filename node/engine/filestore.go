package engine

import (
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// What this device brings to the rendezvous of the files that were sent from here, for who
// is away; and when that is taken back.

// sentFor is how long a sent file that nobody took may be stored at the rendezvous, as
// mail is; and how long a copy is kept of one that cannot be read again where it came from.
const sentFor = protocol.MailboxTTL

// FilesToStore returns the files sent from here that the rendezvous may store for who is
// away: nobody has taken them, they are not older than mail gets there, and those they are
// for would be given them by this device too. Oldest first.
func (e *Engine) FilesToStore(tx store.Tx, now time.Time) ([]File, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	return openFiles(tx, w.mayStore)
}

// mayStore tells whether a file is to be stored at the rendezvous now. What is still to be
// taken back from there is not.
func (w *work) mayStore(at FileRef, r *fileRow) (bool, error) {
	if !r.toStore || r.state != FileDone {
		return false, nil
	}
	end, _, err := load[fileEndRow](w.tx, keyFileEnd(r.id, at, ""))
	if err != nil || end.blob == BlobDrop {
		return false, err
	}
	room, err := w.room(protocol.RoomID(at.With))
	if err != ErrNoRoom {
		return err == nil && room.row.stage == RoomJoined, err
	}
	p, err := w.peer(at.With)
	if err == ErrNotFound {
		return false, nil
	}
	return err == nil && p.sharesFiles(), err
}

// FileStoring notes that a file of FilesToStore is about to be brought to the rendezvous,
// so that it is taken away from there if it ends in the middle. ErrFileState if it is not
// to be stored any more.
func (e *Engine) FileStoring(tx store.Tx, now time.Time, at FileRef) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		r, _, err := load[fileRow](tx, keyFile(at))
		if err != nil {
			return err
		}
		may, err := w.mayStore(at, &r)
		if err == nil && !may {
			err = ErrFileState
		}
		if err != nil || r.there {
			return err
		}
		r.there = true
		return w.put(keyFile(at), &r)
	})
}

// FileStored notes that the rendezvous has all of a file, until a time.
func (e *Engine) FileStored(tx store.Tx, now time.Time, at FileRef, until time.Time) (Hint, error) {
	return e.atFile(tx, now, at, func(w *work, r *fileRow) error {
		if !r.toStore || !r.there {
			return nil
		}
		r.toStore, r.stored = false, until
		return w.fileIs(at, r, r.state, r.problem)
	})
}

// sentOver ends storing a file for who is away, and giving one of which the node kept a copy
// of its own.
func (w *work) sentOver(id []byte) error {
	if len(id) != 40 {
		return fmt.Errorf("timer row: %w", store.ErrDamaged)
	}
	at := fileRefOf(id)
	r, ok, err := load[fileRow](w.tx, keyFile(at))
	if err != nil || !ok || !r.source {
		return err
	}
	r.toStore = false
	if !r.spool || r.state == FileCancelled {
		return w.putFile(at, &r)
	}
	if err := w.endFile(at, &r); err != nil {
		return err
	}
	return w.fileIs(at, &r, FileChanged, "the copy of it was kept for 14 days")
}

// takeBack has the rendezvous told that nobody is to be given what it may have of a file
// from here.
func (w *work) takeBack(at FileRef, r *fileRow) error {
	if !r.there {
		return nil
	}
	r.there, r.stored = false, time.Time{}
	return w.putEnd(at, r.id, fileEndRow{name: r.name, blob: BlobDrop})
}

// unshare takes back from the rendezvous the files that somebody was sent who is no contact
// any more, and stops fetching his: as much as one transaction may carry.
func (w *work) unshare(a protocol.AccountID, p *peerRow) error {
	if p.sharesFiles() {
		return nil
	}
	rows := 0
	return all(w.tx, store.Key(tableFile, a[:]), func(pair store.Pair) (bool, error) {
		at := fileRefOf(pair.Key)
		r, err := decodeRow[fileRow](pair.Value)
		stop := !r.source && r.state == FileWanted
		if err != nil || !stop && !r.there {
			return err == nil, err
		}
		if w.full(rows) {
			return false, w.at(w.now, timerShared, a[:])
		}
		rows++
		if err := w.takeBack(at, &r); err != nil {
			return false, err
		}
		if stop {
			return true, w.fileIs(at, &r, FilePaused, "")
		}
		return true, w.putFile(at, &r)
	})
}

// sharesFiles tells whether files are given to an account and fetched from it.
func (p *peerRow) sharesFiles() bool { return p.relation == Accepted && !p.held() }
