package engine

import (
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

func wantGives(t *testing.T, what string, n, to *node, id protocol.FileID, want bool) {
	t.Helper()
	err := n.mayFetch(to, id)
	if err != nil && !errors.Is(err, ErrNotFound) || (err == nil) != want {
		t.Errorf("%s: %s gives it to %s: %v, want %v", what, n.name, to.name, err, want)
	}
}

// A file sent to a contact is for the devices of the two accounts, as long as they are
// contacts and the devices stand.
func TestFilesAreForContacts(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 2)
	a, b := alices[0], bobs[0]
	eve := w.add("eve")
	w.befriend(eve, a)
	draft := aFile(t, "a", "abc")
	id, fid := a.sendsFile(b.account(), "", draft), draft.Descriptor.ID
	wantGives(t, "sent", a, b, fid, true)
	wantGives(t, "sent", a, bobs[1], fid, true)
	wantGives(t, "sent", a, alices[1], fid, true)
	wantGives(t, "sent", a, eve, fid, false)
	wantGives(t, "not fetched", b, bobs[1], fid, false)
	w.check(b.wantsFile(id))
	wantGives(t, "not fetched to its end", b, bobs[1], fid, false)
	b.hasFile(id)
	wantGives(t, "fetched", b, bobs[1], fid, true)
	wantGives(t, "fetched", b, alices[1], fid, true)
	wantGives(t, "fetched", b, eve, fid, false)

	// eve learned the id, and sends a file with it: what she gets is hers at most
	forged := aFile(t, "forged", "abc")
	eve.sendsForged(a, forged, fid)
	wantGives(t, "with a forged one", a, eve, fid, false)
	wantGives(t, "with a forged one", a, b, fid, true)

	chain, err := b.change(func(tx store.Tx) ([]byte, error) { return b.e.Revoke(tx, w.now, bobs[1].device(), account.Lost) })
	w.check(err)
	w.check(b.setOwnChain(chain))
	w.publish("bob", b.chain())
	w.nodes = slices.DeleteFunc(w.nodes, func(n *node) bool { return n == bobs[1] }) // it is none any more
	w.pass(time.Hour)
	wantGives(t, "its device revoked", a, bobs[1], fid, false)
	wantGives(t, "its device revoked", b, bobs[1], fid, false)
	a.do(func(tx store.Tx) (Hint, error) { return a.e.Block(tx, w.now, b.account()) })
	wantGives(t, "blocked", a, b, fid, false)
	wantGives(t, "blocked", a, alices[1], fid, true)
}

// sendsForged sends a contact a file under an id that somebody else's has.
func (n *node) sendsForged(to *node, f *FileDraft, id protocol.FileID) {
	n.sendsBad(to, "", func(w *wire.File) { w.Id = id[:] })
}

// TestGST12_FilesOfARoom: whoever may read in a room now may fetch its files from any
// member that has them; a removed member and a guest that left may not.
func TestGST12_FilesOfARoom(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob", "carol")
	a, b, c := nodes[0], nodes[1], nodes[2]
	stranger := w.add("stranger")
	w.befriend(a, stranger)
	draft := aFile(t, "plan.pdf", "abc")
	msg, fid := a.sendsFile(Conversation(id), "the plan", draft), draft.Descriptor.ID
	for _, n := range []*node{b, c, g} {
		if f := n.fileOf(msg); f.Name != "plan.pdf" || f.State != FileOffered {
			t.Fatalf("%s has %q in state %q", n.name, f.Name, f.State)
		}
		wantGives(t, "sent", a, n, fid, true)
	}
	wantGives(t, "sent", a, stranger, fid, false)
	wantGives(t, "not fetched", b, c, fid, false)
	w.check(b.wantsFile(msg))
	b.hasFile(msg)
	wantGives(t, "fetched", b, c, fid, true)
	wantGives(t, "fetched", b, g, fid, true)
	if f := a.fileOf(msg); f.Answer != FileUnanswered {
		t.Errorf("who fetched it tells the room: %q", f.Answer)
	}
	var sources []protocol.DeviceID
	g.view(func(tx store.Tx) (err error) {
		sources, err = g.e.FileSources(tx, w.now, g.fileOf(msg).FileRef)
		return err
	})
	if len(sources) != 3 || sources[0] != a.device() || !slices.Contains(sources, b.device()) {
		t.Errorf("%d sources", len(sources))
	}
	a.do(func(tx store.Tx) (Hint, error) { // before the room's log says so
		work, err := a.e.begin(tx, w.now)
		if err != nil {
			return Hint{}, err
		}
		d, err := work.device(c.device())
		if err != nil {
			return Hint{}, err
		}
		d.revoked = true
		return work.end()
	})
	wantGives(t, "its device revoked", a, c, fid, false)
	w.check(a.write(id, room.Remove{Account: c.account()}))
	w.check(a.write(id, room.Remove{Account: g.account()}))
	w.settle()
	for _, n := range []*node{a, b} {
		wantGives(t, "removed", n, c, fid, false)
		wantGives(t, "removed", n, g, fid, false)
	}
	wantGives(t, "of who was removed", c, a, fid, false)
}

// Who may not send files in a room sends none, and is not heard by the others if its
// program does.
func TestFileRightsInRooms(t *testing.T) {
	w := newWorld(t)
	id, nodes, g := houseOf(t, w, "alice", "bob")
	a, b := nodes[0], nodes[1]
	if _, err := g.draft(Conversation(id), Draft{Text: "x", File: aFile(t, "a", "abc")}); !errors.Is(err, ErrRoomFiles) {
		t.Errorf("a guest sends a file: %v", err)
	}
	w.check(a.write(id, room.SetMemberRights{Account: b.account(), HasOwn: true, Own: room.Read | room.Files}))
	w.settle()
	if _, err := b.draft(Conversation(id), Draft{Text: "x", File: aFile(t, "a", "abc")}); !errors.Is(err, ErrRoomMute) {
		t.Errorf("who may send only files sends a text with one: %v", err)
	}
	b.sendsFile(Conversation(id), "", aFile(t, "allowed", "abc"))
	g.forcesFile(id, "forced", aFile(t, "forced", "abc"))
	b.forcesFile(id, "text with it", aFile(t, "also forced", "abc"))
	w.pass(time.Minute)
	wantLooks(t, "alice", a.heard(id), "(allowed )")
}

// forcesFile sends a file to a room as only a program that breaks the rules does.
func (n *node) forcesFile(id protocol.RoomID, text string, f *FileDraft) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.inRoom(tx, n.w.now, id, func(w *work, r *openRoom) error {
			msg := protocol.NewMsgID()
			b, err := proto.Marshal(&wire.RoomContent{
				MsgId: msg[:], SentMs: uint64(millis(w.now)), Body: &wire.RoomContent_Text{Text: &wire.Text{Text: text, File: f.Descriptor.Wire()}},
			})
			if err != nil {
				return err
			}
			return w.queueForRoom(r, roomOutRow{content: b})
		})
	})
	n.w.settle()
}
