package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

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
		if mine := n.account() == a.account(); f.Mine != mine || f.Asks == mine {
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
	for n, want := range map[*node]int{a: 1, alices[1]: 1, b: 1, bobs[1]: 0} {
		told := 0
		for _, e := range n.events(KindChanged) {
			if e.Cause == CauseFile && e.Text == string(FileDone) {
				told++
			}
		}
		if told != want {
			t.Errorf("%s is told %d times", n.name, told)
		}
	}
	if ends := b.ends(); len(ends) != 1 || ends[0].Blob != BlobTaken || ends[0].Part != "/home/bob" {
		t.Errorf("left to do: %+v", ends)
	}
	w.check(bobs[1].wantsFile(id))
	if got := bobs[1].fetches(); len(got) != 1 {
		t.Errorf("wanted on the other device too: %q", got)
	}
}

// What the user does with a file that is fetched, and what follows from it.
func TestFileIsPausedFailsAndIsCancelled(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	id := a.sendsFile(b.account(), "", aFile(t, "a.txt", "abc"))
	if got := b.message(id).Text; got != "" {
		t.Errorf("the text is %q", got)
	}
	w.check(b.wantsFile(id))
	w.check(b.onFile(id, b.e.PauseFile))
	w.check(b.onFile(id, b.e.PauseFile))
	wantFile(t, "paused", b, id, FilePaused, FileUnanswered)
	if got := b.fetches(); len(got) != 0 {
		t.Errorf("paused, and to be fetched: %q", got)
	}
	w.check(b.onFile(id, b.e.ResumeFile))
	at := b.fileOf(id).FileRef
	b.do(func(tx store.Tx) (Hint, error) { return b.e.FileFailed(tx, w.now, at, "the disk is full") })
	if f := b.fileOf(id); f.State != FileFailed || f.Problem != "the disk is full" {
		t.Errorf("failed: %q, %q", f.State, f.Problem)
	}
	w.check(b.onFile(id, b.e.ResumeFile))
	wantFile(t, "resumed", b, id, FileWanted, FileUnanswered)
	w.check(b.onFile(id, b.e.CancelFile))
	w.settle()
	wantFile(t, "cancelled", b, id, FileCancelled, FileUnanswered)
	if ends := b.ends(); len(ends) != 1 || ends[0].Part != "/home/bob" || ends[0].Name != "a.txt" || ends[0].ID != b.fileOf(id).ID {
		t.Errorf("left to do: %+v", ends)
	}
	w.check(b.wantsFile(id))
	if ends := b.ends(); len(ends) != 0 {
		t.Errorf("wanted again, and to be deleted: %+v", ends)
	}
	b.do(func(tx store.Tx) (Hint, error) { return b.e.FileFailed(tx, w.now, at, "no right to write there") })
	w.check(b.onFile(id, func(tx store.Tx, now time.Time, id protocol.MsgID) (Hint, error) {
		return b.e.WantFile(tx, now, id, "/elsewhere")
	}))
	if ends := b.ends(); b.fileOf(id).Path != "/elsewhere" || len(ends) != 1 || ends[0].Part != "/home/bob" {
		t.Errorf("wanted elsewhere, in %q, left to do: %+v", b.fileOf(id).Path, ends)
	}
	w.check(b.onFile(id, b.e.CancelFile))
	parts := map[string]bool{}
	for _, end := range b.ends() {
		parts[end.Part] = true
		b.do(func(tx store.Tx) (Hint, error) { return b.e.FileEnded(tx, w.now, end) })
	}
	if !parts["/home/bob"] || !parts["/elsewhere"] || len(parts) != 2 {
		t.Errorf("left to do after two folders: %v", parts)
	}
	if ends := b.ends(); len(ends) != 0 {
		t.Errorf("done, and left to do: %+v", ends)
	}
}

// What the user answers to a file, and who hears of it.
func TestFileAnswers(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 2)
	a, b := alices[0], bobs[0]
	id := a.sendsFile(b.account(), "", aFile(t, "a.txt", "abc"))
	w.check(b.wantsFile(id))
	w.check(b.onFile(id, b.e.DeclineFile))
	w.settle()
	wantFile(t, "declined", b, id, FileDeclined, FileRefused)
	wantFile(t, "declined", bobs[1], id, FileDeclined, FileRefused)
	wantFile(t, "declined", a, id, FileDone, FileRefused)
	w.pass(time.Second)
	w.check(bobs[1].wantsFile(id))
	bobs[1].hasFile(id)
	wantFile(t, "taken after all", a, id, FileDone, FileTaken)
	for what, try := range map[string]error{
		"decline what is here": bobs[1].onFile(id, bobs[1].e.DeclineFile), "cancel what is here": bobs[1].onFile(id, bobs[1].e.CancelFile),
		"pause what is declined": b.onFile(id, b.e.PauseFile), "decline an own one": a.onFile(id, a.e.DeclineFile),
	} {
		if !errors.Is(try, ErrFileState) {
			t.Errorf("%s: %v", what, try)
		}
	}
	plain := a.send(b, "no file")
	w.settle()
	if err := b.wantsFile(plain); !errors.Is(err, ErrNoFile) {
		t.Errorf("the file of a plain message: %v", err)
	}
	if err := b.wantsFile(protocol.NewMsgID()); !errors.Is(err, ErrNotFound) {
		t.Errorf("the file of no message: %v", err)
	}
}

// With a message its file goes, everywhere, with the key; what is on a disk stays.
func TestDeletedMessageTakesItsFileAlong(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 2)
	a, b := alices[0], bobs[0]
	draft := aFile(t, "a.txt", "abc")
	draft.Spool = true
	id := a.sendsFile(b.account(), "look", draft)
	a.stores(id)
	secret := string(draft.Descriptor.Key.Bytes())
	w.check(b.wantsFile(id))
	w.check(bobs[1].wantsFile(id))
	bobs[1].hasFile(id)
	w.check(a.erase(id))
	w.settle()
	for _, n := range w.nodes {
		if n.holds(secret) || n.fileOf(id).Name != "" || len(n.rows(tableFile))+len(n.rows(tableFileID))+len(n.rows(tableOpenFile)) > 0 {
			t.Errorf("%s still has the file", n.name)
		}
		if err := n.mayFetch(b, &draft.Descriptor); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s still gives it: %v", n.name, err)
		}
	}
	if got := b.ends(); len(got) != 1 || got[0].Part != "/home/bob" {
		t.Errorf("who was fetching it has left to do %+v", got)
	}
	if got := bobs[1].ends(); len(got) != 1 || got[0].Part != "/home/bob" || got[0].Blob != BlobTaken {
		t.Errorf("who had fetched it has left to do %+v", got)
	}
	if got := a.ends(); len(got) != 1 || got[0].Spool != draft.Path || got[0].Blob != BlobDrop {
		t.Errorf("who sent it has left to do %+v", got)
	}
}

// So it does when the message's time is over, and when one deletes it for oneself.
func TestVanishedMessageTakesItsFileAlong(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	w.check(a.setTimer(b.account(), time.Hour))
	w.settle()
	vanishing, hidden := aFile(t, "a", "abc"), aFile(t, "b", "abc")
	first := a.sendsFile(b.account(), "", vanishing)
	second := a.sendsFile(b.account(), "", hidden)
	w.check(b.conceal(second))
	b.do(func(tx store.Tx) (Hint, error) { return b.e.MarkRead(tx, w.now, a.account(), 100) })
	w.check(b.wantsFile(first))
	if got := b.fetches(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("to be fetched: %q", got)
	}
	w.pass(2 * time.Hour)
	for _, n := range w.nodes {
		if len(n.rows(tableFile)) != 0 || n.holds(string(vanishing.Descriptor.Key.Bytes())) {
			t.Errorf("%s still has it", n.name)
		}
	}
	if got := b.ends(); len(got) != 1 || got[0].ID != vanishing.Descriptor.ID {
		t.Errorf("left to do: %+v", got)
	}
}

// A sent file can be paused, cancelled, or found changed: then nobody is given it.
func TestFileOfTheAuthor(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 1)
	a, b := alices[0], bobs[0]
	draft := aFile(t, "a", "abc")
	draft.Spool = true
	id := a.sendsFile(b.account(), "", draft)
	gives := func(what string, want error) {
		t.Helper()
		if err := a.mayFetch(b, &draft.Descriptor); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	gives("sent", nil)
	w.check(a.onFile(id, a.e.PauseFile))
	gives("paused", ErrFilePaused)
	w.check(a.onFile(id, a.e.ResumeFile))
	gives("resumed", nil)
	at := a.fileOf(id).FileRef
	if got := a.toStore(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("to be stored: %q", got)
	}
	a.stores(id)
	if f := a.fileOf(id); len(a.toStore()) != 0 || !f.Stored.Equal(w.now.Add(sentFor)) || f.State != FileDone {
		t.Errorf("stored until %v, state %q, to be stored: %q", f.Stored, f.State, a.toStore())
	}
	w.check(alices[1].wantsFile(id)) // on the author's other device
	a.do(func(tx store.Tx) (Hint, error) { return a.e.FileChanged(tx, w.now, at, "it is another file now") })
	gives("changed", ErrFileGone)
	w.check(a.onFile(id, a.e.CancelFile))
	gives("cancelled", ErrFileEnded)
	if got := a.ends(); len(got) != 1 || got[0].Spool != draft.Path || got[0].Blob != BlobDrop {
		t.Errorf("left to do: %+v", got)
	}
	alices[1].hasFile(id)
	if err := alices[1].mayFetch(b, &draft.Descriptor); err != nil {
		t.Errorf("the author's other device: %v", err)
	}
	wantFile(t, "fetched on the author's other device", b, id, FileOffered, FileUnanswered)
}

// The same draft twice is one message; a file that says what is not so is none.
func TestFileDrafts(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	id := a.sendsFile(b.account(), "x", aFile(t, "a", "abc"))
	again := func(d Draft) error {
		return a.update(func(tx store.Tx) (Hint, error) { return a.e.ComposeDraft(tx, w.now, b.account(), id, d) })
	}
	w.check(again(Draft{Text: "x", File: aFile(t, "a", "abc")}))
	for what, d := range map[string]Draft{
		"another name": {Text: "x", File: aFile(t, "b", "abc")}, "another size": {Text: "x", File: aFile(t, "a", "abcd")}, "no file": {Text: "x"},
	} {
		if err := again(d); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.settle()
	if got := len(b.history(a)); got != 1 {
		t.Errorf("%d messages", got)
	}
	unclean, nowhere := aFile(t, "a", "abc"), aFile(t, "a", "abc")
	unclean.Descriptor.Name, nowhere.Path = "../a", ""
	for _, f := range []*FileDraft{unclean, nowhere} {
		if _, err := a.draft(b.account(), Draft{File: f}); !errors.Is(err, ErrBadFile) {
			t.Errorf("%q at %q: %v", f.Descriptor.Name, f.Path, err)
		}
	}
}

// A file that cannot be one is left out, with a word about it, and the text stays.
func TestBadFileOfOthers(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	a.sendsBad(b, "look", func(f *wire.File) { f.List = f.List[1:] })
	if got := b.history(a); len(got) != 1 || got[0].Text != "look" || got[0].File != nil {
		t.Errorf("it shows %q", texts(got))
	}
	if got := b.events(KindUndecryptable); len(got) != 1 || got[0].Cause != CauseMalformed {
		t.Errorf("%d events", len(got))
	}
	a.sendsBad(b, "and this", func(f *wire.File) { f.Name = "../../etc/\u202epasswd" })
	got := b.history(a)
	if f := got[len(got)-1].File; f == nil || f.Name != "passwd" {
		t.Errorf("the name is %+v", f)
	}
	w.checkEmpty()
}

// The file of a message that was received before is not looked at again.
func TestFileSentTwice(t *testing.T) {
	_, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	id := a.sendsFile(b.account(), "look", aFile(t, "a", "abc"))
	a.sendsFileAs(b, id, "look", &wire.File{})
	if got := b.history(a); len(got) != 1 || got[0].File == nil {
		t.Errorf("it shows %q", texts(got))
	}
	if got := b.events(KindUndecryptable); len(got) != 0 {
		t.Errorf("%d events", len(got))
	}
}

// History on another device and a backup know the files, and ask about none.
func TestPastFiles(t *testing.T) {
	w, alices, bobs := crowd(t, 1, 1)
	a, b := alices[0], bobs[0]
	theirs := a.sendsFile(b.account(), "of alice", aFile(t, "a", "abc"))
	mine := b.sendsFile(a.account(), "of bob", aFile(t, "b", "abc"))
	second := w.link(b)
	w.settle()
	b.do(func(tx store.Tx) (Hint, error) { return b.e.SharePast(tx, w.now, second.device(), true) })
	w.pass(time.Minute)
	for id, name := range map[protocol.MsgID]string{theirs: "a", mine: "b"} {
		if f := second.fileOf(id); f.Name != name || f.State != FileOffered || f.Asks || f.Source {
			t.Errorf("%s: %q in state %q, asks %v", name, f.Name, f.State, f.Asks)
		}
		w.check(second.wantsFile(id))
	}
	if got := b.fileOf(mine); got.Key.Bytes() == nil || string(got.Key.Bytes()) != string(second.fileOf(mine).Key.Bytes()) {
		t.Error("the key is another one")
	}
	var sources []protocol.DeviceID
	second.view(func(tx store.Tx) (err error) {
		sources, err = second.e.FileSources(tx, w.now, second.fileOf(theirs).FileRef)
		return err
	})
	if !slices.Equal(sources, []protocol.DeviceID{a.device(), b.device()}) {
		t.Errorf("it is to be had from %v", sources)
	}
}
