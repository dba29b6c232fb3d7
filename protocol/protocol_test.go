package protocol

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestIDTextRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bytes")
		id, err := FromBytes[MsgID](b)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := id.MarshalText()
		var back MsgID
		if err := back.UnmarshalText(text); err != nil || back != id {
			t.Fatalf("%s came back as %s: %v", id, back, err)
		}
	})
}

func TestIDTextRefused(t *testing.T) {
	good := AccountID{1}.String()
	for _, bad := range []string{"", good[1:], good + "a", strings.Repeat("1", len(good)), good[:len(good)-1] + "b"} {
		var id AccountID
		if err := id.UnmarshalText([]byte(bad)); !errors.Is(err, ErrBadID) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestFromBytesWantsTheExactLength(t *testing.T) {
	for _, n := range []int{0, 15, 17, 32} {
		if _, err := FromBytes[MsgID](make([]byte, n)); !errors.Is(err, ErrBadID) {
			t.Errorf("%d bytes accepted as a message id", n)
		}
	}
	if _, err := FromBytes[DeviceID](make([]byte, 32)); err != nil {
		t.Error(err)
	}
}

func FuzzAccountIDText(f *testing.F) {
	f.Add(AccountID{7}.String())
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		var id AccountID
		if id.UnmarshalText([]byte(s)) == nil && id.String() != strings.ToLower(s) {
			t.Fatalf("%q read as %s", s, id)
		}
	})
}

func TestCodes(t *testing.T) {
	if CodeOf(nil) != OK || CodeOf(errors.New("x")) != Internal {
		t.Error("codes of plain errors")
	}
	err := fmt.Errorf("send: %w", Refuse(NotContact, "bob has not accepted"))
	if CodeOf(err) != NotContact {
		t.Errorf("code of %v is %v", err, CodeOf(err))
	}
	seen := map[string]Code{}
	for c, name := range codeNames {
		if other, ok := seen[name]; ok {
			t.Errorf("%d and %d are both called %s", c, other, name)
		}
		seen[name] = c
	}
	if Code(9999).String() != "code_9999" {
		t.Error("a code from the future has no name")
	}
}

// TestEveryCodeIsSpecified: SPEC.md lists each code by number and name.
func TestEveryCodeIsSpecified(t *testing.T) {
	spec, err := os.ReadFile("SPEC.md")
	if err != nil {
		t.Fatal(err)
	}
	for c, name := range codeNames {
		if row := fmt.Sprintf("| %d | %s |", uint32(c), name); !strings.Contains(string(spec), row) {
			t.Errorf("SPEC.md has no row %q", row)
		}
	}
}

func TestPeerText(t *testing.T) {
	for want, b := range map[string][]byte{"": nil, "112": {0, 0, 1}, "2g": {'a'}, "a3gV": []byte("bbb")} {
		if got := PeerText(b); got != want {
			t.Errorf("%x: %s, want %s", b, got, want)
		}
	}
}
