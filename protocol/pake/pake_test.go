package pake

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// run lets two sides exchange everything.
func run(t *rapid.T, a, b Common, adA, adB []byte) (atA, atB *Unconfirmed) {
	first, second := New(Initiator, a, adA), New(Responder, b, adB)
	atA, err := first.Finish(second.Share(), adB)
	if err != nil {
		t.Fatal(err)
	}
	atB, err = second.Finish(first.Share(), adA)
	if err != nil {
		t.Fatal(err)
	}
	return atA, atB
}

func TestBothSidesAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOfN(rapid.Byte(), 0, 300)
		in := Common{Password: text.Draw(t, "password"), Channel: text.Draw(t, "channel"), Session: text.Draw(t, "session")}
		atA, atB := run(t, in, in, text.Draw(t, "ad of a"), text.Draw(t, "ad of b"))
		atKeysA, err := atA.Confirm(atB.Confirmation())
		if err != nil {
			t.Fatal(err)
		}
		atKeysB, err := atB.Confirm(atA.Confirmation())
		if err != nil {
			t.Fatal(err)
		}
		if atKeysA.Derive("x") != atKeysB.Derive("x") || !bytes.Equal(atKeysA.Session(), atKeysB.Session()) {
			t.Fatal("the sides differ")
		}
		if atKeysA.Derive("x") == atKeysA.Derive("y") || atKeysA.Derive("x") == [32]byte{} {
			t.Fatal("purposes do not separate keys")
		}
	})
}

// Whatever differs between the sides, neither confirms the other.
func TestDifferenceIsNoticed(t *testing.T) {
	base := Common{Password: []byte("crane lunar bind"), Channel: []byte("channel"), Session: []byte("session")}
	for name, change := range map[string]func(*Common){
		"password":                func(c *Common) { c.Password = []byte("crane lunar bond") },
		"no password":             func(c *Common) { c.Password = nil },
		"channel":                 func(c *Common) { c.Channel = []byte("chanel") },
		"session":                 func(c *Common) { c.Session = nil },
		"border between channels": func(c *Common) { c.Channel, c.Session = []byte("channels"), []byte("ession") },
	} {
		other := base
		change(&other)
		rapid.Check(t, func(t *rapid.T) {
			atA, atB := run(t, base, other, []byte("a"), []byte("b"))
			refused(t, name, atA, atB)
		})
	}
}

func refused(t interface{ Errorf(string, ...any) }, name string, atA, atB *Unconfirmed) {
	if _, err := atA.Confirm(atB.Confirmation()); !errors.Is(err, ErrConfirm) {
		t.Errorf("%s: a took it: %v", name, err)
	}
	if _, err := atB.Confirm(atA.Confirmation()); !errors.Is(err, ErrConfirm) {
		t.Errorf("%s: b took it: %v", name, err)
	}
}

// Somebody in the middle changes what the sides say, or their roles clash.
func TestTampering(t *testing.T) {
	in := Common{Password: []byte("password"), Channel: []byte("channel")}
	exchange := func(roleB Role, adSeenByA, adSeenByB string) (atA, atB *Unconfirmed) {
		a, b := New(Initiator, in, []byte("a")), New(roleB, in, []byte("b"))
		atA, err := a.Finish(b.Share(), []byte(adSeenByA))
		if err != nil {
			t.Fatal(err)
		}
		atB, err = b.Finish(a.Share(), []byte(adSeenByB))
		if err != nil {
			t.Fatal(err)
		}
		return atA, atB
	}
	for name, c := range map[string]struct {
		roleB      Role
		adOfB, adA string
	}{
		"ad of a":       {Responder, "b", "A"},
		"ad of b":       {Responder, "B", "a"},
		"ads swapped":   {Responder, "a", "b"},
		"same role too": {Initiator, "b", "a"},
	} {
		atA, atB := exchange(c.roleB, c.adOfB, c.adA)
		refused(t, name, atA, atB)
	}

	atA, atB := exchange(Responder, "b", "a")
	if _, err := atA.Confirm(atA.Confirmation()); !errors.Is(err, ErrConfirm) {
		t.Error("a confirmed itself")
	}
	good := atB.Confirmation()
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 0x10
		if _, err := atA.Confirm(bad); !errors.Is(err, ErrConfirm) {
			t.Fatalf("byte %d of the confirmation does not matter", i)
		}
	}
	for _, bad := range [][]byte{nil, good[:32], append(bytes.Clone(good), 0)} {
		if _, err := atA.Confirm(bad); !errors.Is(err, ErrConfirm) {
			t.Errorf("confirmation of %d bytes", len(bad))
		}
	}
}

func TestOneRun(t *testing.T) {
	in := Common{Password: []byte("password")}
	a, b := New(Initiator, in, nil), New(Responder, in, nil)
	if _, err := a.Finish(b.Share(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Finish(b.Share(), nil); !errors.Is(err, ErrUsed) {
		t.Errorf("second use: %v", err)
	}
	if _, err := b.Finish(b.Share(), nil); !errors.Is(err, ErrShare) {
		t.Errorf("own share came back: %v", err)
	}
	if _, err := b.Finish(a.Share(), nil); !errors.Is(err, ErrUsed) {
		t.Errorf("use after a bad share: %v", err)
	}
	if _, err := (&Party{}).Finish(a.Share(), nil); !errors.Is(err, ErrUsed) {
		t.Errorf("zero party: %v", err)
	}
	for _, share := range [][]byte{nil, make([]byte, 31), make([]byte, 33), bytes.Repeat([]byte{0xff}, 32)} {
		if _, err := New(Initiator, in, nil).Finish(share, nil); !errors.Is(err, ErrShare) {
			t.Errorf("share %x: %v", share, err)
		}
	}
	if bytes.Equal(New(Initiator, in, nil).Share(), New(Initiator, in, nil).Share()) {
		t.Error("two runs with one scalar")
	}
}

func TestScalarsAreBelowTheOrder(t *testing.T) {
	for range 1000 {
		var b [32]byte
		rand.Read(b[:])
		sampleScalar(b)
	}
	sampleScalar([32]byte(bytes.Repeat([]byte{0xff}, 32))) // the largest
}

func TestSecretsAreHidden(t *testing.T) {
	v := loadDraft(t)
	p := newParty(Initiator, v.common(), v.ADA, scalar(t, v.ScalarA))
	outputs := []string{fmt.Sprintf("%v %+v %#v %s", p, p, p, p), fmt.Sprintf("%+v", v.common())}
	u, err := p.Finish(v.ShareB, v.ADB)
	if err != nil {
		t.Fatal(err)
	}
	outputs = append(outputs, fmt.Sprintf("%v %+v %#v", u, u, u), fmt.Sprintf("%v %+v %#v", u.keys, u.keys, u.keys))
	j, err := json.Marshal([]any{u, u.keys, v.common()})
	if err != nil {
		t.Fatal(err)
	}
	for _, out := range append(outputs, string(j)) {
		if !strings.Contains(out, "redacted") || strings.Contains(out, "Password") || strings.Contains(out, "0x50") || strings.Contains(out, "255 191") {
			t.Errorf("secret shown: %s", out)
		}
	}
}

// No share makes the exchange panic, and none that is taken is neutral.
func FuzzFinish(f *testing.F) {
	v := loadDraft(f)
	f.Add([]byte(v.ShareB), []byte("ad"))
	f.Add([]byte(v.Invalid[0]), []byte{})
	f.Add([]byte(v.Invalid[1]), []byte{})
	f.Fuzz(func(t *testing.T, share, ad []byte) {
		u, err := New(Initiator, v.common(), v.ADA).Finish(share, ad)
		if (u == nil) == (err == nil) {
			t.Fatal("neither key nor error")
		}
	})
}
