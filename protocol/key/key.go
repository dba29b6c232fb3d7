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
