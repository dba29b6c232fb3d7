package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
)

// laptop is another directory for the same person.
func (g *group) laptop(p drive.Person, name string) drive.Person {
	other := drive.Person{Name: name, Bin: p.Bin, Dir: filepath.Join(g.dir, name), Key: filepath.Join(g.dir, name+".key"), In: p.In}
	g.cleanUp(other)
	return other
}

func (g *group) say(from drive.Person, to, text string) {
	g.t.Helper()
	_, err := from.Run(g.ctx, "send", to, text)
	g.must(err)
}

// shows waits until a conversation shows exactly these texts, in any order of
// authors.
func (g *group) shows(p drive.Person, with string, want ...string) {
	g.t.Helper()
	var got []string
	err := drive.Until(g.ctx, time.Minute, fmt.Sprintf("%s shows %q", p.Name, want), func() bool {
		got = nil
		messages, err := p.History(g.ctx, with)
		for _, m := range messages {
			got = append(got, m.Text)
		}
		slices.Sort(got)
		return err == nil && slices.Equal(got, slices.Sorted(slices.Values(want)))
	})
	if err != nil {
		g.t.Fatalf("%v; it shows %q", err, got)
	}
}

// TestIM05_SecondDevice: a second device gets contacts, past messages when
// asked, and from then on everything that either side writes.
func TestIM05_SecondDevice(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.start()
	alice, bob := g.join("alice"), g.join("bob")
	g.must(drive.Befriend(g.ctx, alice, bob))
	g.say(alice, "bob", "one")
	g.say(bob, "alice", "two")
	g.shows(alice, "bob", "one", "two")

	desk := g.laptop(alice, "desk")
	g.must(alice.Link(g.ctx, desk, "--history"))
	g.shows(desk, "bob", "one", "two")

	g.say(bob, "alice", "three")
	g.say(alice, "bob", "four")
	g.say(desk, "bob", "five")
	all := []string{"one", "two", "three", "four", "five"}
	for _, p := range []drive.Person{alice, desk} {
		g.shows(p, "bob", all...)
	}
	g.shows(bob, "alice", all...)

	// A contact made on one is a contact on the other.
	carol := g.join("carol")
	_, err := desk.Run(g.ctx, "add", "carol")
	g.must(err)
	g.must(drive.Until(g.ctx, time.Minute, "carol is asked", func() bool {
		c, err := carol.Contact(g.ctx, "alice")
		return err == nil && c.Relation == api.Incoming
	}))
	_, err = carol.Run(g.ctx, "accept", "alice")
	g.must(err)
	for _, p := range []drive.Person{alice, desk} {
		g.must(drive.Until(g.ctx, time.Minute, "carol is a contact on "+p.Name, func() bool {
			c, err := p.Contact(g.ctx, "carol")
			return err == nil && c.Relation == api.Accepted
		}))
	}
	g.say(alice, "carol", "hello from the laptop")
	g.shows(carol, "alice", "hello from the laptop")
	g.shows(desk, "carol", "hello from the laptop")
}

// TestKLC09_RevokedDevice: a revoked device gets nothing more, from anybody, and
// cannot come back; the others go on.
func TestKLC09_RevokedDevice(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.start()
	alice, bob := g.join("alice"), g.join("bob")
	g.must(drive.Befriend(g.ctx, alice, bob))
	desk := g.laptop(alice, "desk")
	g.must(alice.Link(g.ctx, desk))
	g.say(bob, "alice", "for both")
	g.shows(desk, "bob", "for both")

	_, err := alice.Run(g.ctx, "device", "revoke", "desk", "--yes")
	g.must(err)
	g.must(drive.Until(g.ctx, time.Minute, "the revoked node has ended", func() bool {
		_, err := desk.Status(g.ctx)
		return err != nil
	}))
	g.say(bob, "alice", "not for desk")
	g.say(alice, "bob", "neither")
	g.shows(alice, "bob", "for both", "not for desk", "neither")
	if _, err := desk.Run(g.ctx, "up"); err == nil {
		t.Error("a revoked device started")
	}
	devices, err := alice.Devices(g.ctx)
	g.must(err)
	if len(devices) != 1 {
		t.Errorf("alice has %d devices", len(devices))
	}
	// The desk can be added anew, from a new folder: another device.
	again := g.laptop(alice, "desk2")
	g.must(alice.Link(g.ctx, again))
	g.say(bob, "alice", "welcome back")
	g.shows(again, "bob", "welcome back")
}

// TestCopiedStore: a copy of a folder that runs on another machine becomes a
// device of its own; nothing is lost on either side.
func TestCopiedStore(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.start()
	alice, bob := g.join("alice"), g.join("bob")
	g.must(drive.Befriend(g.ctx, alice, bob))
	g.say(alice, "bob", "before")
	g.shows(bob, "alice", "before")
	_, err := alice.Run(g.ctx, "down")
	g.must(err)
	twin := g.laptop(alice, "twin")
	twin.Key = alice.Key
	g.must(exec.Command("cp", "-a", alice.Dir, twin.Dir).Run())

	_, err = alice.Run(g.ctx, "up")
	g.must(err)
	g.say(alice, "bob", "from the original")
	g.shows(bob, "alice", "before", "from the original")
	_, err = twin.Run(g.ctx, "up")
	g.must(err)
	g.must(drive.Until(g.ctx, time.Minute, "there are two devices, both connected", func() bool {
		one, err1 := alice.Status(g.ctx)
		two, err2 := twin.Status(g.ctx)
		return err1 == nil && err2 == nil && one.Rendezvous.Up && two.Rendezvous.Up && one.Device != two.Device
	}))
	g.say(bob, "alice", "to both")
	g.say(twin, "bob", "from the copy")
	g.say(alice, "bob", "from the original again")
	g.shows(bob, "alice", "before", "from the original", "to both", "from the copy", "from the original again")
	for _, p := range []drive.Person{alice, twin} {
		g.must(drive.Until(g.ctx, time.Minute, p.Name+" has what is new", func() bool {
			got := g.texts(p, "bob")
			return slices.Contains(got, "to both")
		}))
	}
}

// TestKLC13_Burn: after keys burn nothing of the keys is left and contacts write
// to the device no more.
func TestKLC13_Burn(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.start()
	alice, bob := g.join("alice"), g.join("bob")
	g.must(drive.Befriend(g.ctx, alice, bob))
	desk := g.laptop(alice, "desk")
	g.must(alice.Link(g.ctx, desk))
	_, err := desk.Run(g.ctx, "keys", "burn", "--yes")
	g.must(err)
	g.noKeys(desk)
	g.must(drive.Until(g.ctx, time.Minute, "alice has one device", func() bool {
		devices, err := alice.Devices(g.ctx)
		return err == nil && len(devices) == 1
	}))
	g.say(bob, "alice", "still there?")
	g.shows(alice, "bob", "still there?")
}

// TestKLC13_BurnOnlyDevice: contacts are told that nobody reads there any more,
// and the recovery words bring the account back.
func TestKLC13_BurnOnlyDevice(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.start()
	alice, bob := g.join("alice"), g.join("bob")
	g.must(drive.Befriend(g.ctx, alice, bob))
	words, err := alice.Run(g.ctx, "backup", "words")
	g.must(err)
	file := filepath.Join(g.dir, "words.txt")
	g.must(os.WriteFile(file, words, 0o600))
	_, err = alice.Run(g.ctx, "backup", "words", "--words-file", file)
	g.must(err)
	var burned api.Burned
	g.must(alice.JSON(g.ctx, &burned, "keys", "burn", "--yes"))
	if !burned.Destroyed || !burned.Published {
		t.Fatalf("%+v", burned)
	}
	g.noKeys(alice)
	g.must(drive.Until(g.ctx, time.Minute, "bob cannot write to her", func() bool {
		_, err := bob.Run(g.ctx, "send", "alice", "anybody?")
		return err != nil && strings.Contains(err.Error(), "has no device now")
	}))

	again := g.laptop(alice, "again")
	_, err = again.Run(g.ctx, "recover", g.host.Invite, "alice", "--words-file", file, "--key-file", again.Key)
	g.must(err)
	_, err = again.Run(g.ctx, "add", "bob")
	g.must(err)
	g.must(drive.Until(g.ctx, time.Minute, "bob can write to her again", func() bool {
		_, err := bob.Run(g.ctx, "send", "alice", "welcome back")
		return err == nil
	}))
	g.shows(again, "bob", "welcome back")
}

// TestKLC13_BurnWithoutAnswer: the keys go first, not when the rendezvous has
// answered, which here never does.
func TestKLC13_BurnWithoutAnswer(t *testing.T) {
	t.Parallel()
	g := newGroup(t)
	g.start()
	alice := g.join("alice")
	g.must(g.host.Freeze())
	defer g.host.Thaw()
	ended := make(chan error, 1)
	go func() {
		_, err := alice.Run(g.ctx, "keys", "burn", "--yes")
		ended <- err
	}()
	g.must(drive.Until(g.ctx, time.Minute, "the keys are gone", func() bool {
		_, err := os.Stat(filepath.Join(alice.Dir, "vault"))
		return errors.Is(err, fs.ErrNotExist)
	}))
	select {
	case err := <-ended:
		t.Errorf("it waited for the rendezvous: %v", err)
	default:
	}
	err := <-ended
	if refusal, ok := errors.AsType[*drive.Error](err); !ok || refusal.Code != 6 || !strings.Contains(refusal.Stderr, "parley recover") {
		t.Errorf("it ends with %v", err)
	}
	g.noKeys(alice)
}

// noKeys tells that nothing of somebody's keys is left, and that the node is gone.
func (g *group) noKeys(p drive.Person) {
	g.t.Helper()
	g.must(drive.Until(g.ctx, time.Minute, "the node has ended", func() bool {
		_, err := p.Status(g.ctx)
		return err != nil
	}))
	for _, name := range []string{"vault", "wrap"} {
		if _, err := os.Stat(filepath.Join(p.Dir, name)); !errors.Is(err, fs.ErrNotExist) {
			g.t.Errorf("%s is still there: %v", name, err)
		}
	}
	if _, err := p.Run(g.ctx, "up"); err == nil {
		g.t.Error("a device without keys started")
	}
}
