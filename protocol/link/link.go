// Package link holds what all links of Parley have in common: text that begins
// with parley:// and carries bytes behind a checksum, and the place of a
// rendezvous inside of those bytes. What the bytes mean is for the packages
// that make the links; this one reads and writes text and must not reach out.
package link

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// MaxChars is the most characters that a link has after its prefix: it still
// fits a QR code.
const MaxChars = 1536

var (
	// ErrPrefix is returned for text that does not begin with the prefix.
	ErrPrefix = errors.New("another kind of text")
	// ErrDamaged is returned for a link that was cut or changed.
	ErrDamaged = errors.New("damaged link")
)

const checkLen = 4

var encoding = base64.RawURLEncoding.Strict()

// Encode returns prefix and the base64url of body and its checksum: the first
// 4 bytes of SHA-256(domain ‖ body), which find typing errors and prove nothing.
func Encode(prefix, domain string, body []byte) string {
	return prefix + encoding.EncodeToString(append(bytes.Clone(body), checksum(domain, body)...))
}

// Decode returns the body of a link, or an error that wraps ErrPrefix or
// ErrDamaged. White space around the link is ignored. The caller owns the body.
func Decode(prefix, domain, text string) ([]byte, error) {
	code, ok := strings.CutPrefix(strings.TrimSpace(text), prefix)
	if !ok {
		return nil, ErrPrefix
	}
	if len(code) > MaxChars {
		return nil, fmt.Errorf("%w (%d characters)", ErrDamaged, len(code))
	}
	b, err := encoding.DecodeString(code)
	if err != nil || len(b) < 1+checkLen || strings.ContainsAny(code, "\r\n") { // line breaks are skipped even by Strict
		return nil, ErrDamaged
	}
	body, sum := b[:len(b)-checkLen], b[len(b)-checkLen:]
	if !bytes.Equal(sum, checksum(domain, body)) {
		return nil, ErrDamaged
	}
	return body, nil
}

func checksum(domain string, body []byte) []byte {
	h := sha256.New()
	h.Write([]byte(domain))
	h.Write(body)
	return h.Sum(nil)[:checkLen]
}
