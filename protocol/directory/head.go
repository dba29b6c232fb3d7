package directory

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol/key"
)

// MaxHead bounds a signed head, in bytes.
const MaxHead = 4096

// Head is what a log signs: its size, the root of its tree, and the time. It is
// a signed note (c2sp.org/signed-note) that holds a checkpoint
// (c2sp.org/tlog-checkpoint) with one extension line, "ts" and the seconds
// since 1970. The zero Head is of a log without entries that nobody has signed.
type Head struct {
	Size uint64
	Root tlog.Hash
	Time time.Time // whole seconds, UTC
	note string
}

// Bytes returns the signed note, with the log's own signature only.
func (h Head) Bytes() []byte { return []byte(h.note) }

// IsZero tells that this is no signed head.
func (h Head) IsZero() bool { return h.note == "" }

func (h Head) text(origin string) string {
	return fmt.Sprintf("%s\n%d\n%s\nts %d\n", origin, h.Size, h.Root, h.Time.Unix())
}

// Signer signs the heads of one log.
type Signer struct {
	key.Redacted
	log  Log
	seed key.Hidden[[ed25519.SeedSize]byte]
}

// NewSigner returns the signer of the rendezvous whose libp2p identity is host.
// An error wraps key.ErrInvalid.
func NewSigner(host key.HostPrivate) (Signer, error) {
	log, err := NewLog(host.Public().PeerID())
	if err != nil {
		return Signer{}, err
	}
	b := host.Seed()
	defer clear(b)
	seed := [ed25519.SeedSize]byte(b)
	return Signer{log: log, seed: key.Hide(&seed)}, nil
}

// Log is the log that s signs for.
func (s Signer) Log() Log { return s.log }

// Head signs the head of the tree with that size and root. It fails for a size
// over MaxSize and for a time that has no encoding.
func (s Signer) Head(size uint64, root tlog.Hash, now time.Time) (Head, error) {
	if s.seed == nil || size > MaxSize || !key.ValidTime(now) {
		return Head{}, fmt.Errorf("sign a log of %d entries at %v: %w", size, now, key.ErrInvalid)
	}
	h := Head{Size: size, Root: root, Time: key.Seconds(now)}
	signed, err := note.Sign(&note.Note{Text: h.text(s.log.origin)}, noteSigner(s))
	if err != nil {
		return Head{}, fmt.Errorf("sign head of the log: %w", err)
	}
	h.note = string(signed)
	return h, nil
}

// noteSigner makes a Signer sign notes; only Head hands it a text.
type noteSigner Signer

func (s noteSigner) Name() string    { return s.log.origin }
func (s noteSigner) KeyHash() uint32 { return s.log.verifier.KeyHash() }
func (s noteSigner) Sign(text []byte) ([]byte, error) {
	return ed25519.Sign(ed25519.NewKeyFromSeed(s.seed()[:]), text), nil
}

// Open reads a head that the log signed. Signatures of others are dropped. The
// error wraps ErrMalformed or ErrBadSignature.
func (l Log) Open(b []byte) (Head, error) {
	if l.verifier == nil {
		return Head{}, ErrBadSignature
	}
	if len(b) > MaxHead {
		return Head{}, fmt.Errorf("%w head of %d bytes", ErrMalformed, len(b))
	}
	n, err := note.Open(b, note.VerifierList(l.verifier))
	_, unsigned := errors.AsType[*note.UnverifiedNoteError](err)
	_, wrong := errors.AsType[*note.InvalidSignatureError](err)
	if unsigned || wrong {
		return Head{}, fmt.Errorf("head of the log %s: %w", l.origin, ErrBadSignature)
	}
	if err != nil {
		return Head{}, fmt.Errorf("%w head: %w", ErrMalformed, err)
	}
	h, err := l.parse(n.Text)
	if err != nil {
		return Head{}, err
	}
	// The library lets one signature be written in several ways.
	if _, err := base64.StdEncoding.Strict().DecodeString(n.Sigs[0].Base64); err != nil {
		return Head{}, fmt.Errorf("%w head: signature: %w", ErrMalformed, err)
	}
	own, err := note.Sign(&note.Note{Text: n.Text, Sigs: n.Sigs})
	if err != nil {
		return Head{}, fmt.Errorf("%w head: %w", ErrMalformed, err)
	}
	h.note = string(own)
	return h, nil
}

// parse reads the text that Head made for this log.
func (l Log) parse(text string) (Head, error) {
	malformed := fmt.Errorf("%w head", ErrMalformed)
	lines := strings.Split(text, "\n")
	if len(lines) != 5 {
		return Head{}, malformed
	}
	size, err1 := strconv.ParseUint(lines[1], 10, 64)
	root, err2 := tlog.ParseHash(lines[2])
	seconds, err3 := strconv.ParseInt(strings.TrimPrefix(lines[3], "ts "), 10, 64)
	h := Head{Size: size, Root: root, Time: time.Unix(seconds, 0).UTC()}
	switch {
	case errors.Join(err1, err2, err3) != nil, size > MaxSize, !key.ValidTime(h.Time):
		return Head{}, malformed
	case h.text(l.origin) != text: // another log, or another text for the same numbers
		return Head{}, malformed
	case size == 0 && root != emptyRoot:
		return Head{}, malformed
	}
	return h, nil
}

// emptyRoot is the root of a log without entries.
var emptyRoot, _ = tlog.TreeHash(0, nil)
