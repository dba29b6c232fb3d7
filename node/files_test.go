package node_test

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous"
)

// someFile writes a file that no other is like.
func someFile(t *testing.T, name string, size int) (path string, content []byte) {
	t.Helper()
	content = make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(len(name))}).Read(content)
	path = filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return path, content
}

// sendFile sends a file to a contact or into a room.
func sendFile(t testing.TB, from *nodetest.Person, to, path string) api.Message {
	t.Helper()
	var last api.Sending
	for s, err := range from.SendFile(t.Context(), api.SendFileRequest{To: to, Path: path}) {
		if err != nil {
			t.Fatalf("%s sends a file: %v", from.Name, err)
		}
		last = s
	}
	return *last.Message
}

// fileOf returns a file as somebody sees it; the zero File if it is not there yet.
func fileOf(t testing.TB, p *nodetest.Person, id string) api.File {
	t.Helper()
	for m, err := range p.WatchFile(t.Context(), id) {
		if err != nil {
			break
		}
		return *m.File
	}
	return api.File{}
}

// accept has somebody fetch a file, when the message is there.
func accept(t testing.TB, net *nodetest.Net, p *nodetest.Person, id string) {
	t.Helper()
	net.Wait(p.Name+" sees the file", func() bool { return fileOf(t, p, id).State != "" })
	if _, err := p.ChangeFile(t.Context(), id, api.FileAccept, api.FileRequest{}); err != nil {
		t.Fatalf("%s accepts a file: %v", p.Name, err)
	}
}

// gotFile waits until somebody has a file, and compares it.
func gotFile(t *testing.T, net *nodetest.Net, p *nodetest.Person, id string, content []byte) (path string) {
	t.Helper()
	var f api.File
	for here := int64(-1); f.State != api.FileDone; { // a large one takes longer than a test waits for one thing
		net.Wait(p.Name+" has more of the file", func() bool {
			f = fileOf(t, p, id)
			if f.Progress == nil || f.Progress.Done <= here {
				return f.State == api.FileDone
			}
			here = f.Progress.Done
			return true
		})
	}
	path = f.Path
	got, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%s has other bytes: %v", p.Name, err)
	}
	net.Wait(p.Name+" has nothing else of it", func() bool {
		left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".*.part"))
		return err == nil && len(left) == 0
	})
	return path
}

// A file goes to a contact, who accepts it, and its sender hears of that: large and
// small, directly and through the relay, and from a pipe.
func TestFileToContact(t *testing.T) {
	sizes := map[string][]int{"direct": {0, 70 << 20, 100}, "relayed": {5 << 20}} // the list of the second is not in the descriptor
	for name, listen := range map[string][]string{"direct": nodetest.Loopback, "relayed": nodetest.NoListen} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(_ int, c *node.Config) { c.Listen = listen }})
			alice, bob := net.People[0], net.People[1]
			net.Befriend(alice, bob)
			for _, size := range sizes[name] {
				path, content := someFile(t, "film.mkv", size)
				m := sendFile(t, alice, "bob", path)
				accept(t, net, bob, m.ID)
				gotFile(t, net, bob, m.ID, content)
				net.Wait("alice hears that bob has it", func() bool { return fileOf(t, alice, m.ID).Answer == api.FileTaken })
			}
			m, err := alice.SendPipe(t.Context(), api.SendFileRequest{To: "bob", Name: "dump"}, strings.NewReader("out of a pipe"))
			if err != nil {
				t.Fatal(err)
			}
			accept(t, net, bob, m.ID)
			gotFile(t, net, bob, m.ID, []byte("out of a pipe"))
		})
	}
}

// Who fetches a file is stopped in the middle, and so is who gives it: it goes on where
// it was.
func TestFileGoesOnAfterRestart(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(i int, c *node.Config) { c.FileRate = int64(i) * 4 << 20 }})
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, content := someFile(t, "film.mkv", 12<<20)
	m := sendFile(t, alice, "bob", path)
	accept(t, net, bob, m.ID)
	here := func(what string, atLeast int64) (done int64) {
		net.Wait(what, func() bool {
			now := fileOf(t, bob, m.ID).Progress
			if now == nil || now.Doing != api.Fetching {
				return false
			}
			done = now.Done
			return done >= atLeast
		})
		return done
	}
	before := int64(1)
	for _, p := range []*nodetest.Person{bob, alice} {
		before = here("more of it is here", before+2<<20)
		p.Stop()
		p.Start()
		if now := here("it goes on", 0); now < before {
			t.Errorf("after %s was restarted %d bytes are here, and were %d", p.Name, now, before)
		}
	}
	gotFile(t, net, bob, m.ID, content)
}

// The user pauses, goes on, and cancels.
func TestFilePauseAndCancel(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(i int, c *node.Config) { c.FileRate = int64(i) * 4 << 20 }})
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, _ := someFile(t, "film.mkv", 40<<20)
	m := sendFile(t, alice, "bob", path)
	accept(t, net, bob, m.ID)
	idle := func() bool { return fileOf(t, bob, m.ID).Progress == nil }
	verb := func(verb string) { doFile(t, bob, m.ID, verb, api.FileRequest{}) }
	fetching(t, net, bob, m.ID)
	verb(api.FilePause)
	net.Wait("it rests", idle)
	verb(api.FileResume)
	fetching(t, net, bob, m.ID)
	verb(api.FileCancel)
	net.Wait("it is not fetched any more", idle)
	downloads := filepath.Join(bob.Config.Dir, "downloads")
	net.Wait("nothing is left", func() bool {
		list, err := os.ReadDir(downloads)
		return err == nil && len(list) == 0
	})
}

// A file that changed is not given, and both are told.
func TestFileChangedAtSender(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, content := someFile(t, "notes.txt", 3<<20)
	m := sendFile(t, alice, "bob", path)
	content[2<<20]++
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	accept(t, net, bob, m.ID)
	net.Wait("alice knows that it has changed", func() bool { return fileOf(t, alice, m.ID).State == api.FileChanged })
	net.Wait("bob knows it too", func() bool {
		f := fileOf(t, bob, m.ID)
		return f.State == api.FileFailed && strings.Contains(f.Problem, "changed")
	})
	if list, err := filepath.Glob(filepath.Join(bob.Config.Dir, "downloads", "[^.]*")); err != nil || len(list) > 0 {
		t.Errorf("in bob's folder: %q, %v", list, err)
	}
}

// While a contact is away a small file waits at the rendezvous, and is there when its
// sender is away.
func TestFileStored(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	bob.Stop()
	path, content := someFile(t, "film.mkv", 3<<20)
	m := sendFile(t, alice, "bob", path)
	net.Wait("it is stored", func() bool { return fileOf(t, alice, m.ID).Stored })
	net.Wait("its message is in the mailbox", reached(alice, m.ID, api.Stored)) // it goes another way
	alice.Stop()
	bob.Start()
	accept(t, net, bob, m.ID)
	gotFile(t, net, bob, m.ID, content)
	alice.Start()
	net.Wait("alice hears of it", func() bool { return fileOf(t, alice, m.ID).Answer == api.FileTaken })
}

// In a room who has a file gives it to the others; nobody gives it to who is not in the
// room any more, or never was, and that looks as if there were none.
func TestGST12_FilesStayInTheRoom(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 4, nodetest.Options{Home: func(c *rendezvous.Config) { c.Limits.BlobBytes = 1 }})
	alice, bob, carol, dave := net.People[0], net.People[1], net.People[2], net.People[3]
	for _, p := range net.People[1:] {
		net.Befriend(alice, p)
	}
	net.Befriend(bob, carol)
	net.Befriend(bob, dave)
	room := net.NewRoom("den", alice, bob, carol)
	path, content := someFile(t, "plans.pdf", 3<<20)
	m := sendFile(t, alice, "#den", path)
	accept(t, net, bob, m.ID)
	gotFile(t, net, bob, m.ID, content)
	alice.Stop()
	accept(t, net, carol, m.ID)
	gotFile(t, net, carol, m.ID, content)

	den, err := bob.File(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(p *nodetest.Person) func() bool {
		return func() bool {
			err := p.AskPieces(t.Context(), bob.Peer(), den)
			return protocol.CodeOf(err) == protocol.UnknownFile
		}
	}
	connect := func(p *nodetest.Person) {
		p.Say(bob, "hello")
		net.Wait(p.Name+" is connected to bob", func() bool { return p.Contact("bob").Path == api.Direct })
	}
	connect(dave)
	net.Wait("who never was in the room gets nothing", refused(dave))
	connect(carol)
	if err := carol.AskPieces(t.Context(), bob.Peer(), den); err != nil {
		t.Fatalf("a member gets nothing: %v", err)
	}
	alice.Start()
	alice.In(room, api.RoomKick, api.RoomRequest{Who: "carol"})
	net.Wait("who was kicked gets nothing", refused(carol))
}

// Questions that make no sense are refused, and give nothing.
func TestFileQuestions(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, _ := someFile(t, "f", 100)
	m := sendFile(t, alice, "bob", path)
	net.Wait("bob sees it", func() bool { return fileOf(t, bob, m.ID).State != "" })
	d, err := alice.File(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	bob.Say(alice, "hello")
	net.Wait("they are connected", func() bool { return bob.Contact("alice").Path == api.Direct })
	id, hash := d.ID[:], d.List[:]
	for what, q := range map[string]struct {
		ask  *wire.GetPieces
		want protocol.Code
	}{
		"another file":  {&wire.GetPieces{File: make([]byte, 16), Hash: hash, Count: 1}, protocol.UnknownFile},
		"another list":  {&wire.GetPieces{File: id, Hash: make([]byte, 32), Count: 1}, protocol.UnknownFile},
		"no id":         {&wire.GetPieces{File: id[1:], Hash: hash, Count: 1}, protocol.BadRequest},
		"no list":       {&wire.GetPieces{File: id, Count: 1}, protocol.BadRequest},
		"no pieces":     {&wire.GetPieces{File: id, Hash: hash}, protocol.BadRequest},
		"too many":      {&wire.GetPieces{File: id, Hash: hash, Count: 17}, protocol.BadRequest},
		"behind it":     {&wire.GetPieces{File: id, Hash: hash, First: 1, Count: 1}, protocol.BadRequest},
		"far behind it": {&wire.GetPieces{File: id, Hash: hash, First: 1<<32 - 1, Count: 16}, protocol.BadRequest},
	} {
		if err := bob.AskPiecesOf(t.Context(), alice.Peer(), q.ask); protocol.CodeOf(err) != q.want {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// The rendezvous, through which a file comes, is restarted in the middle of it.
func TestFileGoesOnAfterRelayRestart(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(i int, c *node.Config) {
		c.Listen, c.FileRate = nodetest.NoListen, int64(i)*4<<20
	}})
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, content := someFile(t, "film.mkv", 12<<20)
	m := sendFile(t, alice, "bob", path)
	accept(t, net, bob, m.ID)
	var before *api.Progress
	net.Wait("some of it came through the relay", func() bool {
		before = fileOf(t, bob, m.ID).Progress
		return before != nil && before.Path == string(api.Relayed) && before.Done > 2<<20
	})
	net.Home.Stop()
	net.Home.Start()
	if p := fileOf(t, bob, m.ID).Progress; p != nil && p.Doing == api.Fetching && p.Done < before.Done {
		t.Errorf("%d bytes were here, and now %d", before.Done, p.Done)
	}
	gotFile(t, net, bob, m.ID, content)
}
