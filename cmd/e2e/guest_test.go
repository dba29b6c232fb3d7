//go:build linux

package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/natlab"
)

// guestGroup is a rendezvous on a public host, alice with a room behind one router, and
// bert, a guest, behind another.
type guestGroup struct {
	*group
	lab         *natlab.Lab
	alice, bert drive.Person
	room        string // its id
	link        string
	visit       *natlab.Process
}

func newGuestGroup(t *testing.T, sites natlab.Sites) *guestGroup {
	natlab.Require(t)
	g := &guestGroup{group: newGroup(t), lab: natlab.New(t, sites, natlab.Public(2))}
	for site := range sites {
		g.lab.Delay(site, 10*time.Millisecond, 2*time.Millisecond, 0)
	}
	inside := func(host string) []string {
		args := g.lab.Command(g.ctx, host, "true").Args
		return args[:len(args)-1]
	}
	g.in, g.flags = inside("R1"), nil
	g.start()
	g.alice = g.join("alice", inside("A1")...)
	g.bert = drive.Person{Name: "Bert", Bin: bin, Dir: filepath.Join(g.dir, "bert"), In: inside("B1")}
	g.room, g.link = g.passwordRoom(g.alice)
	return g
}

// enter starts the guest's program, with the password only where it is said to need it,
// and waits until it is in.
func (g *guestGroup) enter(more ...string) {
	g.t.Helper()
	args := append([]string{"guest", g.link, "--dir", g.bert.Dir, "--json", "--stay"}, more...)
	g.visit = g.lab.Start(g.lab.Command(g.ctx, "B1", bin, args...))
	g.must(drive.Until(g.ctx, time.Minute, "the guest is in", func() bool {
		_, ok := g.seen(g.bert)
		return ok
	}))
}

// seen is the guest as somebody's node shows it; not ok if it does not show exactly one.
func (g *guestGroup) seen(by drive.Person) (m api.RoomMember, ok bool) {
	var list struct{ Members []api.RoomMember }
	if err := by.JSON(g.ctx, &list, "room", "members", g.room); err != nil {
		return m, false
	}
	guests := slices.DeleteFunc(list.Members, func(m api.RoomMember) bool { return !m.Guest })
	if len(guests) != 1 {
		return m, false
	}
	return guests[0], true
}

// say sends both ways and waits until each has it.
func (g *guestGroup) say(text string) {
	g.t.Helper()
	began := time.Now()
	defer func() { g.t.Logf("%q took %v both ways", text, time.Since(began).Round(10*time.Millisecond)) }()
	with := "#" + g.room
	for from, to := range map[*drive.Person]*drive.Person{&g.alice: &g.bert, &g.bert: &g.alice} {
		line := from.Name + ": " + text
		if _, err := from.Run(g.ctx, "send", with, line); err != nil {
			g.t.Fatal(err)
		}
		g.must(drive.Until(g.ctx, 2*time.Minute, to.Name+" reads "+strconv.Quote(line), func() bool {
			return slices.Contains(g.texts(*to, with), line)
		}))
	}
}

// same asserts that the guest is who it was: one in the roster, with its account, name
// and rights, and let in once.
func (g *guestGroup) same(was api.RoomMember) {
	g.t.Helper()
	for _, p := range []drive.Person{g.alice, g.bert} {
		is, ok := g.seen(p)
		if !ok || is.Account != was.Account || is.Joined != was.Joined || !slices.Equal(is.Rights, was.Rights) {
			g.t.Errorf("%s sees %+v, and it was %+v", p.Name, is, was)
		}
	}
	if is, _ := g.seen(g.alice); is.Name != was.Name {
		g.t.Errorf("it is called %q, and was %q", is.Name, was.Name)
	}
	var log struct{ Entries []api.RoomEntry }
	g.must(g.alice.JSON(g.ctx, &log, "room", "log", g.room))
	if n := len(slices.DeleteFunc(log.Entries, func(e api.RoomEntry) bool { return !strings.HasPrefix(e.What, "guest") })); n != 1 {
		g.t.Errorf("%d entries of the log are about the guest", n)
	}
}

// TestNAT_GST02_GuestComesBack: whatever happens between a guest and its room, it is back
// by itself, the same guest, and nobody enters a password again. PARLEY_CUT is how long
// the longest cut of its line is, such as 10m.
func TestNAT_GST02_GuestComesBack(t *testing.T) {
	t.Parallel()
	g := newGuestGroup(t, natlab.Sites{"A": {Kind: natlab.Cone}, "B": {Kind: natlab.Symmetric}})
	g.enter("--name", "Bert", "--password-file", filepath.Join(g.dir, "password"))
	g.say("the guest is in")
	was, ok := g.seen(g.alice)
	if !ok || was.Name != "~Bert" {
		t.Fatalf("alice sees %+v", was)
	}
	back := func(after string) {
		t.Helper()
		g.say("after " + after)
		g.same(was)
	}
	for _, cut := range cuts(t) {
		g.lab.Cut("B")
		time.Sleep(cut) // the length of the cut
		g.lab.Heal("B")
		back("a cut of " + cut.String())
	}
	g.lab.Flush("B")
	g.lab.Roam("B")
	back("its router began anew with another address")
	g.host.Kill()
	g.start()
	back("the rendezvous, its relay too, was killed")
	g.visit.Kill()
	g.enter()
	back("its program was killed")
	if err := g.visit.Stop(); err != nil {
		t.Errorf("asked to end: %v", err)
	}
	g.enter()
	back("its program was started again")
}

// cuts are the lengths of the cuts of the guest's line.
func cuts(t *testing.T) []time.Duration {
	list := []time.Duration{time.Second}
	longest, err := time.ParseDuration(os.Getenv("PARLEY_CUT"))
	if err != nil {
		return list
	}
	for _, d := range []time.Duration{time.Minute, 10 * time.Minute} {
		if d <= longest {
			list = append(list, d)
		}
	}
	return list
}
