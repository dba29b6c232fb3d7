package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"
)

// SigningKeys are the keys that a rendezvous signs access tokens with.
//
// Rules: an id names one key for ever. A key goes from published to signing to
// retiring to gone; it may be gone at any time, and go back from retiring to
// signing when a rotation is taken back. What is gone never comes back, and its
// seed is deleted in the same transaction. At most one key signs, and once one
// does, there always is one. Changes are numbered 1, 2, 3 ... without gaps, and
// each is written together with what it changes.
type SigningKeys interface {
	// SigningKeys returns the keys that are not gone, the oldest first, and the
	// number of the last change; 0: there was none.
	SigningKeys(ctx context.Context) (keys []SigningKey, number uint64, err error)

	// ChangeSigningKeys adds the keys that are new and sets the state and times
	// of the others, as the change after number after; the journal says why.
	// ErrOvertaken if that is not the last one. Refusals: KeyConflict (the id is bound to another
	// key, or the key is gone), BadRequest (against the rules).
	ChangeSigningKeys(ctx context.Context, after uint64, keys []SigningKey, why KeyCause, now time.Time) error

	// KeyChanges returns the changes with Number > after, in order, at most max.
	KeyChanges(ctx context.Context, after uint64, max int) ([]KeyChange, error)
}

// ErrOvertaken means that another change was first: read again, and decide again.
var ErrOvertaken = errors.New("another change was first")

// SigningKey is one key.
type SigningKey struct {
	ID        string // at most 64 bytes
	Public    []byte // 32 bytes
	Seed      Seed   // zero once the key is gone
	State     KeyState
	Published time.Time // when the key was made
	Signing   time.Time // when it last began to sign; zero: never
	Retiring  time.Time // when it last ceased to; zero: never
}

// KeyCause is why signing keys change.
type KeyCause uint8

const (
	KeyDue       KeyCause = iota // its time has come
	KeyAsked                     // the operator asked for a rotation
	KeyRevoked                   // the operator revoked a key
	KeyTakenBack                 // a rotation failed its self-test
)

// Seed is the private half of a signing key. It shows itself to nobody.
type Seed [32]byte

const redacted = "redacted"

func (Seed) String() string               { return redacted }
func (Seed) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (Seed) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Seed) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// KeyState is where a signing key is in its life. Append-only.
type KeyState uint8

const (
	KeyPublished KeyState = 1 // in the key set, so that verifiers know it when it begins to sign
	KeySigning   KeyState = 2 // the one that signs
	KeyRetiring  KeyState = 3 // in the key set while its last tokens live
	KeyGone      KeyState = 4
)

var keyStates = map[KeyState]string{KeyPublished: "published", KeySigning: "signing", KeyRetiring: "retiring", KeyGone: "gone"}

func (s KeyState) String() string {
	if name, ok := keyStates[s]; ok {
		return name
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// MayBecome tells whether a key in state s may go on to next.
func (s KeyState) MayBecome(next KeyState) bool {
	switch next {
	case KeySigning:
		return s == KeyPublished || s == KeyRetiring
	case KeyRetiring:
		return s == KeySigning
	case KeyGone:
		return s != KeyGone
	}
	return false
}

// KeyChange is one change of the signing keys.
type KeyChange struct {
	Number uint64
	At     time.Time
	Steps  []KeyStep // in the order they were asked for
}

// KeyStep is the state that a change put a key into.
type KeyStep struct {
	ID    string
	State KeyState
}
