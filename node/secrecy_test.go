package node_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/rendezvous"
	"github.com/parley-chat/parley/store"
)

// watched is a group whose rendezvous is looked through: all that it writes to
// its disk and all that it logs.
type watched struct {
	*nodetest.Net
	dir string
	log syncBuffer
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func newWatched(t *testing.T) *watched {
	w := &watched{}
	w.Net = nodetest.NewWith(t, 2, nodetest.Options{Home: func(c *rendezvous.Config) {
		w.dir = c.Dir
		c.Log = slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}})
	return w
}

// finds tells where any of the needles stands below a directory.
func finds(t *testing.T, dir string, needles map[string][]byte) (found []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for what, needle := range needles {
			if bytes.Contains(text, needle) {
				found = append(found, what+" in "+path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// encodings adds what a secret looks like when it is written as text.
func encodings(secrets map[string][]byte) map[string][]byte {
	all := map[string][]byte{}
	for what, b := range secrets {
		all[what] = b
		all[what+" as hex"] = []byte(hex.EncodeToString(b))
		all[what+" as base64"] = []byte(strings.TrimRight(base64.StdEncoding.EncodeToString(b), "="))
	}
	return all
}

// What the rendezvous keeps and logs holds no text, no note and no display
// name, and no address of a node.
func TestIM07_TheRendezvousKeepsNoPlaintext(t *testing.T) {
	net := newWatched(t)
	alice, bob := net.People[0], net.People[1]
	const note, text = "a note that only bob may read", "a text that only bob may read"
	if _, err := alice.Add(t.Context(), api.AddRequest{Name: "bob", Note: note}); err != nil {
		t.Fatal(err)
	}
	net.Wait("bob sees the request", func() bool { return bob.Contact("alice").Note == note })
	if _, err := bob.Accept(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	net.Wait("alice sees the answer", func() bool { return alice.Contact("bob").Relation == api.Accepted })

	needles := map[string][]byte{"note": []byte(note), "text": []byte(text)}
	for _, p := range net.People {
		for _, a := range where(t, p).Addrs {
			needles["address "+a.String()] = []byte(a.String())
			needles["binary address "+a.String()] = a.Bytes()
		}
	}
	bob.Stop()
	sent := alice.Say(bob, text)
	net.Wait("it is in the mailbox", reached(alice, sent.ID, api.Stored))
	alice.Stop()
	net.Home.Stop()

	if name := finds(t, net.dir, map[string][]byte{"name": []byte("alice")}); len(name) == 0 {
		t.Fatal("the search does not even find a name, which the rendezvous does keep")
	}
	for _, f := range finds(t, net.dir, needles) {
		t.Errorf("the rendezvous stored the %s", f)
	}
	for what, needle := range needles {
		if bytes.Contains(net.log.b.Bytes(), needle) {
			t.Errorf("the rendezvous logged the %s", what)
		}
	}
	if net.log.b.Len() == 0 {
		t.Error("nothing was logged, so nothing was proven of the log")
	}
}

// No private key stands in clear in a data directory, at the rendezvous, or in
// what it logs; nor does what people wrote stand in their own directories.
func TestIM02_NoPrivateKeyInClear(t *testing.T) {
	net := newWatched(t)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	const text = "a text that is sealed on both sides"
	sent := alice.Say(bob, text)
	net.Wait("it is delivered", reached(alice, sent.ID, api.Delivered))

	secrets := map[string][]byte{"text": []byte(text)}
	alice.Stop()
	bob.Stop()
	net.Home.Stop()
	for _, p := range net.People {
		err := p.WithStore(func(tx store.Tx) error {
			e, err := engine.Load(tx)
			if err != nil {
				return err
			}
			id := e.Identity()
			member, err := e.Membership(tx)
			if err != nil {
				return err
			}
			rsa := p.RSA().Bytes()
			for what, b := range map[string][]byte{
				"account key": member.AIK.Bytes(), "recovery key": member.RK.Bytes(), "signing key": id.DSK.Bytes(),
				"identity key": id.DIK.Bytes(), "host key": id.Host.Seed(), "RSA prime": rsa[:len(rsa)/2],
			} {
				secrets[p.Name+"'s "+what] = b
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{alice.Config.Dir, bob.Config.Dir, net.dir} {
		for _, f := range finds(t, dir, encodings(secrets)) {
			t.Errorf("in clear: %s", f)
		}
	}
	for what, b := range encodings(secrets) {
		if bytes.Contains(net.log.b.Bytes(), b) {
			t.Errorf("the rendezvous logged the %s", what)
		}
	}
}
