// Package invite holds the link by which someone joins a rendezvous: who the
// rendezvous is, where it can be reached and the token that lets a new account
// in. It must not reach out: it reads and writes text, nothing else.
package invite

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/parley-chat/parley/protocol/link"
)

// Limits of what a link can hold. A usual link has some 250 characters, the
// longest 1520, which still fits a QR code.
const (
	MaxAddrs = link.MaxAddrs // addresses of the rendezvous
	MaxAddr  = link.MaxAddr  // bytes of one address as text
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
	expiresMax  = 253402300799 // the last second of the year 9999
	checkDomain = "parley/1 invite"
)

// String returns the link, token included. Parse refuses the link of an
// Invite that is over the limits.
func (i Invite) String() string {
	b := append([]byte{version}, i.Token[:]...)
	var expires uint64
	if !i.Expires.IsZero() {
		expires = uint64(i.Expires.Unix())
	}
	b = binary.BigEndian.AppendUint64(b, expires)
	b = link.Place{Peer: i.Peer, Addrs: i.Addrs}.Append(b)
	return link.Encode(Prefix, checkDomain, b)
}

// Parse reads a link. White space around it is ignored.
func Parse(text string) (Invite, error) {
	body, err := link.Decode(Prefix, checkDomain, text)
	if errors.Is(err, link.ErrPrefix) {
		return Invite{}, ErrNotInvite
	}
	if err != nil {
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
	place, rest, err := link.CutPlace(b[16+8:])
	if err != nil || len(rest) != 0 {
		return Invite{}, ErrDamaged
	}
	i.Peer, i.Addrs = place.Peer, place.Addrs
	return i, nil
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
