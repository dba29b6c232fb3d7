package directory

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// TestNoteFormat: a head is what a stock library for signed notes opens with
// the log's key.
func TestNoteFormat(t *testing.T) {
	h := newHistory(t, entries(3)...)
	v, err := note.NewVerifier(h.signer.Log().Key())
	check(t, err)
	n, err := note.Open(h.head().Bytes(), note.VerifierList(v))
	check(t, err)
	want := fmt.Sprintf("%s\n3\n%s\nts %d\n", h.signer.Log().Origin(), h.root(), start.Unix())
	if n.Text != want || len(n.Sigs) != 1 {
		t.Errorf("the note says %q, want %q", n.Text, want)
	}
}

func TestOpenHead(t *testing.T) {
	h := newHistory(t, entries(3)...)
	head := h.headAt(start.Add(999 * time.Millisecond))
	got, err := h.signer.Log().Open(head.Bytes())
	check(t, err)
	if got != head || got.Size != 3 || got.Root != h.root() || !got.Time.Equal(start) {
		t.Errorf("opened %+v, want %+v", got, head)
	}
}

// TestOpenDropsOtherSignatures: what others signed below is no part of a head,
// so that a head has one encoding.
func TestOpenDropsOtherSignatures(t *testing.T) {
	h := newHistory(t, entries(3)...)
	head := h.head()
	more := string(head.Bytes()) + "— witness.example/w AAAAAAAAAAAAAAAA\n"
	got, err := h.signer.Log().Open([]byte(more))
	check(t, err)
	if got != head {
		t.Errorf("opened %q", got.Bytes())
	}
}

// forgedHead signs any text as the host of h would.
func forgedHead(t testing.TB, h *history, text string) []byte {
	t.Helper()
	b, err := note.Sign(&note.Note{Text: text}, noteSigner(h.signer))
	check(t, err)
	return b
}

// TestOpenRefuses: whoever signed it, only the one form of a head is one.
func TestOpenRefuses(t *testing.T) {
	h := newHistory(t, entries(3)...)
	log, root := h.signer.Log(), h.root().String()
	text := func(lines ...string) string { return strings.Join(lines, "\n") + "\n" }
	for name, bad := range map[string]string{
		"another origin":      text("parley/other", "3", root, "ts 1772366400"),
		"no time":             text(log.Origin(), "3", root),
		"another extension":   text(log.Origin(), "3", root, "ts 1772366400", "more 1"),
		"size with a zero":    text(log.Origin(), "03", root, "ts 1772366400"),
		"size with a sign":    text(log.Origin(), "+3", root, "ts 1772366400"),
		"negative size":       text(log.Origin(), "-3", root, "ts 1772366400"),
		"huge size":           text(log.Origin(), "9223372036854775807", root, "ts 1772366400"),
		"size over the limit": text(log.Origin(), fmt.Sprint(MaxSize+1), root, "ts 1772366400"),
		"short root":          text(log.Origin(), "3", "AAAA", "ts 1772366400"),
		"root not canonical":  text(log.Origin(), "3", strings.Repeat("A", 42)+"B=", "ts 1772366400"),
		"time with a zero":    text(log.Origin(), "3", root, "ts 01772366400"),
		"time before 1970":    text(log.Origin(), "3", root, "ts -1"),
		"time after 9999":     text(log.Origin(), "3", root, "ts 253402300800"),
		"time without ts":     text(log.Origin(), "3", root, "1772366400"),
		"empty with a root":   text(log.Origin(), "0", root, "ts 1772366400"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := log.Open(forgedHead(t, h, bad))
			wants(t, err, ErrMalformed)
		})
	}
	for name, bad := range map[string]string{
		"nothing": "", "no note": "hello", "no signature": text(log.Origin(), "3", root, "ts 1772366400") + "\n",
		"too long": string(h.head().Bytes()) + strings.Repeat("— witness.example/w AAAAAAAAAAAAAAAA\n", 100),
	} {
		_, err := log.Open([]byte(bad))
		if !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpenForged: heads of other keys, other rendezvous and other bytes.
func TestOpenForged(t *testing.T) {
	h := newHistory(t, entries(3)...)
	log, good := h.signer.Log(), h.head()
	stranger, err := NewSigner(key.NewHost())
	check(t, err)
	theirs, err := stranger.Head(3, h.root(), start)
	check(t, err)
	_, err = log.Open(theirs.Bytes())
	wants(t, err, ErrBadSignature)
	_, err = Log{}.Open(good.Bytes())
	wants(t, err, ErrBadSignature)

	impostor := stranger // signs under our name, with its key
	impostor.log = log
	fake, err := impostor.Head(3, h.root(), start)
	check(t, err)
	_, err = log.Open(fake.Bytes())
	wants(t, err, ErrBadSignature)

	for i := range 8 * len(good.Bytes()) {
		b := good.Bytes()
		b[i/8] ^= 1 << (i % 8)
		if _, err := log.Open(b); err == nil {
			t.Errorf("a head with bit %d changed was opened", i)
		}
	}
}

// TestHeadIsNoOtherSignature: what a host signs for libp2p never begins as what
// it signs for a head, so that no signature stands for another.
func TestHeadIsNoOtherSignature(t *testing.T) {
	text := newHistory(t).head().text(newHistory(t).signer.Log().Origin())
	if !strings.HasPrefix(text, "parley/12D3KooW") {
		t.Fatalf("a head begins with %q", text[:20])
	}
	for _, other := range []string{"libp2p-tls-handshake:", "noise-libp2p-static-key:", "libp2p-pubsub:", "\x12libp2p-peer-record", "\x11libp2p-relay-rsvp", string(key.Message("key event"))} {
		if n := min(len(other), len(text)); other[:n] == text[:n] {
			t.Errorf("a head begins with %q", other)
		}
	}
}

func TestSignerRefuses(t *testing.T) {
	h := newHistory(t)
	for name, try := range map[string]func() error{
		"zero signer": func() error { _, err := Signer{}.Head(0, emptyRoot, start); return err },
		"zero host":   func() error { _, err := NewSigner(key.HostPrivate{}); return err },
		"too large":   func() error { _, err := h.signer.Head(MaxSize+1, tlog.Hash{}, start); return err },
		"no time":     func() error { _, err := h.signer.Head(0, emptyRoot, time.Time{}); return err },
		"RSA peer":    func() error { _, err := NewLog([]byte{0x12, 0x20, 1}); return err },
		"weak peer": func() error {
			_, err := NewLog(append([]byte{0, 0x24, 8, 1, 0x12, 0x20}, make([]byte, 32)...))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { wants(t, try(), key.ErrInvalid) })
	}
	if s := fmt.Sprintf("%v %+v %#v", h.signer, h.signer, h.signer); strings.ContainsAny(s, "0123456789") {
		t.Errorf("a signer prints as %s", s)
	}
}

// TestOrigin: the peer id reads as libp2p writes it.
func TestOrigin(t *testing.T) {
	for peer, want := range map[string]string{
		// the Ed25519 test key of the libp2p peer-ids specification, as go-libp2p writes it
		"002408011220" + "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e": "parley/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq",
	} {
		var id keytest.Hex
		check(t, id.UnmarshalText([]byte(peer)))
		log, err := NewLog(id)
		check(t, err)
		if log.Origin() != want {
			t.Errorf("origin %s, want %s", log.Origin(), want)
		}
		again, err := parseKey(log.Key())
		check(t, err)
		if again.Origin() != want || again.Host() != log.Host() {
			t.Errorf("the key %s is of %s", log.Key(), again.Origin())
		}
	}
}

func TestParseKey(t *testing.T) {
	good := newHistory(t).signer.Log().Key()
	for _, bad := range []string{"", "+", good + "A", good[1:], strings.Replace(good, "+", "+0", 1), strings.ToUpper(good), "x+00000000+AQ=="} {
		if _, err := parseKey(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
