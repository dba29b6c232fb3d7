package invite

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/link"
)

func example() Invite {
	return Invite{
		Peer:    append([]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}, bytes.Repeat([]byte{7}, 32)...),
		Addrs:   []string{"/ip4/198.51.100.7/tcp/4001", "/ip4/198.51.100.7/udp/4001/quic-v1"},
		Token:   [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
		Expires: time.Unix(1_800_000_000, 0).UTC(),
	}
}

// The link of example, fixed: a change of the layout breaks links people hold.
const golden = "parley://join#AQECAwQFBgcICQoLDA0ODxAAAAAAa0nSACYAJAgBEiAHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwIaL2lwNC8xOTguNTEuMTAwLjcvdGNwLzQwMDEiL2lwNC8xOTguNTEuMTAwLjcvdWRwLzQwMDEvcXVpYy12MUDl7co"

func TestGolden(t *testing.T) {
	got := example().String()
	if got != golden {
		t.Errorf("link = %s\nwant   %s", got, golden)
	}
	i, err := Parse("\n  " + got + "\t\n")
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(i, example()) {
		t.Errorf("parsed %+v", i)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Invite{
			Peer:  rapid.SliceOfN(rapid.Byte(), 1, link.MaxPeer).Draw(t, "peer"),
			Addrs: rapid.SliceOfN(rapid.StringMatching(`/[!-~]{0,127}`), 1, MaxAddrs).Draw(t, "addrs"),
		}
		copy(want.Token[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "token"))
		if s := rapid.Int64Range(0, expiresMax).Draw(t, "expires"); s != 0 {
			want.Expires = time.Unix(s, 0).UTC()
		}
		text := want.String()
		got, err := Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("got %#v, want %#v", got, want)
		}
		if len(text) > len(Prefix)+link.MaxChars {
			t.Fatalf("link has %d characters", len(text))
		}
	})
}

// Any single changed character is noticed.
func TestDamage(t *testing.T) {
	link := example().String()
	for k := len(Prefix); k < len(link); k++ {
		other := byte('A')
		if link[k] == other {
			other = 'B'
		}
		if _, err := Parse(link[:k] + string(other) + link[k+1:]); err == nil {
			t.Errorf("character %d changed and nobody noticed", k)
		}
		if _, err := Parse(link[:k]); err == nil {
			t.Errorf("cut at %d and nobody noticed", k)
		}
	}
}

// sealed makes a link of a body that has a right checksum and wrong content.
func sealed(body []byte) string {
	return link.Encode(Prefix, checkDomain, body)
}

func TestRefused(t *testing.T) {
	tooMany := example()
	tooMany.Addrs = make([]string, MaxAddrs+1)
	for k := range tooMany.Addrs {
		tooMany.Addrs[k] = "/ip4/198.51.100.7/tcp/1"
	}
	escape := example()
	escape.Addrs = []string{"/ip4/\x1b[2J"}
	noSlash := example()
	noSlash.Addrs = []string{"198.51.100.7:4001"}
	late := binary.BigEndian.AppendUint64(append([]byte{version}, make([]byte, 16)...), expiresMax+1)

	for name, c := range map[string]struct {
		link string
		want error
	}{
		"empty":          {"", ErrNotInvite},
		"other link":     {"https://example.org/join#AQEC", ErrNotInvite},
		"no content":     {Prefix, ErrDamaged},
		"not base64":     {Prefix + "!!!!", ErrDamaged},
		"broken line":    {golden[:40] + "\n" + golden[40:], ErrDamaged},
		"too long":       {Prefix + strings.Repeat("A", link.MaxChars+1), ErrDamaged},
		"newer version":  {sealed([]byte{2, 9, 9}), ErrVersion},
		"short":          {sealed([]byte{version, 1, 2}), ErrDamaged},
		"no peer":        {Invite{Addrs: []string{"/a"}}.String(), ErrDamaged},
		"no address":     {Invite{Peer: []byte{1}}.String(), ErrDamaged},
		"too many":       {tooMany.String(), ErrDamaged},
		"long peer":      {Invite{Peer: make([]byte, link.MaxPeer+1), Addrs: []string{"/a"}}.String(), ErrDamaged},
		"long address":   {Invite{Peer: []byte{1}, Addrs: []string{"/" + strings.Repeat("a", MaxAddr)}}.String(), ErrDamaged},
		"escape":         {escape.String(), ErrDamaged},
		"no slash":       {noSlash.String(), ErrDamaged},
		"expires late":   {sealed(late), ErrDamaged},
		"trailing bytes": {trailing(), ErrDamaged},
	} {
		if _, err := Parse(c.link); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func bodyOf(i Invite) []byte {
	b, err := link.Decode(Prefix, checkDomain, i.String())
	if err != nil {
		panic(err)
	}
	return b
}

func trailing() string {
	return sealed(append(bodyOf(example()), 0))
}

func TestTokenIsHidden(t *testing.T) {
	i := example()
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("made", "invite", i)
	j, err := json.Marshal(i)
	if err != nil {
		t.Fatal(err)
	}
	printed := []string{fmt.Sprint(i), fmt.Sprint(&i), fmt.Sprintf("%v %+v %#v", i, i, i), fmt.Sprintf("%x", i), fmt.Sprintf("%v", []Invite{i})}
	for _, out := range append(printed, logged.String(), string(j)) {
		if !strings.Contains(out, "redacted") || strings.Contains(out, "6 7 8") || strings.Contains(out, "AQIDBAUG") || strings.Contains(out, "0x1, 0x2, 0x3") {
			t.Errorf("token shown: %s", out)
		}
	}
}

func TestLinkIsPrintedOnRequest(t *testing.T) {
	if got := fmt.Sprintf("%s %q", example(), example()); got != golden+` "`+golden+`"` {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(example().String())
	f.Add(Prefix)
	f.Add(sealed([]byte{version, 1, 2}))
	f.Fuzz(func(t *testing.T, text string) {
		i, err := Parse(text)
		if err != nil {
			return
		}
		if got := i.String(); got != strings.TrimSpace(text) {
			t.Errorf("%q is not canonical: %q", text, got)
		}
	})
}

// FuzzBody reaches the parser behind the checksum.
func FuzzBody(f *testing.F) {
	f.Add(bodyOf(example())[1:])
	f.Fuzz(func(t *testing.T, body []byte) {
		i, err := parseBody(body)
		if err != nil {
			return
		}
		if got := i.String(); got != sealed(append([]byte{version}, body...)) {
			t.Errorf("%x is not canonical", body)
		}
	})
}
