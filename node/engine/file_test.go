package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

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
func (n *node) mayFetch(from *node, id protocol.FileID) error {
	n.w.t.Helper()
	return n.kv.View(n.w.t.(*testing.T).Context(), func(tx store.Tx) error {
		_, err := n.e.MayFetch(tx, n.w.now, from.device(), id)
		return err
	})
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
		list, err = n.e.FileEnds(tx, 0)
		return err
	})
	return list
}

// A file is offered on all devices of a contact, fetched on the one where it is wanted,
// and its author hears of that.
func TestFileToContact(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 2)
	a, b := alices[0], bobs[0]
	draft := aFile(t, "summer.jpg", "sunshine")
	id := a.sendsFile(b.account(), "look", draft)
	for _, n := range w.nodes {
		f := n.fileOf(id)
		want := FileOffered
		if n == a {
			want = FileDone
		}
		if f.ID != draft.Descriptor.ID || f.Name != "summer.jpg" || f.Size != 8 || f.State != want || f.Source != (n == a) || n.message(id).Text != "look" {
			t.Errorf("%s: %q in state %q, source %v", n.name, f.Name, f.State, f.Source)
		}
		if mine := n.account() == a.account(); f.Mine != mine || f.Asks != (!mine || n == a) {
			t.Errorf("%s: mine %v, asks %v", n.name, f.Mine, f.Asks)
		}
	}
	if err := a.wantsFile(id); !errors.Is(err, ErrFileHere) {
		t.Errorf("the author wants it: %v", err)
	}
	w.check(b.wantsFile(id))
	w.check(b.wantsFile(id))
	if got := b.fetches(); !slices.Equal(got, []string{"summer.jpg"}) || len(bobs[1].fetches()) > 0 {
		t.Errorf("wanted: %q, elsewhere %q", got, bobs[1].fetches())
	}
	b.hasFile(id)
	for _, n := range w.nodes {
		want := FileOffered
		if n == a || n == b {
			want = FileDone
		}
		wantFile(t, "fetched by one", n, id, want, FileTaken)
		if f := n.fileOf(id); f.Asks {
			t.Errorf("%s: it is still asked about", n.name)
		}
	}
	if f := b.fileOf(id); f.Path != "/home/bob/summer.jpg" || len(b.fetches()) > 0 {
		t.Errorf("it is at %q, and to be fetched: %q", f.Path, b.fetches())
	}
	if ends := b.ends(); len(ends) != 1 || ends[0].Blob != BlobTaken || ends[0].Part != "" {
		t.Errorf("left to do: %+v", ends)
	}
	w.check(bobs[1].wantsFile(id))
	if got := bobs[1].fetches(); len(got) != 1 {
		t.Errorf("wanted on the other device too: %q", got)
	}
}
