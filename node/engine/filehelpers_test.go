package engine

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// What people do with files, and what nodes know of them.

// aFile describes a file of some text, as its author does.
func aFile(t tb, name, text string) *FileDraft {
	t.Helper()
	s := file.New()
	sealed, err := s.Seal(0, []byte(text))
	if err != nil {
		t.Fatalf("seal a file: %v", err)
	}
	d, err := s.Describe(name, int64(len(text)), file.List{file.HashPiece(sealed)})
	if err != nil {
		t.Fatalf("describe a file: %v", err)
	}
	return &FileDraft{Descriptor: *d, Path: "/home/author/" + name}
}

// sendsFile sends a file to a contact or to a room.
func (n *node) sendsFile(with protocol.AccountID, text string, f *FileDraft) protocol.MsgID {
	n.w.t.Helper()
	id, err := n.draft(with, Draft{Text: text, File: f})
	n.w.check(err)
	n.w.settle()
	return id
}

func (n *node) onFile(id protocol.MsgID, do func(store.Tx, time.Time, protocol.MsgID) (Hint, error)) error {
	return n.update(func(tx store.Tx) (Hint, error) { return do(tx, n.w.now, id) })
}

func (n *node) wantsFile(id protocol.MsgID) error {
	return n.onFile(id, func(tx store.Tx, now time.Time, id protocol.MsgID) (Hint, error) {
		return n.e.WantFile(tx, now, id, "/home/"+n.name)
	})
}

// hasFile notes that a wanted file is complete.
func (n *node) hasFile(id protocol.MsgID) {
	n.w.t.Helper()
	f := n.fileOf(id)
	n.do(func(tx store.Tx) (Hint, error) { return n.e.FileDone(tx, n.w.now, f.FileRef, f.Path+"/"+f.Name) })
	n.w.settle()
}

// fileOf is the file of a message; the zero File if the message, or the file, is gone.
func (n *node) fileOf(id protocol.MsgID) (f File) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		m, err := n.e.Message(tx, id)
		if m.File != nil {
			f = *m.File
		}
		if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return err
	})
	return f
}

// mayFetch asks a node for a file as another one does.
func (n *node) mayFetch(from *node, d *file.Descriptor) error {
	n.w.t.Helper()
	return n.kv.View(context.Background(), func(tx store.Tx) error {
		_, err := n.e.MayFetch(tx, n.w.now, from.device(), d.ID, d.List)
		return err
	})
}

// toStore are the names of the files that are to be brought to the rendezvous.
func (n *node) toStore() (names []string) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		list, err := n.e.FilesToStore(tx, n.w.now)
		for _, f := range list {
			names = append(names, f.Name)
		}
		return err
	})
	return names
}

// storing notes that the file of a message is about to be brought to the rendezvous.
func (n *node) storing(id protocol.MsgID) error {
	at := n.fileOf(id).FileRef
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.FileStoring(tx, n.w.now, at) })
}

// stores has the file of a message at the rendezvous, for two weeks.
func (n *node) stores(id protocol.MsgID) {
	n.w.t.Helper()
	n.w.check(n.storing(id))
	at := n.fileOf(id).FileRef
	n.do(func(tx store.Tx) (Hint, error) { return n.e.FileStored(tx, n.w.now, at, n.w.now.Add(sentFor)) })
}

func (n *node) hasRow(key []byte) bool {
	n.w.t.Helper()
	var b []byte
	n.view(func(tx store.Tx) (err error) {
		b, err = get(tx, key)
		return err
	})
	return b != nil
}

func wantFile(t *testing.T, what string, n *node, id protocol.MsgID, state FileState, answer FileAnswer) {
	t.Helper()
	if f := n.fileOf(id); f.State != state || f.Answer != answer {
		t.Errorf("%s at %s: %q and %q, want %q and %q", what, n.name, f.State, f.Answer, state, answer)
	}
}

func (n *node) fetches() (names []string) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		list, err := n.e.FilesToFetch(tx)
		for _, f := range list {
			names = append(names, f.Name)
		}
		return err
	})
	return names
}

func (n *node) ends() (list []FileEnd) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.FileEnds(tx, func(FileEnd) bool { return true })
		return err
	})
	return list
}

// sendsBad sends a contact a file with something wrong about it.
func (n *node) sendsBad(to *node, text string, spoil func(*wire.File)) {
	n.w.t.Helper()
	f := aFile(n.w.t, "a", "abc").Descriptor.Wire()
	spoil(f)
	n.sendsFileAs(to, protocol.MsgID{}, text, f)
}

// sendsFileAs sends a contact a file in a message of that id; zero: of a new one.
func (n *node) sendsFileAs(to *node, id protocol.MsgID, text string, f *wire.File) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.do(tx, n.w.now, func(w *work) error {
			d, err := w.device(to.device())
			if err != nil {
				return err
			}
			d.sentSeq++
			content := &wire.Content{Seq: d.sentSeq, Body: &wire.Content_Text{Text: &wire.Text{Text: text, File: f}}}
			r, err := w.newItem(d, wire.MailKind_MESSAGE, content)
			if err != nil {
				return err
			}
			if id != (protocol.MsgID{}) {
				content.MsgId = id[:]
				if r.content, err = proto.Marshal(content); err != nil {
					return err
				}
			}
			_, err = w.post(to.device(), d, r, content)
			return err
		})
	})
	n.w.settle()
}
