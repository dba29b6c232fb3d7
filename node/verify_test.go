package node_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
)

// compareUntil begins to compare with somebody or answers, and returns what there
// is when the stage is reached.
func compareUntil(t *testing.T, p *nodetest.Person, with, stage string) (last api.Comparison) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	defer cancel()
	for k, err := range p.Comparison(ctx, with) {
		if err != nil {
			t.Fatalf("%s compares with %s: %v", p.Name, with, err)
		}
		if last = k; k.Stage == stage {
			return k
		}
	}
	t.Fatalf("%s did not get to %q but %+v", p.Name, stage, last)
	return last
}

func compareDo(t *testing.T, p *nodetest.Person, with, do string) {
	t.Helper()
	if _, err := p.Compare(t.Context(), with, do); err != nil {
		t.Fatalf("%s, comparing with %s, says %s: %v", p.Name, with, do, err)
	}
}

// samePictures has both see pictures.
func samePictures(t *testing.T, a, b *nodetest.Person) {
	t.Helper()
	compareDo(t, a, b.Name, api.CompareStart)
	compareDo(t, b, a.Name, api.CompareStart)
	x, y := compareUntil(t, a, b.Name, api.ComparePictures), compareUntil(t, b, a.Name, api.ComparePictures)
	if len(x.Pictures) != 7 || !slices.Equal(x.Pictures, y.Pictures) {
		t.Fatalf("one sees %v, the other %v", x.Pictures, y.Pictures)
	}
}

func TestCompareEmoji(t *testing.T) {
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	samePictures(t, alice, bob)
	compareDo(t, alice, "bob", api.CompareMatch)
	bob.Stop() // in the middle
	bob.Start()
	compareDo(t, bob, "alice", api.CompareMatch)
	compareUntil(t, alice, "bob", api.CompareMatched)
	compareUntil(t, bob, "alice", api.CompareMatched)
	if !alice.Contact("bob").Verified || !bob.Contact("alice").Verified {
		t.Error("not verified")
	}
	samePictures(t, alice, bob)
	compareDo(t, alice, "bob", api.CompareMatch)
	compareDo(t, bob, "alice", api.CompareDiffer)
	if k := compareUntil(t, alice, "bob", api.CompareDiffers); !strings.Contains(k.Text, "in between") {
		t.Errorf("alice is told %q", k.Text)
	}
	if alice.Contact("bob").Verified || bob.Contact("alice").Verified {
		t.Error("still verified")
	}
	if _, err := bob.Compare(t.Context(), "alice", "guess"); codeOf(err) != api.ErrBadInput {
		t.Errorf("something else to do: %v", err)
	}
}

func TestScanCode(t *testing.T) {
	net := nodetest.New(t, 3)
	alice, bob, carol := net.People[0], net.People[1], net.People[2]
	net.Befriend(alice, bob)
	net.Befriend(carol, bob)
	code := func(p *nodetest.Person, with string) string {
		s, err := p.Safety(t.Context(), with)
		if err != nil {
			t.Fatal(err)
		}
		return s.Code
	}
	for _, other := range []string{code(alice, "bob"), code(bob, "carol"), "nonsense"} {
		if _, err := alice.Scan(t.Context(), "bob", other); codeOf(err) != api.ErrBadInput {
			t.Errorf("another code: %v", err)
		}
	}
	if s, err := alice.Scan(t.Context(), "bob", code(bob, "alice")); err != nil || !s.Verified {
		t.Errorf("%+v, %v", s, err)
	}
}

// After a recovery of a verified contact nothing is sent; status says so, and what
// to type. Comparing emoji with the new device lets it go on.
func TestVerifyAfterRecovery(t *testing.T) {
	net, alice, bob, words := friends(t)
	alice.Stop()
	rk := parseWords(t, words)
	invite := net.Home.Invite()
	second, params := machine(t, net, "second")
	params.Words, params.Name = &rk, "alice"
	params.Home = engine.Home{Peer: invite.Peer, Addrs: invite.Addrs}
	enter(t, net, second, params)
	net.Wait("bob sees that the key changed", func() bool { return bob.Contact("alice").KeyChanged })
	if bob.Contact("alice").Verified {
		t.Error("she counts as verified all the same")
	}
	s, err := bob.Status(t.Context())
	if err != nil || !slices.ContainsFunc(s.Problems, func(p api.Problem) bool { return p.Fix == "parley verify alice" }) {
		t.Errorf("problems: %+v, %v", s.Problems, err)
	}
	if _, err := bob.Send(t.Context(), api.SendRequest{To: "alice", Text: "too early"}); codeOf(err) != api.ErrConflict {
		t.Errorf("sent before bob has looked: %v", err)
	}
	if _, err := second.Add(t.Context(), api.AddRequest{Name: "bob"}); err != nil {
		t.Fatal(err)
	}
	compareDo(t, bob, "alice", api.CompareStart)
	net.Wait("alice has the offer", func() bool {
		_, err := second.Compare(t.Context(), "bob", api.CompareStart)
		if e, ok := errors.AsType[*api.Error](err); ok && e.Code != api.ErrNotFound {
			t.Fatal(err)
		}
		return err == nil
	})
	compareUntil(t, bob, "alice", api.ComparePictures)
	compareUntil(t, second, "bob", api.ComparePictures)
	compareDo(t, bob, "alice", api.CompareMatch)
	compareDo(t, second, "bob", api.CompareMatch)
	compareUntil(t, bob, "alice", api.CompareMatched)
	if c := bob.Contact("alice"); !c.Verified || c.KeyChanged {
		t.Errorf("%+v", c)
	}
	m := bob.Say(second, "welcome back")
	net.Wait("it arrives", func() bool { return bob.Message(m.ID).State == api.Delivered })
}
