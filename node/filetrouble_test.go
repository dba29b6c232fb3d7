package node_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous"
)

// fetching waits until some of a file is here.
func fetching(t *testing.T, net *nodetest.Net, p *nodetest.Person, id string) {
	t.Helper()
	net.Wait(p.Name+" has some of the file", func() bool {
		now := fileOf(t, p, id).Progress
		return now != nil && now.Doing == api.Fetching && now.Done > 0
	})
}

// doFile does something with a file.
func doFile(t *testing.T, p *nodetest.Person, id, verb string, r api.FileRequest) {
	t.Helper()
	if _, err := p.ChangeFile(t.Context(), id, verb, r); err != nil {
		t.Fatalf("%s: %s a file: %v", p.Name, verb, err)
	}
}

// Who sent a file cancels it: who fetches it is told who did, in the middle and when he
// begins after that.
func TestFileCancelledBySender(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(i int, c *node.Config) { c.FileRate = int64(i) * 4 << 20 }})
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, _ := someFile(t, "film.mkv", 20<<20)
	m := sendFile(t, alice, "bob", path)
	accept(t, net, bob, m.ID)
	fetching(t, net, bob, m.ID)
	doFile(t, alice, m.ID, api.FileCancel, api.FileRequest{})
	told := func() bool {
		f := fileOf(t, bob, m.ID)
		return f.State == api.FileFailed && f.Problem == "alice cancelled it"
	}
	net.Wait("bob is told", told)
	doFile(t, bob, m.ID, api.FileCancel, api.FileRequest{})
	accept(t, net, bob, m.ID)
	net.Wait("bob is told again", told)
}

// fileWaits tells whether a file waits, and says why so.
func fileWaits(t *testing.T, p *nodetest.Person, id, why string) func() bool {
	return func() bool {
		now := fileOf(t, p, id).Progress
		return now != nil && strings.HasPrefix(now.Waits, why)
	}
}

// The folder that a file goes to is gone: the user is told, and the file goes into another.
func TestFileFolderIsGone(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 2, nodetest.Options{Home: func(c *rendezvous.Config) { c.Limits.BlobBytes = 1 }})
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, content := someFile(t, "film.mkv", 100)
	m := sendFile(t, alice, "bob", path)
	net.Wait("bob sees the file", func() bool { return fileOf(t, bob, m.ID).State != "" })
	alice.Stop()
	folder := filepath.Join(t.TempDir(), "usb")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	doFile(t, bob, m.ID, api.FileAccept, api.FileRequest{To: folder})
	net.Wait("bob waits", fileWaits(t, bob, m.ID, "nobody who has it is online"))
	if err := os.RemoveAll(folder); err != nil {
		t.Fatal(err)
	}
	alice.Start()
	net.Wait("bob is told", func() bool {
		f := fileOf(t, bob, m.ID)
		return f.State == api.FileFailed && strings.Contains(f.Problem, folder+" is not there") && strings.Contains(f.Problem, "--to")
	})
	doFile(t, bob, m.ID, api.FileAccept, api.FileRequest{})
	gotFile(t, net, bob, m.ID, content)
}

// A file whose whole folder is not there, as on a disk that is not mounted, is given again
// once it is back.
func TestFileOnADiskThatIsAway(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, content := someFile(t, "film.mkv", 100)
	m := sendFile(t, alice, "bob", path)
	away := filepath.Dir(path) + ".away"
	if err := os.Rename(filepath.Dir(path), away); err != nil {
		t.Fatal(err)
	}
	net.Wait("bob sees the file", func() bool { return fileOf(t, bob, m.ID).State != "" })
	d, err := alice.Node.File(t.Context(), m.ID)
	if err != nil {
		t.Fatal(err)
	}
	bob.Say(alice, "hello")
	net.Wait("they are connected", func() bool { return bob.Contact("alice").Path == api.Direct })
	if err := bob.AskPieces(t.Context(), alice.Peer(), d); protocol.CodeOf(err) != protocol.Unavailable {
		t.Errorf("bob is told %v", err)
	}
	if f := fileOf(t, alice, m.ID); f.State != api.FileDone {
		t.Errorf("alice's file is %q: %s", f.State, f.Problem)
	}
	if err := os.Rename(away, filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	accept(t, net, bob, m.ID)
	gotFile(t, net, bob, m.ID, content)
}

// Who gave a wrong piece is not asked again.
func TestLiarIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, _ := someFile(t, "film.mkv", 100)
	m := sendFile(t, alice, "bob", path)
	alice.GiveGarbage()
	accept(t, net, bob, m.ID)
	net.Wait("there is nobody to ask", fileWaits(t, bob, m.ID, "who has it gives something else"))
}

// Nor is the rendezvous, whatever changes.
func TestLyingRendezvousIsNotAskedAgain(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, content := someFile(t, "film.mkv", 100)
	m := sendFile(t, alice, "bob", path)
	net.Wait("bob sees the file", func() bool { return fileOf(t, bob, m.ID).State != "" })
	alice.Stop()
	var asked atomic.Int32
	net.Home.Host().SetStreamHandler(protocol.BlobProtocol, func(s network.Stream) {
		defer s.Close()
		q := &wire.Request{}
		if wire.ReadMsg(s, q); q.GetGetBlob() == nil {
			return
		}
		asked.Add(1)
		count := q.GetGetBlob().GetCount()
		blobAnswer(s, &wire.BlobState{Size: count, Count: count})
		s.Write(make([]byte, count))
	})
	doFile(t, bob, m.ID, api.FileAccept, api.FileRequest{})
	net.Wait("it has lied", fileWaits(t, bob, m.ID, "who has it gives something else"))
	bob.RetryFiles()
	alice.Start()
	gotFile(t, net, bob, m.ID, content)
	if n := asked.Load(); n != 1 {
		t.Errorf("it was asked %d times", n)
	}
}

// What a crash left beside the store goes at the next start, and what is used stays.
func TestOrphansOfFilesGo(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	m, err := alice.SendPipe(t.Context(), api.SendFileRequest{To: "bob", Name: "dump"}, bytes.NewReader(make([]byte, 65<<20)))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(alice.Config.Dir, "files")
	used, err := os.ReadDir(dir)
	if err != nil || len(used) != 2 {
		t.Fatalf("beside the store: %v, %v", used, err)
	}
	alice.Stop()
	left := []string{"x.spool", "y.list", "z.list.new"}
	for _, name := range left {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	alice.Start()
	net.Wait("it is gone", func() bool {
		now, err := os.ReadDir(dir)
		return err == nil && len(now) == len(used)
	})
	for _, entry := range used {
		if _, err := os.Stat(filepath.Join(dir, entry.Name())); err != nil {
			t.Error(err)
		}
	}
	if f := fileOf(t, alice, m.ID); f.State != api.FileDone {
		t.Errorf("the file is %q", f.State)
	}
}

// Burning leaves nothing of files that are on their way.
func TestBurnRemovesParts(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 2, nodetest.Options{Node: func(i int, c *node.Config) { c.FileRate = int64(i) * 2 << 20 }})
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	path, _ := someFile(t, "film.mkv", 20<<20)
	m := sendFile(t, alice, "bob", path)
	accept(t, net, bob, m.ID)
	fetching(t, net, bob, m.ID)
	downloads := filepath.Join(bob.Config.Dir, "downloads")
	if list, err := os.ReadDir(downloads); err != nil || len(list) != 1 {
		t.Fatalf("on its way: %v, %v", list, err)
	}
	if _, err := bob.Burn(t.Context()); err != nil {
		t.Fatal(err)
	}
	bob.Stop()
	if list, err := os.ReadDir(downloads); err != nil || len(list) > 0 {
		t.Errorf("left of it: %v, %v", list, err)
	}
	if _, err := os.Stat(filepath.Join(bob.Config.Dir, "files")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lists are left: %v", err)
	}
}

// A file that cannot be read is told with what to do.
func TestFileThatCannotBeSent(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice := net.People[0]
	net.Befriend(alice, net.People[1])
	for _, err := range alice.SendFile(t.Context(), api.SendFileRequest{To: "bob", Path: filepath.Join(t.TempDir(), "film.mkv")}) {
		if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.ErrNotFound || e.Hint == "" {
			t.Errorf("a file that is not there: %v", err)
		}
	}
}

// That a member's copy is not there any more as it was says nothing of the file: who
// fetches it waits for its author.
func TestChangedCopyEndsNothing(t *testing.T) {
	t.Parallel()
	net := nodetest.NewWith(t, 3, nodetest.Options{Home: func(c *rendezvous.Config) { c.Limits.BlobBytes = 1 }})
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	net.Befriend(alice, bob)
	net.Befriend(alice, carol)
	net.Befriend(bob, carol)
	net.NewRoom("den", alice, bob, carol)
	path, content := someFile(t, "plans.pdf", 100)
	m := sendFile(t, alice, "#den", path)
	accept(t, net, bob, m.ID)
	if err := os.WriteFile(gotFile(t, net, bob, m.ID, content), []byte("notes"), 0o600); err != nil {
		t.Fatal(err)
	}
	alice.Stop()
	accept(t, net, carol, m.ID)
	net.Wait("bob was asked", func() bool { return fileOf(t, bob, m.ID).State == api.FileChanged })
	net.Wait("carol waits", func() bool {
		f := fileOf(t, carol, m.ID)
		return f.State == api.FileFailed || f.Progress != nil && strings.Contains(f.Progress.Waits, "tried again")
	})
	alice.Start()
	gotFile(t, net, carol, m.ID, content)
}
