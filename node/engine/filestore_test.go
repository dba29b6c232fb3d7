package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// What a contact was sent is not brought to the rendezvous any more when he is none, and
// what is there goes; what he sent is not fetched on.
func TestNoFilesForFormerContacts(t *testing.T) {
	for name, part := range map[string]func(a, b *node, elsewhere *node){
		"blocked": func(a, b, _ *node) {
			a.do(func(tx store.Tx) (Hint, error) { return a.e.Block(tx, a.w.now, b.account()) })
		},
		"removed": func(a, b, _ *node) {
			a.do(func(tx store.Tx) (Hint, error) { return a.e.Remove(tx, a.w.now, b.account()) })
		},
		"blocked elsewhere": func(_, b, elsewhere *node) {
			elsewhere.do(func(tx store.Tx) (Hint, error) { return elsewhere.e.Block(tx, b.w.now, b.account()) })
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, alices, bobs := crowd(t, 2, 1)
			a, b := alices[0], bobs[0]
			stored := a.sendsFile(b.account(), "", aFile(t, "stored", "abc"))
			a.stores(stored)
			begun := a.sendsFile(b.account(), "", aFile(t, "begun", "abc"))
			w.check(a.storing(begun))
			waits := a.sendsFile(b.account(), "", aFile(t, "waits", "abc"))
			theirs := b.sendsFile(a.account(), "", aFile(t, "his", "abc"))
			w.check(a.wantsFile(theirs))
			if got := a.toStore(); !slices.Equal(got, []string{"begun", "waits"}) {
				t.Errorf("to be stored: %q", got)
			}
			part(a, b, alices[1])
			w.settle()
			if got := a.toStore(); len(got) != 0 {
				t.Errorf("to be stored: %q", got)
			}
			if err := a.storing(waits); !errors.Is(err, ErrFileState) {
				t.Errorf("it is brought all the same: %v", err)
			}
			dropped := dropped(a)
			if !slices.Equal(dropped, []string{"begun", "stored"}) || !a.fileOf(stored).Stored.IsZero() {
				t.Errorf("taken back: %q", dropped)
			}
			wantFile(t, "theirs", a, theirs, FilePaused, FileUnanswered)
		})
	}
}

// dropped are the names of the files that are to be taken back from the rendezvous.
func dropped(n *node) (names []string) {
	for _, e := range n.ends() {
		if e.Blob == BlobDrop {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	return names
}

// A contact who is one again is given files again, when what was there before is gone.
func TestFilesForAContactAgain(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	id := a.sendsFile(b.account(), "", aFile(t, "a", "abc"))
	w.check(a.storing(id))
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Block(tx, w.now, b.account()) })
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Unblock(tx, w.now, b.account()) })
	if got := a.toStore(); len(got) != 0 {
		t.Errorf("to be stored before it is taken back: %q", got)
	}
	for _, end := range a.ends() {
		a.do(func(tx store.Tx) (Hint, error) { return a.e.FileEnded(tx, w.now, end) })
	}
	if got := a.toStore(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("to be stored: %q", got)
	}
}

// More files than one transaction takes back are all taken back.
func TestManyFilesTakenBack(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	for range batchRows + 1 {
		id, err := a.draft(b.account(), Draft{File: aFile(t, "a", "abc")})
		w.check(err)
		w.check(a.storing(id))
	}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Block(tx, w.now, b.account()) })
	w.pass(time.Minute)
	if got := len(dropped(a)); got != batchRows+1 {
		t.Errorf("%d taken back", got)
	}
}

// A contact whose account was recovered gets none before the user has looked.
func TestNoFilesForTheRecovered(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	a.do(func(tx store.Tx) (Hint, error) { return a.e.SetVerified(tx, w.now, b.account(), true) })
	a.sendsFile(b.account(), "", aFile(t, "a", "abc"))
	chain, _ := w.recovered(b)
	w.publish("bob", chain)
	w.settle()
	if got := a.toStore(); len(got) != 0 {
		t.Errorf("to be stored: %q", got)
	}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.AcceptRecovery(tx, w.now, b.account()) })
	if got := a.toStore(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("to be stored: %q", got)
	}
}

// Who left a room brings its rendezvous nothing more for it.
func TestNoFilesForALeftRoom(t *testing.T) {
	w := newWorld(t)
	id, nodes, _ := houseOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	b.sendsFile(Conversation(id), "", aFile(t, "plan", "abc"))
	if got := b.toStore(); !slices.Equal(got, []string{"plan"}) {
		t.Errorf("to be stored: %q", got)
	}
	w.check(a.write(id, room.Remove{Account: b.account()}))
	w.settle()
	if got := b.toStore(); len(got) != 0 {
		t.Errorf("to be stored: %q", got)
	}
}

// A file of which the rendezvous may have any part is taken back from there, whatever ends
// it, if nobody is to be given it any more.
func TestStoredFileIsTakenBack(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	var want []string
	for _, c := range []struct {
		name string
		end  func(f File) error
		back bool
	}{
		{"cancelled", func(f File) error { return a.onFile(f.Message, a.e.CancelFile) }, true},
		{"changed", func(f File) error {
			return a.update(func(tx store.Tx) (Hint, error) { return a.e.FileChanged(tx, w.now, f.FileRef, "gone") })
		}, true},
		{"declined", func(f File) error { return b.onFile(f.Message, b.e.DeclineFile) }, true},
		{"deleted", func(f File) error { return a.erase(f.Message) }, true},
		{"paused", func(f File) error { return a.onFile(f.Message, a.e.PauseFile) }, false},
		{"taken", func(f File) error {
			w.check(b.wantsFile(f.Message))
			b.hasFile(f.Message)
			return nil
		}, false},
	} {
		id := a.sendsFile(b.account(), "", aFile(t, c.name, "abc"))
		for range 2 {
			w.check(a.storing(id))
		}
		f := a.fileOf(id)
		w.check(c.end(f))
		w.settle()
		if c.back {
			want = append(want, c.name)
		}
		if got := dropped(a); !slices.Equal(got, want) {
			t.Errorf("%s: taken back: %q", c.name, got)
		}
		if err := a.storing(id); !errors.Is(err, ErrFileState) {
			t.Errorf("%s: it is brought all the same: %v", c.name, err)
		}
		a.do(func(tx store.Tx) (Hint, error) { return a.e.FileStored(tx, w.now, f.FileRef, w.now.Add(time.Hour)) })
		if stored := !a.fileOf(id).Stored.IsZero(); stored && c.back {
			t.Errorf("%s: it is stored all the same", c.name)
		}
	}
}

// A file that nobody took is not to be stored for ever, nor among those that something is
// to be done with; and a copy that the node keeps of one is not kept for ever.
func TestSentFileIsNotOpenForEver(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	changed := a.sendsFile(b.account(), "", aFile(t, "changed", "abc"))
	at := a.fileOf(changed).FileRef
	a.do(func(tx store.Tx) (Hint, error) { return a.e.FileChanged(tx, w.now, at, "gone") })
	a.sendsFile(b.account(), "", aFile(t, "old", "abc"))
	piped := aFile(t, "piped", "abc")
	piped.Spool = true
	id := a.sendsFile(b.account(), "", piped)
	open := func() (names []string) {
		a.view(func(tx store.Tx) error {
			list, err := a.e.OpenFiles(tx)
			for _, f := range list {
				names = append(names, f.Name)
			}
			return err
		})
		return names
	}
	w.pass(sentFor - time.Hour)
	if got := open(); !slices.Equal(got, []string{"old", "piped"}) || !slices.Equal(got, a.toStore()) {
		t.Errorf("an hour before: %q, to be stored: %q", got, a.toStore())
	}
	if err := a.mayFetch(b, &piped.Descriptor); err != nil || len(a.ends()) != 0 {
		t.Errorf("an hour before: %v, left to do: %+v", err, a.ends())
	}
	w.pass(2 * time.Hour)
	if got := open(); len(got) != 0 || len(a.toStore()) != 0 {
		t.Errorf("afterwards: %q, to be stored: %q", got, a.toStore())
	}
	wantFile(t, "afterwards", a, id, FileChanged, FileUnanswered)
	if ends := a.ends(); len(ends) != 1 || ends[0].Spool != piped.Path || ends[0].Blob != "" {
		t.Errorf("left to do: %+v", ends)
	}
	wantFile(t, "afterwards", b, id, FileOffered, FileUnanswered)
}
