// Package key holds one Go type per kind of key of an account or a device.
//
// A key signs, agrees or unwraps only for the purpose its type and its labels
// name; there is no conversion between kinds. Private keys cannot be compared
// with ==, print as "redacted" and come only from crypto/rand: there is no
// fallback and no custom reader. The zero value of every type is unusable: it
// gives errors, never a panic and never a weak result.
//
// The package must not do I/O, keep state, or import crypto/x509: every
// encoding here is fixed in length and canonical.
package key

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

var (
	// ErrInvalid is returned for bytes that are not a key of the wanted kind,
	// and for the use of a zero key.
	ErrInvalid = errors.New("invalid key")
	// ErrSignature is returned when a signature does not verify for this key,
	// this purpose and these bytes.
	ErrSignature = errors.New("bad signature")
)

// prefix begins every label, so that nothing signed or derived here means
// anything in another protocol.
const prefix = "parley/1 "

// Label returns the full label of a purpose: "parley/1 " and the word.
func Label(word string) string { return prefix + word }

// AppendLP appends x to b, preceded by its length (uint32, big-endian).
func AppendLP(b, x []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(x)))
	return append(b, x...)
}

// Message is the unambiguous encoding of parts for one purpose:
// lp(Label(word)) followed by lp of each part. It is what gets signed or hashed.
func Message(word string, parts ...[]byte) []byte {
	size := 4 + len(prefix) + len(word)
	for _, p := range parts {
		size += 4 + len(p)
	}
	b := AppendLP(make([]byte, 0, size), []byte(Label(word)))
	for _, p := range parts {
		b = AppendLP(b, p)
	}
	return b
}

// Hash is SHA-256 of Message(word, parts...).
func Hash(word string, parts ...[]byte) [32]byte {
	return sha256.Sum256(Message(word, parts...))
}

// Redacted is embedded in every type that holds a secret. It makes the type
// print, log and marshal as "redacted" and makes == a compile error.
type Redacted struct {
	_ [0]func()
}

const redacted = "redacted"

func (Redacted) String() string               { return redacted }
func (Redacted) GoString() string             { return redacted }
func (Redacted) Format(f fmt.State, _ rune)   { io.WriteString(f, redacted) }
func (Redacted) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Redacted) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Hidden holds a secret inside a type. fmt does not call our Format on an
// unexported field of somebody else's struct, but prints what it can reach,
// through pointers too; it cannot look into a function. Nil if never set.
type Hidden[T any] func() *T

// Hide makes v reachable through the result only.
func Hide[T any](v *T) Hidden[T] { return func() *T { return v } }
