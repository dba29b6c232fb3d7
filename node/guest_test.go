package node_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room/roomlink"
)

// visit is a rendezvous, alice with a room that is open to guests, and bert, a guest
// who is in it.
type visit struct {
	*nodetest.Net
	t           *testing.T
	alice, bert *nodetest.Person
	room, link  string
}

const password = "open sesame"

func newVisit(t *testing.T) *visit {
	t.Helper()
	v := newOpenRoom(t)
	v.comeIn(v.bert, password)
	return v
}

// newOpenRoom is newVisit with bert still outside.
func newOpenRoom(t *testing.T) *visit {
	t.Helper()
	v := &visit{Net: nodetest.New(t, 1), t: t}
	v.alice = v.People[0]
	r, err := v.alice.CreateRoom(t.Context(), api.CreateRoomRequest{Name: "climbing"})
	if err != nil {
		t.Fatal(err)
	}
	v.room = r.ID
	v.link = v.alice.OpenRoom(v.room, password)
	v.bert = v.NewGuest("Bert", v.link)
	return v
}

// comeIn visits, and starts the guest's node.
func (v *visit) comeIn(p *nodetest.Person, passwords ...string) {
	v.t.Helper()
	if err := p.Visit(v.link, passwords...); err != nil {
		v.t.Fatalf("%s comes in: %v", p.Name, err)
	}
	p.Start()
	v.Wait(p.Name+" is in", func() bool {
		r, err := p.Room(v.t.Context(), v.room)
		return err == nil && r.Stage == api.RoomJoined
	})
}

// seen is a guest as alice sees it; it must be there once.
func (v *visit) seen(name string) api.RoomMember {
	v.t.Helper()
	all, err := v.alice.RoomMembers(v.t.Context(), v.room)
	if err != nil {
		v.t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(m api.RoomMember) bool { return m.Name != "~"+name })
	if len(all) != 1 {
		v.t.Fatalf("%d people are called %s", len(all), name)
	}
	return all[0]
}

func (v *visit) hears(p *nodetest.Person, text string) bool {
	v.t.Helper()
	page, err := p.History(v.t.Context(), "#"+v.room, 0, 1000)
	if err != nil {
		v.t.Fatal(err)
	}
	return slices.ContainsFunc(page, func(m api.Message) bool { return !m.Mine && m.Text == text })
}

// says has one write and the other read.
func (v *visit) says(from, to *nodetest.Person, text string) {
	v.t.Helper()
	if _, err := from.Send(v.t.Context(), api.SendRequest{To: "#" + v.room, Text: text}); err != nil {
		v.t.Fatalf("%s says %q: %v", from.Name, text, err)
	}
	v.Wait(to.Name+" reads "+text, func() bool { return v.hears(to, text) })
}

func (v *visit) talk(about string) {
	v.t.Helper()
	v.says(v.alice, v.bert, "alice "+about)
	v.says(v.bert, v.alice, "bert "+about)
}

// told is what the events of the room say to somebody.
func (v *visit) told(p *nodetest.Person) (list []string) {
	v.t.Helper()
	last, err := p.LastEvent(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	for e, err := range p.Events(v.t.Context(), 0) {
		if err != nil {
			v.t.Fatal(err)
		}
		if e.Kind == engine.KindRoom.String() {
			list = append(list, e.Text)
		}
		if e.Seq >= last {
			break
		}
	}
	return list
}

func (v *visit) change(verb string, r api.RoomRequest) {
	v.t.Helper()
	if _, err := v.alice.ChangeRoom(v.t.Context(), v.room, verb, r); err != nil {
		v.t.Fatalf("%s: %v", verb, err)
	}
	v.Wait("the rendezvous has it", func() bool { return v.alice.Queued(v.room) == 0 })
}

// stage is what the guest's node says of it.
func (v *visit) stage(p *nodetest.Person) string {
	v.t.Helper()
	g, err := p.Guest(v.t.Context())
	if err != nil {
		v.t.Fatal(err)
	}
	return g.Stage
}

// A guest comes in by link and password, and is from then on who it is by its key:
// nobody asks it again. Of two copies of it one goes on.
func TestGST02_GST07_GuestStaysTheSame(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	was := v.seen("Bert")
	if was.Role != "guest" || !was.Guest || was.Expires == nil {
		t.Fatalf("the guest: %+v", was)
	}
	v.talk("at first")
	again := func(after string) {
		t.Helper()
		v.talk("after " + after)
		if is := v.seen("Bert"); is.Account != was.Account || is.Joined != was.Joined {
			t.Errorf("after %s it is %+v, and was %+v", after, is, was)
		}
	}
	v.Home.Stop()
	v.Home.Start()
	again("the rendezvous was restarted")
	v.bert.Stop()
	v.comeIn(v.bert) // no password is given
	again("its node was restarted")
	v.bert.Stop()
	v.Home.Stop()
	if err := v.bert.Visit(v.link); err != nil {
		t.Errorf("without a rendezvous, of which it needs nothing: %v", err)
	}
	v.refusesOthers()
	v.Home.Start()
	copied := *v.bert
	copied.Config.Dir = filepath.Join(t.TempDir(), "copy")
	copyDir(t, v.bert.Config.Dir, copied.Config.Dir)
	v.Adopt(&copied)
	v.bert.Start()
	again("both were")
	copied.Start()
	v.Wait("of two copies the second is turned away", func() bool {
		s, err := copied.Status(t.Context())
		return err == nil && slices.ContainsFunc(s.Problems, func(p api.Problem) bool { return strings.Contains(p.Text, "copy") })
	})
	again("its folder was copied")
}

// refusesOthers has others come in with bert's folder, which is not in use.
func (v *visit) refusesOthers() {
	v.t.Helper()
	link, err := roomlink.Parse(v.link)
	if err != nil {
		v.t.Fatal(err)
	}
	params := node.VisitParams{Dir: v.bert.Config.Dir, Secret: v.bert.Config.Secret, Link: link}
	params.Link.Room[0]++
	if _, err := node.Visit(v.t.Context(), params); !errors.Is(err, node.ErrOtherVisit) {
		v.t.Errorf("a guest of another room: %v", err)
	}
	v.alice.Stop()
	params = node.VisitParams{Dir: v.alice.Config.Dir, Secret: v.alice.Config.Secret, Link: link}
	if _, err := node.Visit(v.t.Context(), params); !errors.Is(err, node.ErrOtherVisit) {
		v.t.Errorf("somebody with an account: %v", err)
	}
	v.alice.Start()
	params.Link.Password = 0
	if _, err := node.Visit(v.t.Context(), params); !errors.Is(err, node.ErrNotForGuests) {
		v.t.Errorf("a link for members: %v", err)
	}
}

// Guests choose their names: what two call themselves names neither of them.
func TestNameOfTwoNamesNobody(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	other := v.NewGuest("Bert", v.link)
	v.comeIn(other, password)
	v.Wait("alice sees both", func() bool { return v.alice.Knows(v.room, v.bert) && v.alice.Knows(v.room, other) })
	for _, name := range []string{"Bert", "~Bert"} {
		_, err := v.alice.RoomMember(t.Context(), v.room, name)
		if codeOf(err) != api.ErrConflict || !strings.Contains(err.Error(), other.Whoami().Account[:8]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, p := range []*nodetest.Person{v.alice, v.bert, other} {
		account := p.Whoami().Account
		for _, name := range []string{account, account[:8]} {
			if m, err := v.alice.RoomMember(t.Context(), v.room, name); err != nil || m.Account != account {
				t.Errorf("%s: %+v, %v", name, m, err)
			}
		}
	}
	if m, err := v.alice.RoomMember(t.Context(), v.room, "alice"); err != nil || !m.Self || m.Role != "owner" {
		t.Errorf("alice herself: %+v, %v", m, err)
	}
	v.change(api.RoomRename, api.RoomRequest{Text: "$(touch x)"}) // what others choose is nothing to type
	_, err := v.alice.RoomMember(t.Context(), v.room, "nobody")
	e, ok := errors.AsType[*api.Error](err)
	if !ok || e.Code != api.ErrNotFound || e.Hint != "parley room members "+v.room[:8] {
		t.Errorf("nobody: %#v", err)
	}
}

// A guest waits until somebody is there who lets it in, and until the room is opened
// that was locked; it is told why, and needs to do nothing. Who was removed is told so,
// and does not come in again with its key; a new one does while the password allows it.
func TestGST06_GST10_RefusalsAndWhatFollows(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	v.change(api.RoomLock, api.RoomRequest{On: true})
	v.alice.Stop()
	carl := v.NewGuest("Carl", v.link)
	var why []string
	ctx, cancel := context.WithCancel(t.Context())
	err := carl.VisitUntil(ctx, v.link, func(text string, _ time.Duration) {
		why = append(why, text)
		cancel()
	}, password)
	if !errors.Is(err, context.Canceled) || len(why) != 1 || !strings.Contains(why[0], "nobody is there") {
		t.Errorf("nobody is online, and it waits because %q: %v", why, err)
	}
	v.alice.Start()
	locked := func(text string, _ time.Duration) {
		if why = append(why, text); strings.Contains(text, "locked") && v.alice.Queued(v.room) == 0 {
			v.change(api.RoomLock, api.RoomRequest{})
		}
	}
	if err := carl.VisitUntil(t.Context(), v.link, locked, password); err != nil {
		t.Errorf("after the room was opened: %v; it waited because %q", err, why)
	}

	v.change(api.RoomKick, api.RoomRequest{Who: v.seen("Bert").Account})
	v.Wait("bert is told", func() bool { return v.stage(v.bert) == api.GuestOut })
	v.bert.Stop()
	if err := v.bert.Visit(v.link, password); protocol.CodeOf(err) != protocol.Banned {
		t.Errorf("who was removed, with the same key: %v", err)
	}
	v.bert = v.NewGuest("Bert2", v.link)
	v.comeIn(v.bert, password)
	v.talk("with a new key")
}

// Asked again, a guest is out until it enters the new password, and then the same.
func TestGST05_GuestIsAskedAgain(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	was := v.seen("Bert")
	if _, err := v.alice.SetRoomGuests(t.Context(), v.room, api.GuestsRequest{Password: "second"}); err != nil {
		t.Fatal(err)
	}
	v.Wait("the new password is in force", func() bool { return v.alice.Queued(v.room) == 0 })
	v.talk("kept") // who is in stays
	carl := v.NewGuest("Carl", v.link)
	if err := carl.Visit(v.link, password); !errors.Is(err, nodetest.ErrAsked) {
		t.Errorf("a new guest comes in by the old password: %v", err)
	}
	if _, err := v.alice.SetRoomGuests(t.Context(), v.room, api.GuestsRequest{Password: "third", AskAgain: true}); err != nil {
		t.Fatal(err)
	}
	v.Wait("bert is told that he is out", func() bool { return v.stage(v.bert) == api.GuestKnocks })
	if told := v.told(v.bert); len(told) == 0 || slices.Contains(told, "") { // the log comes first, or the refusal
		t.Errorf("bert is told %q", told)
	}
	v.bert.Stop()
	if err := v.bert.Visit(v.link, "second"); !errors.Is(err, nodetest.ErrAsked) {
		t.Errorf("by the password of before: %v", err)
	}
	v.comeIn(v.bert, "third")
	v.talk("asked again")
	if is := v.seen("Bert"); is.Account != was.Account {
		t.Errorf("bert is %+v, and was %+v", is, was)
	}
	g, err := v.alice.RoomGuests(t.Context(), v.room)
	if err != nil {
		t.Fatal(err)
	}
	told := v.told(v.alice)
	for _, text := range []string{
		"alice set a password for guests",
		"alice set a password for guests, and asks those who are in for it",
		"a guest could not come in: wrong password",
	} {
		if !slices.Contains(told, text) {
			t.Errorf("alice is not told %q, but %q", text, told)
		}
	}
	wrong := 0
	for _, a := range g.Attempts {
		if a.Cause == protocol.WrongPassword.String() {
			wrong += a.Count
		}
	}
	if wrong != 2 || len(g.Guests) != 1 {
		t.Errorf("alice sees %d guests and the attempts %+v", len(g.Guests), g.Attempts)
	}
}

// A rendezvous that was set back knows neither the guest nor that it was let in. The guest
// knocks again, with what it has, and is the same.
func TestGST02_TheRendezvousForgotTheGuest(t *testing.T) {
	t.Parallel()
	v := newOpenRoom(t)
	var was api.RoomMember
	v.Home.SetBack(func() {
		v.change(api.RoomTopic, api.RoomRequest{Text: "alice is back"})
		v.comeIn(v.bert, password)
		v.talk("before")
		was = v.seen("Bert")
		v.bert.Stop()
	})
	v.change(api.RoomTopic, api.RoomRequest{Text: "and once more"})
	v.bert.Start()
	v.Wait("bert is in, or knows that he has to knock", func() bool { return v.stage(v.bert) == api.GuestKnocks || v.bert.Up() })
	v.bert.Stop()
	v.comeIn(v.bert)
	v.says(v.bert, v.alice, "back")
	v.says(v.alice, v.bert, "welcome back")
	if is := v.seen("Bert"); is.Account != was.Account || is.Joined != was.Joined {
		t.Errorf("bert is %+v, and was %+v", is, was)
	}
}
