package roomlink

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/link"
)

type tester interface {
	Helper()
	Fatal(args ...any)
}

func linkKey(t tester, seed []byte) key.LinkPrivate {
	t.Helper()
	k, err := key.ParseLink(seed)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func forAll() Link {
	return Link{
		Room: protocol.RoomID(keytest.Seed("room", 32)), Founder: protocol.AccountID(keytest.Seed("founder", 32)),
		Home: link.Place{
			Peer:  slices.Concat([]byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}, keytest.Seed("peer", 32)),
			Addrs: []string{"/ip4/198.51.100.7/tcp/4001", "/ip4/198.51.100.7/udp/4001/quic-v1"},
		},
	}
}

func exampleMember(t tester) Link {
	l := forAll()
	l.Key = linkKey(t, keytest.Seed("link key", 32))
	return l
}

func exampleGuest() Link {
	l := forAll()
	l.Password = 7
	return l
}

// same compares two links, with their keys.
func same(a, b Link) bool {
	if !bytes.Equal(a.Key.Bytes(), b.Key.Bytes()) {
		return false
	}
	a.Key, b.Key = key.LinkPrivate{}, key.LinkPrivate{}
	return reflect.DeepEqual(a, b)
}

// vector is a link and what it says. A change of the layout breaks links people
// hold.
type vector struct {
	Comment  string      `json:"comment"`
	Room     keytest.Hex `json:"room"`
	Founder  keytest.Hex `json:"founder"`
	Seed     keytest.Hex `json:"link_key_seed"`
	Password uint32      `json:"password_number"`
	Peer     keytest.Hex `json:"peer"`
	Addrs    []string    `json:"addresses"`
	Link     string      `json:"link"`
}

func TestVectors(t *testing.T) {
	var all []vector
	for comment, l := range map[string]Link{"for members": exampleMember(t), "for guests": exampleGuest()} {
		all = append(all, vector{comment, l.Room[:], l.Founder[:], l.Key.Bytes(), l.Password, l.Home.Peer, l.Home.Addrs, l.String()})
		got, err := Parse("\n  " + l.String() + "\t\n")
		if err != nil || !same(got, l) {
			t.Errorf("%s: %v", comment, err)
		}
	}
	slices.SortFunc(all, func(a, b vector) int { return strings.Compare(a.Comment, b.Comment) })
	keytest.Golden(t, "roomlink.json", all)
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bytes32 := rapid.SliceOfN(rapid.Byte(), 32, 32)
		want := Link{
			Room: protocol.RoomID(bytes32.Draw(t, "room")), Founder: protocol.AccountID(bytes32.Draw(t, "founder")),
			Home: link.Place{
				Peer:  rapid.SliceOfN(rapid.Byte(), 1, link.MaxPeer).Draw(t, "peer"),
				Addrs: rapid.SliceOfN(rapid.StringMatching(`/[!-~]{0,127}`), 1, MaxAddrs).Draw(t, "addrs"),
			},
			Password: rapid.Uint32().Draw(t, "number"),
		}
		if !want.ForGuests() {
			want.Key = linkKey(t, bytes32.Draw(t, "seed"))
		}
		text := want.String()
		got, err := Parse(text)
		if err != nil || !same(got, want) {
			t.Fatalf("%s: %v", text, err)
		}
		if len(text) > len(Prefix)+link.MaxChars {
			t.Fatalf("link has %d characters", len(text))
		}
	})
}

func bodyOf(t tester, l Link) []byte {
	t.Helper()
	b, err := link.Decode(Prefix, checkDomain, l.String())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRefused(t *testing.T) {
	sealed := func(body []byte) string { return link.Encode(Prefix, checkDomain, body) }
	member, guest := bodyOf(t, exampleMember(t)), bodyOf(t, exampleGuest())
	changed := func(body []byte, at int, to byte) string {
		b := bytes.Clone(body)
		b[at] = to
		return sealed(b)
	}
	noPeer := exampleGuest()
	noPeer.Home.Peer = nil
	tooMany := exampleGuest()
	tooMany.Home.Addrs = slices.Repeat([]string{"/a"}, MaxAddrs+1)
	zeroNumber := bytes.Clone(guest)
	clear(zeroNumber[66:70])
	good := exampleGuest().String()

	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":           {"", ErrNotLink},
		"an invite":       {strings.Replace(good, "room", "join", 1), ErrNotLink},
		"no content":      {Prefix, ErrDamaged},
		"cut":             {good[:len(good)-1], ErrDamaged},
		"another domain":  {link.Encode(Prefix, "parley/1 invite", guest), ErrDamaged},
		"newer version":   {changed(guest, 0, 2), ErrVersion},
		"neither kind":    {changed(guest, 65, 0), ErrDamaged},
		"unknown kind":    {changed(guest, 65, 3), ErrDamaged},
		"no number":       {sealed(zeroNumber), ErrDamaged},
		"a half number":   {sealed(guest[:68]), ErrDamaged},
		"a half seed":     {sealed(member[:90]), ErrDamaged},
		"no home":         {sealed(member[:98]), ErrDamaged},
		"no kind":         {sealed(guest[:65]), ErrDamaged},
		"short":           {sealed(guest[:30]), ErrDamaged},
		"bytes after it":  {sealed(append(bytes.Clone(guest), 0)), ErrDamaged},
		"no peer":         {noPeer.String(), ErrDamaged},
		"many addresses":  {tooMany.String(), ErrDamaged},
		"over the length": {Prefix + strings.Repeat("A", link.MaxChars+1), ErrDamaged},
	} {
		if _, err := Parse(c.text); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	largest := exampleMember(t)
	largest.Home = link.Place{Peer: make([]byte, link.MaxPeer), Addrs: slices.Repeat([]string{"/" + strings.Repeat("a", link.MaxAddr-1)}, MaxAddrs)}
	if got, err := Parse(largest.String()); err != nil || !same(got, largest) {
		t.Errorf("the largest link: %v", err)
	}
	if got := (Link{}).String(); got != "" {
		t.Errorf("a link to nowhere: %s", got)
	}
}

// Any single changed character is noticed.
func TestDamage(t *testing.T) {
	text := exampleMember(t).String()
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

func TestLinkIsHidden(t *testing.T) {
	l := exampleMember(t)
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("made", "link", l)
	j, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	secret := fmt.Sprintf("%x", l.Key.Bytes()[:4])
	for _, out := range []string{logged.String(), string(j), fmt.Sprint(l), fmt.Sprintf("%v %+v %#v %x", l, &l, l, l), fmt.Sprintf("%v", []Link{l})} {
		if !strings.Contains(out, "redacted") || strings.Contains(out, secret) || strings.Contains(out, Prefix) {
			t.Errorf("link shown: %s", out)
		}
	}
	if got := fmt.Sprintf("%s %q", l, l); got != l.String()+` "`+l.String()+`"` {
		t.Error(got)
	}
}

// Whatever has a right checksum either is refused or is the one text of its link.
func FuzzParse(f *testing.F) {
	f.Add(bodyOf(f, exampleMember(f)))
	f.Add(bodyOf(f, exampleGuest()))
	f.Fuzz(func(t *testing.T, body []byte) {
		text := link.Encode(Prefix, checkDomain, body)
		if l, err := Parse(text); err == nil && l.String() != text {
			t.Fatal("not canonical")
		}
	})
}
