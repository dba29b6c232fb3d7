// Package roomlink holds the link into a room: which room it is, whose, at which
// rendezvous, and by what the reader comes in. It must not reach out: it reads and
// writes text, nothing else.
//
// The room's id is the hash of the first entry of its log, so whoever has the link
// cannot be led into another room (SPEC "Room link").
package roomlink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/link"
)

// Prefix begins every link. What follows is in the URL's fragment, which a
// browser never sends to anyone.
const Prefix = "parley://room#"

// What is wrong with a text that is no link into a room.
var (
	ErrNotLink = errors.New("not a link into a room: it begins with " + Prefix)
	ErrVersion = errors.New("link of a newer Parley: please update")
	ErrDamaged = errors.New("damaged link: please copy it again, whole")
)

// Link is the content of a link. Exactly one of Key and Password is set. It is a
// secret: String and the verbs %s and %q print it, every other way of printing
// hides it.
type Link struct {
	Room    protocol.RoomID
	Founder protocol.AccountID // who wrote the first entry of the log
	Home    link.Place         // the rendezvous of the room

	Key      key.LinkPrivate // an account that has it joins as a member
	Password uint32          // of a link for guests: number of the room's password when it was made; the password itself travels apart
}

// MaxAddrs is the most addresses of the rendezvous in a link: with more, it would
// not always fit link.MaxChars.
const MaxAddrs = 7

const (
	version     = 1
	checkDomain = "parley/1 room"

	forMembers = 1
	forGuests  = 2

	seedSize   = 32
	numberSize = 4
)

// ForGuests tells that the link is for guests, who are asked for the password.
func (l Link) ForGuests() bool { return l.Password != 0 }

// String returns the text of the link; of a zero Link, "". Parse refuses the link
// of a home over MaxAddrs or the limits of link.Place. The layout, before base64url:
//
//	1    version 0x01
//	32   room id
//	32   account id of the founder
//	1    0x01: seed of the link's key, 32; 0x02: number of the password, 4, big-endian
//	...  home (link.Place)
//	4    checksum
func (l Link) String() string {
	b := append([]byte{version}, l.Room[:]...)
	b = append(b, l.Founder[:]...)
	seed := l.Key.Bytes()
	defer clear(seed)
	switch {
	case l.ForGuests():
		b = binary.BigEndian.AppendUint32(append(b, forGuests), l.Password)
	case seed != nil:
		b = append(append(b, forMembers), seed...)
	default:
		return ""
	}
	return link.Encode(Prefix, checkDomain, l.Home.Append(b))
}

// Parse reads a link. White space around it is ignored.
func Parse(text string) (Link, error) {
	body, err := link.Decode(Prefix, checkDomain, text)
	if errors.Is(err, link.ErrPrefix) {
		return Link{}, ErrNotLink
	}
	if err != nil {
		return Link{}, ErrDamaged
	}
	if body[0] != version {
		return Link{}, ErrVersion
	}
	return parseBody(body[1:])
}

func parseBody(b []byte) (l Link, err error) {
	if len(b) < len(l.Room)+len(l.Founder)+1 {
		return Link{}, ErrDamaged
	}
	b = b[copy(l.Room[:], b):]
	b = b[copy(l.Founder[:], b):]
	if b, err = l.cutKind(b[0], b[1:]); err != nil {
		return Link{}, err
	}
	home, rest, err := link.CutPlace(b)
	if err != nil || len(rest) != 0 || len(home.Addrs) > MaxAddrs {
		return Link{}, ErrDamaged
	}
	l.Home = home
	return l, nil
}

// cutKind reads by what the reader comes in, and returns what follows it.
func (l *Link) cutKind(kind byte, b []byte) (rest []byte, err error) {
	switch {
	case kind == forMembers && len(b) >= seedSize:
		if l.Key, err = key.ParseLink(b[:seedSize]); err != nil {
			return nil, ErrDamaged
		}
		return b[seedSize:], nil
	case kind == forGuests && len(b) >= numberSize:
		if l.Password = binary.BigEndian.Uint32(b); l.Password == 0 {
			return nil, ErrDamaged
		}
		return b[numberSize:], nil
	}
	return nil, ErrDamaged
}

// Format hides the link, but for %s and %q, which print it.
func (l Link) Format(f fmt.State, verb rune) {
	if verb == 's' || verb == 'q' {
		fmt.Fprintf(f, fmt.FormatString(f, verb), l.String())
		return
	}
	io.WriteString(f, "redacted")
}

// LogValue hides the link.
func (l Link) LogValue() slog.Value { return slog.StringValue("redacted") }

// MarshalJSON hides the link.
func (l Link) MarshalJSON() ([]byte, error) { return []byte(`"redacted"`), nil }
