package pairing

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/link"
	"github.com/parley-chat/parley/protocol/words"
)

func exampleHome() link.Place {
	return link.Place{
		Peer:  append([]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}, bytes.Repeat([]byte{7}, 32)...),
		Addrs: []string{"/ip4/198.51.100.7/tcp/4001", "/ip4/198.51.100.7/udp/4001/quic-v1"},
	}
}

// exampleShort and exampleLink are the same every time.
func exampleShort(t testing.TB) Code {
	t.Helper()
	c, err := Parse("7421-crane-lunar-bind")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func exampleLink(t testing.TB) Code {
	t.Helper()
	c, err := newCode("7421", linkCode, [LinkSecret]byte(keytest.Seed("code", LinkSecret)), exampleHome())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestShortCode(t *testing.T) {
	want := exampleShort(t)
	if want.String() != "7421-crane-lunar-bind" || want.Slot != "7421" || want.Home.Peer != nil {
		t.Fatal(want.String())
	}
	for _, typed := range []string{
		" 7421 Crane LUNAR bind\n", "7421-cran-luna-bind", "7421crane lunar bind", "7421 - crane, lunar, bind.",
	} {
		if got, err := Parse(typed); err != nil || got.String() != want.String() {
			t.Errorf("%q: %s, %v", typed, got, err)
		}
	}
}

func TestShortCodeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		slot := rapid.StringMatching(`[0-9]{1,8}`).Draw(t, "slot")
		want, err := NewShort(slot)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Parse(want.String())
		if err != nil || got.String() != want.String() || got.Slot != slot || !bytes.Equal(got.password(), want.password()) {
			t.Fatalf("%s, want %s (%v)", got, want, err)
		}
	})
}

func TestLinkRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		home := link.Place{
			Peer:  rapid.SliceOfN(rapid.Byte(), 1, link.MaxPeer).Draw(t, "peer"),
			Addrs: rapid.SliceOfN(rapid.StringMatching(`/[!-~]{0,127}`), 1, link.MaxAddrs).Draw(t, "addrs"),
		}
		want, err := NewLink(rapid.StringMatching(`[0-9]{1,8}`).Draw(t, "slot"), home)
		if err != nil {
			t.Fatal(err)
		}
		text := want.String()
		got, err := Parse(text)
		if err != nil || got.String() != text || !bytes.Equal(got.password(), want.password()) || !bytes.Equal(got.Home.Peer, home.Peer) || fmt.Sprint(got.Home.Addrs) != fmt.Sprint(home.Addrs) {
			t.Fatalf("%s, want %s (%v)", got, want, err)
		}
		if len(text) > len(Prefix)+link.MaxChars {
			t.Fatalf("link has %d characters", len(text))
		}
	})
}

func TestNewCodesAreFresh(t *testing.T) {
	seen := map[string]bool{}
	for range 50 {
		short, err := NewShort("1")
		if err != nil {
			t.Fatal(err)
		}
		long, err := NewLink("1", exampleHome())
		if err != nil {
			t.Fatal(err)
		}
		seen[short.String()], seen[long.String()] = true, true
	}
	if len(seen) != 100 {
		t.Errorf("%d different codes of 100", len(seen))
	}
}

func TestCodeRefused(t *testing.T) {
	sealed := func(body ...[]byte) string { return link.Encode(Prefix, checkDomain, bytes.Join(body, nil)) }
	secret, home := make([]byte, LinkSecret), exampleHome().Append(nil)
	good := exampleLink(t).String()
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":          {"", ErrNotCode},
		"words only":     {"crane lunar bind", ErrNotCode},
		"long slot":      {"123456789-crane-lunar-bind", ErrNotCode},
		"long text":      {"7421" + strings.Repeat(" ", maxShort) + "crane lunar bind", ErrNotCode},
		"two words":      {"7421-crane-lunar", words.ErrCount},
		"four words":     {"7421-crane-lunar-bind-bind", words.ErrCount},
		"invite":         {"parley://join#AQEC", ErrNotCode},
		"cut link":       {good[:len(good)-3], ErrDamaged},
		"newer version":  {sealed([]byte{2}, secret), ErrCodeVersion},
		"no slot":        {sealed([]byte{1, 0}, secret, home), ErrDamaged},
		"slot of a word": {sealed([]byte{1, 2, 'a', '1'}, secret, home), ErrDamaged},
		"long link slot": {sealed([]byte{1, 9}, []byte("123456789"), secret, home), ErrDamaged},
		"short secret":   {sealed([]byte{1, 1, '7'}, secret[:15]), ErrDamaged},
		"no home":        {sealed([]byte{1, 1, '7'}, secret), ErrDamaged},
		"trailing bytes": {sealed([]byte{1, 1, '7'}, secret, home, []byte{0}), ErrDamaged},
	} {
		if got, err := Parse(c.text); !errors.Is(err, c.want) || got.kind != 0 {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	_, err := Parse("7421-crane-crossover-bind")
	if unknown, ok := errors.AsType[*words.Unknown](err); !ok || unknown.Number != 2 || unknown.Word != "crossover" {
		t.Errorf("word that is not in the list: %v", err)
	}
	for _, slot := range []string{"", "12a", "-1", "123456789", "１"} {
		if _, err := NewShort(slot); err == nil {
			t.Errorf("slot %q", slot)
		}
	}
}

// Any single changed character of a link is noticed.
func TestDamage(t *testing.T) {
	text := exampleLink(t).String()
	for k := len(Prefix); k < len(text); k++ {
		other := byte('A')
		if text[k] == other {
			other = 'B'
		}
		if _, err := Parse(text[:k] + string(other) + text[k+1:]); err == nil {
			t.Errorf("character %d changed and nobody noticed", k)
		}
	}
}

func TestCodeIsHidden(t *testing.T) {
	for _, c := range []Code{exampleShort(t), exampleLink(t)} {
		var logged bytes.Buffer
		slog.New(slog.NewJSONHandler(&logged, nil)).Info("made", "code", c)
		j, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		holder := struct{ code Code }{c}
		printed := []string{fmt.Sprint(c), fmt.Sprint(&c), fmt.Sprintf("%v %+v %#v %x", c, c, c, c), logged.String(), string(j)}
		for _, out := range printed {
			if !strings.Contains(out, "redacted") {
				t.Errorf("code shown: %s", out)
			}
		}
		secret := c.secret()[:]
		for _, out := range append(printed, fmt.Sprintf("%v %+v", holder, holder)) {
			for _, form := range []string{"crane", c.String(), fmt.Sprintf("%x", secret[:4]), strings.Trim(fmt.Sprint(secret[:4]), "[]")} {
				if strings.Contains(out, form) {
					t.Errorf("code shown: %s", out)
				}
			}
		}
		if got := fmt.Sprintf("%s %q", c, c); got != c.String()+` "`+c.String()+`"` {
			t.Error(got)
		}
	}
	if (Code{}).String() != "" {
		t.Error("zero code")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("7421-crane-lunar-bind")
	f.Add(exampleLink(f).String())
	f.Add(Prefix)
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(text)
		if err != nil {
			return
		}
		if c.kind == linkCode && c.String() != strings.TrimSpace(text) {
			t.Errorf("%q is not canonical: %s", text, c)
		}
		if again, err := Parse(c.String()); err != nil || again.String() != c.String() {
			t.Errorf("%s is not read back: %v", c, err)
		}
	})
}

// FuzzLinkBody reaches the parser behind the checksum.
func FuzzLinkBody(f *testing.F) {
	body, err := link.Decode(Prefix, checkDomain, exampleLink(f).String())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body[1:])
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := parseBody(body)
		if err == nil && c.String() != link.Encode(Prefix, checkDomain, append([]byte{linkVersion}, body...)) {
			t.Errorf("%x is not canonical", body)
		}
	})
}
