// Package compare lets two people find out, by seven pictures, whether
// somebody sits between them. Each screen shows the same seven if and only if
// both devices know each other's accounts; whoever sits in between gets one try
// with a chance of 1 to 2^42.
//
// The one who begins commits to a nonce before the other chooses his, and shows
// it after: so neither can look for a nonce that makes the pictures fit. The
// three steps travel as messages (SPEC "Comparing"); this package makes and
// checks what is in them, and must not decide whether people said yes.
package compare

import (
	"crypto/rand"
	"crypto/subtle"
	"errors"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// Sizes of what travels, in bytes.
const (
	IDSize         = 16
	NonceSize      = 32
	CommitmentSize = 32
)

// Count is how many pictures a person compares.
const Count = 7

// Names of one comparison, its random parts, and what binds them.
type (
	ID         [IDSize]byte
	Nonce      [NonceSize]byte
	Commitment [CommitmentSize]byte
)

// ErrSize is returned for bytes of the wrong length.
var ErrSize = errors.New("malformed step of a comparison")

// FromBytes reads one of them from a message; it refuses any other length.
func FromBytes[T ID | Nonce | Commitment](b []byte) (v T, err error) {
	if len(b) != len(v) {
		return v, ErrSize
	}
	switch p := any(&v).(type) {
	case *ID:
		copy(p[:], b)
	case *Nonce:
		copy(p[:], b)
	case *Commitment:
		copy(p[:], b)
	}
	return v, nil
}

// Begin starts a comparison: its name, the nonce to keep until the other has
// sent his, and the commitment to send at once.
func Begin() (id ID, nonce Nonce, c Commitment) {
	rand.Read(id[:]) // crashes the program rather than fail
	nonce = NewNonce()
	return id, nonce, commit(id, nonce)
}

// NewNonce is what the other device sends when it got a commitment.
func NewNonce() (n Nonce) {
	rand.Read(n[:]) // crashes the program rather than fail
	return n
}

func commit(id ID, n Nonce) Commitment {
	return key.Hash("compare commitment", id[:], n[:])
}

// Opens tells that n is the nonce that the one who began committed to. If not,
// the comparison failed: the other cheats, or somebody in between.
func (c Commitment) Opens(id ID, n Nonce) bool {
	want := commit(id, n)
	return subtle.ConstantTimeCompare(c[:], want[:]) == 1
}

// Side is one device in a comparison, as the other knows it, or as it knows
// itself.
type Side struct {
	Account protocol.AccountID
	Device  protocol.DeviceID
	Nonce   Nonce
}

// Emoji returns the pictures that both screens show. Roles matter: began is the
// side that sent the commitment. To be called only after Opens.
func Emoji(id ID, began, other Side) (pictures [Count]Picture) {
	sum := key.Hash("compare", id[:],
		began.Account[:], began.Device[:], began.Nonce[:],
		other.Account[:], other.Device[:], other.Nonce[:])
	var bits uint64 // the first 48 of the hash, of which 42 are used
	for _, b := range sum[:6] {
		bits = bits<<8 | uint64(b)
	}
	for i := range pictures {
		pictures[i] = table[bits>>(42-6*i)&63]
	}
	return pictures
}
