package guest

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/unicode/norm"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// MaxPassword is the most bytes of UTF-8 that a password has.
const MaxPassword = 1024

// ErrPassword is returned for a text that can be nobody's password.
var ErrPassword = errors.New("a password has 1 to 1024 bytes of text")

// Cost of one guess, for whoever stole what Derive returns.
const (
	derivePasses  = 3
	deriveKiB     = 64 << 10
	deriveThreads = 1
)

// Derive returns what both sides put into the exchange: Argon2id (RFC 9106) of the
// password, which is compared as NFKC, so that it may be typed on any keyboard. It is
// for one room and one number of its password, and costs 64 MiB and, on a phone,
// about a second. The error is ErrPassword. The caller clears the result.
func Derive(password string, in protocol.RoomID, number uint32) (derived [32]byte, err error) {
	if len(password) > MaxPassword || !utf8.ValidString(password) {
		return derived, ErrPassword
	}
	text := norm.NFKC.Bytes([]byte(password))
	defer clear(text)
	if len(text) == 0 {
		return derived, ErrPassword
	}
	salt := key.Hash("guest password", in[:], binary.BigEndian.AppendUint32(nil, number))
	out := argon2.IDKey(text, salt[:], derivePasses, deriveKiB, deriveThreads, uint32(len(derived)))
	defer clear(out)
	return [32]byte(out), nil
}
