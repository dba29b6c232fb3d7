package engine

import (
	"bytes"
	"crypto/sha256"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

var (
	fileStates  = []FileState{"", FileOffered, FileWanted, FilePaused, FileDone, FileDeclined, FileCancelled, FileFailed, FileChanged}
	fileAnswers = []FileAnswer{FileUnanswered, FileTaken, FileRefused}
)

// fileRow is what this device has of a file that a message carries, and is to do with it.
// What the message says of the file is with the text of the message.
type fileRow struct {
	id     protocol.FileID
	list   file.Hash // of its pieces, if the list is kept beside the store; zero: it is in the message
	name   string
	source bool // it was sent from here: path is where it lies
	spool  bool // path is a copy of the node's own
	asks   bool // the user is to answer
	state  FileState
	since  time.Time // of the state
	path   string    // of the file, or, until it is here, of the folder it goes to

	toStore bool      // it was sent from here, and the rendezvous may store it for who is away
	there   bool      // the rendezvous may have some of it from here
	stored  time.Time // until then the rendezvous has all of it; zero: it never had

	problem  string
	answer   FileAnswer // of the account that it was sent to
	answerAt time.Time  // at_ms of it
}

func (r *fileRow) encode() []byte {
	e := newRow(96 + len(r.name) + len(r.path) + len(r.problem))
	e.raw(r.id[:])
	e.raw(r.list[:])
	e.string(r.name)
	e.bool(r.source, r.spool, r.asks, r.toStore, r.there)
	e.u8(indexOf(fileStates, r.state))
	e.time(r.since)
	e.string(r.path)
	e.string(r.problem)
	e.u8(indexOf(fileAnswers, r.answer))
	e.time(r.answerAt)
	e.time(r.stored)
	return e.b
}

func (r *fileRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.id[:])
	d.fixed(r.list[:])
	r.name = d.string()
	d.bool(&r.source, &r.spool, &r.asks, &r.toStore, &r.there)
	r.state = at(d, fileStates)
	r.since = d.time()
	r.path, r.problem = d.string(), d.string()
	r.answer = at(d, fileAnswers)
	r.answerAt, r.stored = d.time(), d.time()
	return d.end("file")
}

// partial tells that there may be a part of the file in its folder.
func (r *fileRow) partial() bool {
	return !r.source && (r.state == FileWanted || r.state == FilePaused || r.state == FileFailed)
}

// open tells that the file is among those that something is to be done with.
func (r *fileRow) open() bool {
	return r.asks || r.toStore || !r.source && (r.state == FileWanted || r.state == FilePaused)
}

// needsList tells whether the list of the file's pieces is of use.
func (r *fileRow) needsList() bool {
	switch r.state {
	case FileWanted, FilePaused, FileDone, FileFailed:
		return true
	}
	return false
}

// fileEndRow is what is left to do outside of the store for a file: see FileEnd.
type fileEndRow struct {
	name, part, spool string
	list              file.Hash
	blob              FileBlob
}

var fileBlobs = []FileBlob{"", BlobDrop, BlobTaken}

func (r *fileEndRow) encode() []byte {
	e := newRow(48 + len(r.name) + len(r.part) + len(r.spool))
	e.string(r.name)
	e.string(r.part)
	e.string(r.spool)
	e.raw(r.list[:])
	e.u8(indexOf(fileBlobs, r.blob))
	return e.b
}

func (r *fileEndRow) decode(b []byte) error {
	d := readRow(b)
	r.name, r.part, r.spool = d.string(), d.string(), d.string()
	d.fixed(r.list[:])
	r.blob = at(d, fileBlobs)
	return d.end("end of a file")
}

// fileAutoRow is how much of a contact's files was made wanted unasked within autoDay.
type fileAutoRow struct {
	since time.Time
	bytes int64
}

func (r *fileAutoRow) encode() []byte {
	e := newRow(18)
	e.time(r.since)
	e.u64(uint64(r.bytes))
	return e.b
}

func (r *fileAutoRow) decode(b []byte) error {
	d := readRow(b)
	r.since, r.bytes = d.time(), int64(d.u64())
	return d.end("files fetched unasked")
}

func keyFileAuto(a protocol.AccountID) []byte { return store.Key(tableFileAuto, a[:]) }

func keyFile(at FileRef) []byte     { return store.Key(tableFile, at.With[:], at.Position) }
func keyOpenFile(at FileRef) []byte { return store.Key(tableOpenFile, at.With[:], at.Position) }

func keyFileID(id protocol.FileID, at FileRef) []byte {
	return store.Key(tableFileID, id[:], at.With[:], at.Position)
}

// keyFileEnd has a mark of the folder of the part, so that there is one for each folder that
// a file was to come to.
func keyFileEnd(id protocol.FileID, at FileRef, part string) []byte {
	mark := sha256.Sum256([]byte(part))
	return store.Key(tableFileEnd, id[:], mark[:8], at.With[:], at.Position)
}

// fileRefOf reads the end of such a key.
func fileRefOf(key []byte) (at FileRef) {
	at.Position = keyNumber(key)
	copy(at.With[:], key[len(key)-8-len(at.With):])
	return at
}

// describe writes what a message says of its file.
func (e *encoder) describe(d *file.Descriptor) {
	e.raw(d.ID[:])
	e.raw(d.Key.Bytes())
	e.raw(d.Salt[:])
	e.raw(d.Commitment[:])
	e.u64(uint64(d.Size))
	e.raw(d.List[:])
	e.bytes(d.Inline.Bytes())
	e.string(d.Name)
	e.string(d.Type)
	e.bool(d.Folder)
	e.bytes(d.Thumbnail)
}

// described reads it. It was checked before it was written.
func (d *decoder) described() *file.Descriptor {
	f := &file.Descriptor{}
	d.fixed(f.ID[:])
	k, err := file.ParseKey(d.raw(fileKeySize))
	f.Key = k
	d.fixed(f.Salt[:])
	d.fixed(f.Commitment[:])
	f.Size = int64(d.u64())
	d.fixed(f.List[:])
	if b := d.bytes(); len(b) > 0 && !d.bad {
		var wrong error
		f.Inline, wrong = file.ParseList(b, f.Size)
		d.bad = wrong != nil
	}
	f.Name, f.Type = d.string(), d.string()
	d.bool(&f.Folder)
	f.Thumbnail = bytes.Clone(d.bytes())
	d.bad = d.bad || err != nil
	return f
}

const fileKeySize = 32 // bytes
