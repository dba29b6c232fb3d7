package account

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/link"
)

func accountID(name string) protocol.AccountID {
	return protocol.AccountID(keytest.Seed(name, 32))
}

func TestVerifyCodeVector(t *testing.T) {
	alice, bob := accountID("alice"), accountID("bob")
	keytest.Golden(t, "verify.json", struct {
		Own   keytest.Hex `json:"own_account"`
		Other keytest.Hex `json:"other_account"`
		Names []string    `json:"names"`
		Code  string      `json:"code"`
	}{alice[:], bob[:], []string{"alice", "bob"}, VerifyCode(alice, bob, "alice", "bob")})
}

// Bob reads the code on Alice's screen.
func TestVerifyCode(t *testing.T) {
	alice, bob, eve := accountID("alice"), accountID("bob"), accountID("eve")
	for name, c := range map[string]struct {
		shown string
		want  Verdict
	}{
		"honest":                        {VerifyCode(alice, bob, "alice", "bob"), Match},
		"alice knows another bob":       {VerifyCode(alice, eve, "alice", "bob"), Mismatch},
		"bob knows another alice":       {VerifyCode(eve, bob, "alice", "bob"), Mismatch},
		"somebody between":              {VerifyCode(accountID("x"), eve, "alice", "bob"), Mismatch},
		"alice has another name there":  {VerifyCode(alice, bob, "alicia", "bob"), Mismatch},
		"bob has another name there":    {VerifyCode(alice, bob, "alice", "bobby"), Mismatch},
		"accounts and names crosswise":  {VerifyCode(bob, alice, "alice", "bob"), Mismatch},
		"bob's own code":                {VerifyCode(bob, alice, "bob", "alice"), NotAboutUs},
		"alice's code for eve":          {VerifyCode(alice, eve, "alice", "eve"), NotAboutUs},
		"eve's code for bob":            {VerifyCode(eve, bob, "eve", "bob"), NotAboutUs},
		"eve's code for alice":          {VerifyCode(eve, alice, "eve", "alice"), NotAboutUs},
		"names of others, same account": {VerifyCode(alice, eve, "x", "y"), NotAboutUs},
	} {
		got, err := CheckVerifyCode("\n"+c.shown+" ", bob, alice, "bob", "alice")
		if err != nil || got != c.want {
			t.Errorf("%s: %v, %v, want %v", name, got, err, c.want)
		}
	}
}

func TestVerifyCodeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.SliceOfN(rapid.Byte(), 32, 32)
		a, b := protocol.AccountID(id.Draw(t, "a")), protocol.AccountID(id.Draw(t, "b"))
		name := rapid.StringMatching(`[a-z0-9_]{3,32}`)
		nameA, nameB := name.Draw(t, "name a"), name.Draw(t, "name b")
		text := VerifyCode(a, b, nameA, nameB)
		c, err := parseVerifyCode(text)
		if err != nil || (c != verifyCode{a, b, nameA, nameB}) {
			t.Fatalf("%+v: %v", c, err)
		}
		if v, err := CheckVerifyCode(text, b, a, nameB, nameA); err != nil || v != Match {
			t.Fatalf("%v, %v", v, err)
		}
		k := rapid.IntRange(len(VerifyPrefix), len(text)-1).Draw(t, "place")
		if changed := text[:k] + string(text[k]^1) + text[k+1:]; second(CheckVerifyCode(changed, b, a, nameB, nameA)) == nil {
			t.Fatalf("character %d changed and nobody noticed", k)
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestVerifyCodeRefused(t *testing.T) {
	alice, bob := accountID("alice"), accountID("bob")
	good := VerifyCode(alice, bob, "alice", "bob")
	body, err := link.Decode(VerifyPrefix, verifyDomain, good)
	check(t, err)
	sealed := func(b []byte) string { return link.Encode(VerifyPrefix, verifyDomain, b) }
	newer := bytes.Clone(body)
	newer[0] = 2
	for name, text := range map[string]string{
		"empty":          "",
		"other link":     "parley://join#AQEC",
		"cut":            good[:len(good)-4],
		"too long":       good + strings.Repeat("A", link.MaxChars),
		"newer version":  sealed(newer),
		"short":          sealed(body[:64]),
		"one name":       sealed(body[:1+64+6]),
		"no name":        VerifyCode(alice, bob, "", "bob"),
		"long name":      VerifyCode(alice, bob, "alice", strings.Repeat("b", 33)),
		"capital":        VerifyCode(alice, bob, "Alice", "bob"),
		"escape":         VerifyCode(alice, bob, "\x1b[2J", "bob"),
		"trailing bytes": sealed(append(bytes.Clone(body), 0)),
	} {
		if v, err := CheckVerifyCode(text, bob, alice, "bob", "alice"); !errors.Is(err, ErrNotVerifyCode) || v != NotAboutUs {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

func FuzzParseVerifyCode(f *testing.F) {
	body, err := link.Decode(VerifyPrefix, verifyDomain, VerifyCode(accountID("a"), accountID("b"), "alice", "bob"))
	check(f, err)
	f.Add(body)
	f.Fuzz(func(t *testing.T, body []byte) {
		text := link.Encode(VerifyPrefix, verifyDomain, body)
		c, err := parseVerifyCode(text)
		if err == nil && VerifyCode(c.own, c.other, c.ownName, c.otherName) != text {
			t.Fatal("not canonical")
		}
	})
}
