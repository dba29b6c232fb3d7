package pairing

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/link"
	"github.com/parley-chat/parley/protocol/words"
)

// Prefix begins every code that is a link. What follows is in the URL's
// fragment, which a browser never sends to anyone.
const Prefix = "parley://link#"

const (
	// MaxSlot is the most digits a slot has.
	MaxSlot = 8
	// CodeWords is how many words a short code has: 33 bits, good for one guess.
	CodeWords = 3
	// LinkSecret is the length in bytes of the secret in a link.
	LinkSecret = 16

	maxShort    = 128 // characters of a short code as somebody may type it
	linkVersion = 1
	checkDomain = "parley/1 link"
)

// What is wrong with a text that is no code.
var (
	ErrNotCode     = errors.New("not a code for adding a device: it is like 7421-crane-lunar-bind, or begins with " + Prefix)
	ErrCodeVersion = errors.New("link of a newer Parley: please update")
	ErrDamaged     = errors.New("damaged link: please copy it again, whole")
)

// kind is what the secret of a code looks like.
type kind uint8

const (
	shortCode kind = 1 // three words
	linkCode  kind = 2 // 16 bytes
)

// Code is what the device of the account shows and the new machine enters. It
// is good for one attempt. It is a secret: String and the verbs %s and %q print
// it, every other way of printing hides it.
type Code struct {
	Slot string     // where the two meet at the rendezvous: 1 to MaxSlot digits
	Home link.Place // the rendezvous; in a short code, which does not say, zero

	kind   kind
	secret key.Hidden[[LinkSecret]byte] // of a short code 33 bits, then zeros
}

// NewShort makes a code to read aloud and type, for a slot that the rendezvous
// gave.
func NewShort(slot string) (Code, error) {
	var secret [LinkSecret]byte
	rand.Read(secret[:5]) // crashes the program rather than fail
	secret[4] &= 0x80     // 33 bits
	return newCode(slot, shortCode, secret, link.Place{})
}

// NewLink makes a code to scan or paste, for a slot that the rendezvous at
// home gave. Parse refuses the link of a home over the limits of link.Place.
func NewLink(slot string, home link.Place) (Code, error) {
	var secret [LinkSecret]byte
	rand.Read(secret[:]) // crashes the program rather than fail
	return newCode(slot, linkCode, secret, home)
}

func newCode(slot string, k kind, secret [LinkSecret]byte, home link.Place) (Code, error) {
	if !validSlot(slot) {
		return Code{}, fmt.Errorf("make code: slot %q is not 1 to %d digits", slot, MaxSlot)
	}
	return Code{Slot: slot, Home: home, kind: k, secret: key.Hide(&secret)}, nil
}

func validSlot(slot string) bool {
	return slot != "" && len(slot) <= MaxSlot && strings.Trim(slot, "0123456789") == ""
}

// String returns the text of the code, secret included; of a zero Code, "".
//
// The layout of a link, before base64url:
//
//	1    version 0x01
//	1+s  length of the slot, slot in ASCII
//	16   secret
//	...  home (link.Place)
//	4    checksum
func (c Code) String() string {
	switch c.kind {
	case shortCode:
		return c.Slot + "-" + strings.Join(words.Spell(c.secret()[:], CodeWords), "-")
	case linkCode:
		b := append([]byte{linkVersion, byte(len(c.Slot))}, c.Slot...)
		b = append(b, c.secret()[:]...)
		return link.Encode(Prefix, checkDomain, c.Home.Append(b))
	}
	return ""
}

// password is what both sides of an exchange put into it.
func (c Code) password() []byte {
	return key.Message("pair code", []byte{byte(c.kind)}, c.secret()[:])
}

// Parse reads a code of either form. A short one may be typed carelessly: see
// words.Read, whose errors it returns for words.
func Parse(text string) (Code, error) {
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "parley:") {
		return parseLink(text)
	}
	return parseShort(text)
}

func parseShort(text string) (Code, error) {
	if len(text) > maxShort {
		return Code{}, ErrNotCode
	}
	rest := strings.TrimLeft(text, "0123456789")
	slot := text[:len(text)-len(rest)]
	if !validSlot(slot) {
		return Code{}, ErrNotCode
	}
	b, err := words.Read(rest, CodeWords)
	if err != nil {
		return Code{}, fmt.Errorf("code: %w", err)
	}
	var secret [LinkSecret]byte
	copy(secret[:], b)
	return newCode(slot, shortCode, secret, link.Place{})
}

func parseLink(text string) (Code, error) {
	body, err := link.Decode(Prefix, checkDomain, text)
	if errors.Is(err, link.ErrPrefix) {
		return Code{}, ErrNotCode
	}
	if err != nil {
		return Code{}, ErrDamaged
	}
	if body[0] != linkVersion {
		return Code{}, ErrCodeVersion
	}
	return parseBody(body[1:])
}

func parseBody(b []byte) (Code, error) {
	slot, b, err := link.CutField(b, MaxSlot)
	if err != nil || !validSlot(string(slot)) || len(b) < LinkSecret {
		return Code{}, ErrDamaged
	}
	secret := [LinkSecret]byte(b)
	home, rest, err := link.CutPlace(b[LinkSecret:])
	if err != nil || len(rest) != 0 {
		return Code{}, ErrDamaged
	}
	return newCode(string(slot), linkCode, secret, home)
}

// Format hides the code, but for %s and %q, which print it.
func (c Code) Format(f fmt.State, verb rune) {
	if verb == 's' || verb == 'q' {
		fmt.Fprintf(f, fmt.FormatString(f, verb), c.String())
		return
	}
	io.WriteString(f, "redacted")
}

// LogValue hides the code.
func (c Code) LogValue() slog.Value { return slog.StringValue("redacted") }

// MarshalJSON hides the code.
func (c Code) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }
