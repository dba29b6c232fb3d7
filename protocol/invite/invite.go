// Package invite holds the link by which someone joins a rendezvous: who the
// rendezvous is, where it can be reached and the token that lets a new account
// in. It must not reach out: it reads and writes text, nothing else.
package invite

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"
)

// Limits of what a link can hold. A usual link has some 250 characters, the
// longest 1520, which still fits a QR code.
const (
	MaxAddrs = 8    // addresses of the rendezvous
	MaxAddr  = 128  // bytes of one address as text
	maxPeer  = 64   // bytes of a peer id
	maxLink  = 1536 // characters after Prefix
)

// Prefix begins every link. What follows is in the URL's fragment, which a
// browser never sends to anyone.
const Prefix = "parley://join#"

// What is wrong with a text that is no invite.
var (
	ErrNotInvite = errors.New("not an invite link: it begins with " + Prefix)
	ErrVersion   = errors.New("invite link of a newer Parley: please update")
	ErrDamaged   = errors.New("damaged invite link: please copy it again, whole")
)

// Invite is the content of a link. Its token is a secret: String and the
// verbs %s and %q print it, every other way of printing hides it.
type Invite struct {
	Peer    []byte    // the rendezvous's libp2p peer id, at most 64 bytes
	Addrs   []string  // multiaddrs as text, 1 to MaxAddrs, without /p2p
	Token   [16]byte  // all zero: registration is open
	Expires time.Time // whole seconds, UTC; zero: never
}

// The layout, before base64url:
//
//	 0   1  version 0x01
//	 1  16  token
//	17   8  expires, unix seconds, big-endian; 0: never
//	25   1  p, length of the peer id, 1..64
//	26   p  peer id
//	..   1  number of addresses, 1..8, then each: length 1 byte 1..128, text
//	end  4  first bytes of SHA-256("parley/1 invite" ‖ all before)
const (
	version     = 1
	checkLen    = 4
	expiresMax  = 253402300799 // the last second of the year 9999
	checkDomain = "parley/1 invite"
)

var encoding = base64.RawURLEncoding.Strict()

// String returns the link, token included. Parse refuses the link of an
// Invite that is over the limits.
func (i Invite) String() string {
	b := append([]byte{version}, i.Token[:]...)
	var expires uint64
	if !i.Expires.IsZero() {
		expires = uint64(i.Expires.Unix())
	}
	b = binary.BigEndian.AppendUint64(b, expires)
	b = append(b, byte(len(i.Peer)))
	b = append(b, i.Peer...)
	b = append(b, byte(len(i.Addrs)))
	for _, a := range i.Addrs {
		b = append(b, byte(len(a)))
		b = append(b, a...)
	}
	b = append(b, checksum(b)...)
	return Prefix + encoding.EncodeToString(b)
}

// Parse reads a link. White space around it is ignored.
func Parse(text string) (Invite, error) {
	code, ok := strings.CutPrefix(strings.TrimSpace(text), Prefix)
	if !ok {
		return Invite{}, ErrNotInvite
	}
	if len(code) > maxLink {
		return Invite{}, fmt.Errorf("%w (%d characters)", ErrDamaged, len(code))
	}
	b, err := encoding.DecodeString(code)
	if err != nil || len(b) < 1+checkLen || strings.ContainsAny(code, "\r\n") { // line breaks are skipped even by Strict
		return Invite{}, ErrDamaged
	}
	body, sum := b[:len(b)-checkLen], b[len(b)-checkLen:]
	if !bytes.Equal(sum, checksum(body)) {
		return Invite{}, ErrDamaged
	}
	if body[0] != version {
		return Invite{}, ErrVersion
	}
	return parseBody(body[1:])
}

func parseBody(b []byte) (i Invite, err error) {
	if len(b) < 16+8 {
		return Invite{}, ErrDamaged
	}
	copy(i.Token[:], b)
	expires := binary.BigEndian.Uint64(b[16:])
	if expires > expiresMax {
		return Invite{}, ErrDamaged
	}
	if expires != 0 {
		i.Expires = time.Unix(int64(expires), 0).UTC()
	}
	i.Peer, b, err = cutField(b[16+8:], maxPeer)
	if err != nil {
		return Invite{}, err
	}
	if len(b) == 0 || b[0] == 0 || b[0] > MaxAddrs {
		return Invite{}, ErrDamaged
	}
	n, b := int(b[0]), b[1:]
	for range n {
		var addr []byte
		addr, b, err = cutField(b, MaxAddr)
		if err != nil {
			return Invite{}, err
		}
		if !plainAddr(addr) {
			return Invite{}, ErrDamaged
		}
		i.Addrs = append(i.Addrs, string(addr))
	}
	if len(b) != 0 {
		return Invite{}, ErrDamaged
	}
	return i, nil
}

// cutField takes a length-prefixed field of 1 to limit bytes off b.
func cutField(b []byte, limit int) (field, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, ErrDamaged
	}
	n := int(b[0])
	if n == 0 || n > limit || n > len(b)-1 {
		return nil, nil, ErrDamaged
	}
	return bytes.Clone(b[1 : 1+n]), b[1+n:], nil
}

// plainAddr keeps anything that could disturb a terminal out of addresses;
// whether they are multiaddrs is for the one who dials to find out.
func plainAddr(a []byte) bool {
	for _, c := range a {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return a[0] == '/'
}

func checksum(b []byte) []byte {
	h := sha256.New()
	h.Write([]byte(checkDomain))
	h.Write(b)
	return h.Sum(nil)[:checkLen]
}

// Format hides the token, but for %s and %q, which print the link.
func (i Invite) Format(f fmt.State, verb rune) {
	if verb == 's' || verb == 'q' {
		fmt.Fprintf(f, fmt.FormatString(f, verb), i.String())
		return
	}
	io.WriteString(f, "redacted")
}

// LogValue hides the token.
func (i Invite) LogValue() slog.Value { return slog.StringValue("redacted") }

// MarshalJSON hides the token.
func (i Invite) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }
