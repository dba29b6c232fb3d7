package e2e

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// TestGST12_FilesOfAPasswordRoom: who is in the room gets its files; who is put out of it,
// in the middle of one too, and who never was in it, gets nothing.
func TestGST12_FilesOfAPasswordRoom(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.start()
	alice := g.join("alice")
	room, link := g.passwordRoom(alice)
	with := "#" + room
	bert := drive.Person{Name: "bert", Bin: bin, Dir: filepath.Join(g.dir, "bert")}
	visit := g.visit(bert, link)
	g.must(drive.Until(g.ctx, time.Minute, "the guest is in", func() bool {
		members, err := bert.Members(g.ctx, with)
		return err == nil && len(members) == 2
	}))

	path := g.write("topo.bin", 100_000)
	g.same(path, g.accept(bert, g.offer(alice, bert, with, path)))

	path = g.write("route.bin", someFile)
	id := g.offer(alice, bert, with, path)
	g.want(bert, id)
	g.awaitPart(bert, id, partOfIt)
	part, err := filepath.Glob(filepath.Join(g.inbox(bert), ".route.bin.*.part"))
	if err != nil || len(part) != 1 {
		t.Fatalf("parts of the file: %v %v", part, err)
	}
	var file protocol.FileID
	g.must(file.UnmarshalText([]byte(strings.TrimPrefix(filepath.Base(part[0]), ".route.bin.")[:len(file.String())])))
	_, err = alice.Run(g.ctx, "room", "kick", room, "~bert")
	g.must(err)
	visit.Wait() // it ends by itself
	if _, err := os.Lstat(filepath.Join(g.inbox(bert), "route.bin")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("who was put out of the room has its file: %v", err)
	}
	again := g.guestCommand(bert, link)
	again.Stdin = nil
	if again.Run(); again.ProcessState.ExitCode() != 4 {
		t.Errorf("who was put out comes in again: %v", again.ProcessState)
	}

	g.awaitFile(alice, id, "it is stored", func(f api.File) bool { return f.Stored })
	g.stranger(alice, file)
}

const roomPassword = "open sesame"

// passwordRoom makes a room that guests enter with a password.
func (g *group) passwordRoom(owner drive.Person) (room, link string) {
	g.t.Helper()
	g.must(os.WriteFile(filepath.Join(g.dir, "password"), []byte(roomPassword), 0o600))
	var made api.Room
	g.must(owner.JSON(g.ctx, &made, "room", "create", "Climbing"))
	var guests api.RoomGuests
	g.must(owner.JSON(g.ctx, &guests, "room", "guests", made.ID, "--password-file", filepath.Join(g.dir, "password")))
	g.must(drive.Until(g.ctx, time.Minute, "the room is open to guests", func() bool {
		g.must(owner.JSON(g.ctx, &guests, "room", "guests", made.ID))
		return guests.Open && guests.Door
	}))
	return made.ID, guests.Link
}

// visit has a guest enter a room, and stay until it is put out.
func (g *group) visit(p drive.Person, link string) *exec.Cmd {
	g.t.Helper()
	cmd := g.guestCommand(p, link)
	cmd.Stderr = g.logFile(p.Name)
	cmd.Stdout = cmd.Stderr
	typed, err := cmd.StdinPipe() // nothing, and it does not end
	g.must(err)
	g.must(cmd.Start())
	g.t.Cleanup(func() {
		typed.Close()
		cmd.Process.Kill()
		cmd.Wait()
	})
	return cmd
}

func (g *group) guestCommand(p drive.Person, link string) *exec.Cmd {
	cmd := exec.CommandContext(g.ctx, bin, "guest", link, "--dir", p.Dir, "--name", p.Name, "--json",
		"--password-file", filepath.Join(g.dir, "password"), "--download-dir", g.inbox(p), "--file-rate", strconv.Itoa(fileRate))
	return cmd
}

// stranger asserts that somebody with an account, who is not in a room, gets a file of it
// neither from the rendezvous, which has it, nor from a node.
func (g *group) stranger(author drive.Person, file protocol.FileID) {
	g.t.Helper()
	s, err := author.Status(g.ctx)
	g.must(err)
	var by protocol.AccountID
	g.must(by.UnmarshalText([]byte(s.Account)))
	m := g.register("carol")
	var resp wire.Response
	m.ask(protocol.BlobProtocol, &wire.Request{Call: &wire.Request_GetBlob{GetBlob: &wire.GetBlob{By: by[:], Id: file[:], Count: 1}}}, &resp)
	if code := protocol.Code(resp.GetCode()); code != protocol.UnknownFile {
		g.t.Errorf("the rendezvous answers a stranger: %v", code)
	}

	id, err := peer.Decode(s.PeerID)
	g.must(err)
	at := peer.AddrInfo{ID: id}
	for _, text := range s.Listen {
		addr, err := ma.NewMultiaddr(text)
		g.must(err)
		at.Addrs = append(at.Addrs, addr)
	}
	if len(at.Addrs) == 0 {
		g.t.Fatal("the author's node listens nowhere")
	}
	if err := m.host.Connect(g.ctx, at); err != nil {
		return // turned away at the door
	}
	stream, err := m.host.NewStream(g.ctx, id, protocol.FileProtocol)
	if err != nil {
		return
	}
	defer stream.Close()
	stream.SetDeadline(time.Now().Add(patience))
	var pieces wire.Pieces
	if wire.WriteMsg(stream, &wire.GetPieces{File: file[:], Count: 1}) == nil && wire.ReadMsg(stream, &pieces) == nil {
		g.t.Errorf("a node answers a stranger: %v", &pieces)
	}
}
