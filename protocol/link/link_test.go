package link

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const (
	prefix = "parley://test#"
	domain = "parley/1 test"
)

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOfN(rapid.Byte(), 1, 1024).Draw(t, "body")
		got, err := Decode(prefix, domain, " \n"+Encode(prefix, domain, body)+"\t")
		if err != nil || !bytes.Equal(got, body) {
			t.Fatalf("%x: %v", got, err)
		}
	})
}

func TestDecodeRefuses(t *testing.T) {
	good := Encode(prefix, domain, []byte("content"))
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":         {"", ErrPrefix},
		"other prefix":  {strings.Replace(good, "test", "join", 1), ErrPrefix},
		"no content":    {prefix, ErrDamaged},
		"no body":       {Encode(prefix, domain, nil), ErrDamaged},
		"other domain":  {Encode(prefix, "parley/1 other", []byte("content")), ErrDamaged},
		"cut":           {good[:len(good)-1], ErrDamaged},
		"broken line":   {good[:20] + "\n" + good[20:], ErrDamaged},
		"not base64":    {prefix + "!!!!!!!!", ErrDamaged},
		"over the size": {prefix + strings.Repeat("A", MaxChars+1), ErrDamaged},
	} {
		if _, err := Decode(prefix, domain, c.text); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestPlaceRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Place{
			Peer:  rapid.SliceOfN(rapid.Byte(), 1, MaxPeer).Draw(t, "peer"),
			Addrs: rapid.SliceOfN(rapid.StringMatching(`/[!-~]{0,127}`), 1, MaxAddrs).Draw(t, "addrs"),
		}
		rest := rapid.SliceOf(rapid.Byte()).Draw(t, "rest")
		got, left, err := CutPlace(append(want.Append(nil), rest...))
		if err != nil || !reflect.DeepEqual(got, want) || !bytes.Equal(left, rest) {
			t.Fatalf("%+v %x: %v", got, left, err)
		}
	})
}

func FuzzCutPlace(f *testing.F) {
	f.Add(Place{Peer: []byte{1, 2}, Addrs: []string{"/ip4/198.51.100.7/tcp/1"}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, rest, err := CutPlace(b)
		if err == nil && !bytes.Equal(append(p.Append(nil), rest...), b) {
			t.Fatal("not canonical")
		}
	})
}
