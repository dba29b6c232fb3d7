package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

// A message may carry a file: it says what it takes to have and open it. The file itself
// is pulled by whoever wants it, from any device that has it, by the code around the
// engine: that reads here what is to be done (FilesToFetch, FilesToStore, FileEnds)
// whenever Hint.Files tells so, and says here what came of it. Nothing about the
// progress of a fetch is here: the part of the file in its folder tells that.

// FileState is how far a file of a message is on this device.
type FileState string

const (
	FileOffered   FileState = "offered"   // it may be fetched, and is not wanted here
	FileWanted    FileState = "wanted"    // it is being fetched, or waits for that
	FilePaused    FileState = "paused"    // the user stopped fetching it, or giving it to others, for now
	FileDone      FileState = "done"      // it is on this device: fetched, or where it was sent from
	FileDeclined  FileState = "declined"  // by the user, on whatever device
	FileCancelled FileState = "cancelled" // the user stopped fetching it, or giving it to others, for good
	FileFailed    FileState = "failed"    // it could not be fetched; File.Problem says why
	FileChanged   FileState = "changed"   // what was on this device is not there as it was; nobody is given it
)

func (s FileState) String() string { return string(s) }

// FileAnswer is what the account that a file was sent to did with it; in rooms nobody
// tells.
type FileAnswer string

const (
	FileUnanswered FileAnswer = ""
	FileTaken      FileAnswer = "done" // a device of theirs has it
	FileRefused    FileAnswer = "declined"
)

func (a FileAnswer) String() string { return string(a) }

// FileRef names a file by the message that carries it.
type FileRef struct {
	With     protocol.AccountID // or the Conversation of a room
	Position uint64
}

// File is a file of a message, and what this device has of it.
type File struct {
	FileRef
	Message protocol.MsgID
	Device  protocol.DeviceID // of the author
	Mine    bool              // sent by this account
	Source  bool              // sent from this device
	Spool   bool              // Path is a copy of the node's own; of a source
	Asks    bool              // the user has not answered
	Stored  time.Time         // by this device, at the rendezvous, until then; zero: never
	State   FileState
	Since   time.Time // of State
	Path    string    // of the file; until it is here, of the folder that it goes to
	Problem string    // why it failed, or changed
	Answer  FileAnswer
	file.Descriptor
}

// FileDraft is a file that is to be sent with a message.
type FileDraft struct {
	Descriptor file.Descriptor
	Path       string // where it lies on this device; not empty
	Spool      bool   // Path is a copy, which goes with the message, and after 14 days
}

// FileBlob is what the rendezvous is to be told of the copy that it may have of a file.
type FileBlob string

const (
	BlobDrop  FileBlob = "drop"  // nobody is to be given it any more
	BlobTaken FileBlob = "taken" // this account has the file
)

// FileEnd is what is left to do, outside of the store, for a file that is done with. It
// is to be done again until FileEnded: doing it twice changes nothing.
type FileEnd struct {
	FileRef
	ID    protocol.FileID
	Name  string    // as in the descriptor
	Part  string    // a folder, in which a part of the file is to be deleted; empty: none
	Spool string    // a copy that is to be deleted; empty: none
	List  file.Hash // the list of pieces that is to be deleted if not ListUsed; zero: none
	Blob  FileBlob  // what to tell the rendezvous; empty: nothing
}

var (
	ErrNoFile     = errors.New("the message carries no file")
	ErrBadFile    = errors.New("that cannot be sent as a file")
	ErrFileHere   = errors.New("the file is on this device already")
	ErrFilePaused = errors.New("the file is not given to others for now")
	ErrFileGone   = errors.New("the file is not on this device any more as it was sent")
	ErrFileEnded  = errors.New("the file was sent from this device, and is given to nobody any more")
	ErrFileState  = errors.New("that cannot be done with this file now")
	ErrRoomFiles  = errors.New("you may not send files in this room")
)

// maxOpenFiles is how many files of one conversation the user is asked about at a time.
// Of more the oldest are not asked about any more; they can be fetched all the same.
const maxOpenFiles = 256

// AutoAccept makes files of at most maxBytes that verified contacts send wanted when
// they come, in a folder; 0 bytes: none. Of a contact at most maxAutoFiles are fetched so at
// a time, and in a day at most as much as so many of maxBytes. It holds until the process
// ends.
func (e *Engine) AutoAccept(maxBytes int64, folder string) {
	e.autoAccept.Store(&autoAccept{min(maxBytes, file.MaxSize), folder})
}

type autoAccept struct {
	maxBytes int64
	folder   string
}

// What a contact can make this device fetch, at once and in time.
const (
	maxAutoFiles = 16
	autoDay      = 24 * time.Hour
)

// WantFile has the file of a message fetched into a folder: one that is offered, or was
// declined, cancelled, or failed, or is here no more. Wanting it again changes nothing.
//
// Refusals of this and the methods below: ErrNotFound, ErrNoFile, ErrFileState;
// ErrFileHere.
func (e *Engine) WantFile(tx store.Tx, now time.Time, id protocol.MsgID, folder string) (Hint, error) {
	return e.onFile(tx, now, id, func(w *work, at FileRef, r *fileRow) error {
		switch {
		case r.source && r.state != FileChanged, r.state == FileDone:
			return ErrFileHere
		case r.state == FileWanted:
			return nil
		case r.state == FilePaused: // its part is where it is
			return w.fileIs(at, r, FileWanted, "")
		}
		if r.spool || r.partial() && r.path != folder {
			if err := w.endFile(at, r); err != nil {
				return err
			}
		}
		if err := w.keepPart(at, r.id, folder); err != nil {
			return err
		}
		r.source, r.spool, r.path = false, false, folder
		return w.fileIs(at, r, FileWanted, "")
	})
}

// PauseFile stops fetching a file, or giving others one that was sent from here, until
// ResumeFile.
func (e *Engine) PauseFile(tx store.Tx, now time.Time, id protocol.MsgID) (Hint, error) {
	return e.onFile(tx, now, id, func(w *work, at FileRef, r *fileRow) error {
		switch {
		case r.state == FilePaused:
			return nil
		case r.source && r.state == FileDone, !r.source && r.state == FileWanted:
			return w.fileIs(at, r, FilePaused, "")
		}
		return ErrFileState
	})
}

// ResumeFile goes on with what PauseFile stopped, or what failed.
func (e *Engine) ResumeFile(tx store.Tx, now time.Time, id protocol.MsgID) (Hint, error) {
	return e.onFile(tx, now, id, func(w *work, at FileRef, r *fileRow) error {
		switch {
		case r.source && r.state == FilePaused:
			return w.fileIs(at, r, FileDone, "")
		case r.source && r.state == FileDone, !r.source && r.state == FileWanted:
			return nil
		case !r.source && (r.state == FilePaused || r.state == FileFailed):
			return w.fileIs(at, r, FileWanted, "")
		}
		return ErrFileState
	})
}

// DeclineFile says no to a file: its author, if that is a contact, and the other devices
// of the account are told. What was fetched of it is deleted.
func (e *Engine) DeclineFile(tx store.Tx, now time.Time, id protocol.MsgID) (Hint, error) {
	return e.onFile(tx, now, id, func(w *work, at FileRef, r *fileRow) error {
		switch {
		case r.state == FileDeclined:
			return nil
		case r.source || r.state == FileDone:
			return ErrFileState
		}
		if err := w.endFile(at, r); err != nil {
			return err
		}
		if err := w.fileIs(at, r, FileDeclined, ""); err != nil {
			return err
		}
		return w.answerFile(at, r, FileRefused)
	})
}

// CancelFile stops fetching a file, and deletes what was fetched of it; or ends giving
// others one that was sent from here, also from the rendezvous.
func (e *Engine) CancelFile(tx store.Tx, now time.Time, id protocol.MsgID) (Hint, error) {
	return e.onFile(tx, now, id, func(w *work, at FileRef, r *fileRow) error {
		switch {
		case r.state == FileCancelled:
			return nil
		case r.source: // whatever its state
		case !r.partial():
			return ErrFileState
		}
		if err := errors.Join(w.endFile(at, r), w.takeBack(at, r)); err != nil {
			return err
		}
		return w.fileIs(at, r, FileCancelled, "")
	})
}

// FileDone notes that a file that was wanted is complete at a path: synced, and under
// its final name. Its author hears of it, if that is a contact.
//
// This and the methods below are for who fetches and gives files. A file that is not
// there any more, or that the user has decided otherwise about, is left as it is.
func (e *Engine) FileDone(tx store.Tx, now time.Time, at FileRef, path string) (Hint, error) {
	return e.atFile(tx, now, at, func(w *work, r *fileRow) error {
		if !r.partial() {
			return nil
		}
		if err := w.putEnd(at, r.id, fileEndRow{name: r.name, part: r.path, blob: BlobTaken}); err != nil {
			return err
		}
		r.path = path
		if err := w.fileIs(at, r, FileDone, ""); err != nil {
			return err
		}
		return w.answerFile(at, r, FileTaken)
	})
}

// FileFailed notes that a file that was wanted cannot be fetched, and why. What is here
// of it stays: ResumeFile goes on with it.
func (e *Engine) FileFailed(tx store.Tx, now time.Time, at FileRef, why string) (Hint, error) {
	return e.atFile(tx, now, at, func(w *work, r *fileRow) error {
		if r.source || r.state != FileWanted {
			return nil
		}
		return w.fileIs(at, r, FileFailed, why)
	})
}

// FileChanged notes that a file that was on this device is not there as it was.
func (e *Engine) FileChanged(tx store.Tx, now time.Time, at FileRef, why string) (Hint, error) {
	return e.atFile(tx, now, at, func(w *work, r *fileRow) error {
		if r.state != FileDone && !(r.source && r.state == FilePaused) {
			return nil
		}
		if r.stored.IsZero() { // and never will be
			if err := w.takeBack(at, r); err != nil {
				return err
			}
		}
		return w.fileIs(at, r, FileChanged, why)
	})
}

// FileEnded notes that what a FileEnd says is done.
func (e *Engine) FileEnded(tx store.Tx, now time.Time, end FileEnd) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		key := keyFileEnd(end.ID, end.FileRef, end.Part)
		r, ok, err := load[fileEndRow](tx, key)
		if err != nil || !ok {
			return err
		}
		if r != (fileEndRow{end.Name, end.Part, end.Spool, end.List, end.Blob}) { // there is something else to do by now
			return nil
		}
		if r.blob != "" { // then it may be stored again
			w.hint.Files = true
		}
		return w.delete(key)
	})
}

// onFile is a call of the user about the file of a message.
func (e *Engine) onFile(tx store.Tx, now time.Time, id protocol.MsgID, fn func(*work, FileRef, *fileRow) error) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		h, index, err := e.find(tx, id)
		if err != nil {
			return err
		}
		at := FileRef{index.account, index.position}
		r, ok, err := load[fileRow](tx, keyFile(at))
		if err == nil && (!ok || h.file == nil) {
			err = ErrNoFile
		}
		if err != nil {
			return err
		}
		return fn(w, at, &r)
	})
}

// atFile is a call about a file, which may be gone.
func (e *Engine) atFile(tx store.Tx, now time.Time, at FileRef, fn func(*work, *fileRow) error) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		r, ok, err := load[fileRow](tx, keyFile(at))
		if err != nil || !ok {
			return err
		}
		return fn(w, &r)
	})
}

// check tells whether a file may be sent.
func (f *FileDraft) check() error {
	if f == nil {
		return nil
	}
	if err := f.Descriptor.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrBadFile, err)
	}
	if f.Path == "" {
		return fmt.Errorf("%w: it lies nowhere", ErrBadFile)
	}
	return nil
}

// sameAs tells whether a draft is of the file that was sent: its key is another each time.
func (f *FileDraft) sameAs(sent *file.Descriptor) bool {
	if f == nil || sent == nil {
		return f == nil && sent == nil
	}
	return f.Descriptor.Name == sent.Name && f.Descriptor.Size == sent.Size && f.Descriptor.Folder == sent.Folder
}
