package engine

import (
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"unicode/utf8"

	"golang.org/x/text/secure/precis"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// ValidName tells whether name can be a unique name: ErrBadName if not.
func ValidName(name string) error {
	if len(name) < 3 || len(name) > protocol.MaxName {
		return ErrBadName
	}
	for _, c := range []byte(name) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '_' {
			return ErrBadName
		}
	}
	return nil
}

// CleanDisplay returns a display name in the form in which it is kept: the
// Nickname profile of PRECIS (RFC 8266), at most protocol.MaxDisplay bytes. The
// empty name is allowed.
func CleanDisplay(s string) (string, error) {
	if s == "" {
		return "", nil
	}
	if len(s) > 4*protocol.MaxDisplay || !utf8.ValidString(s) {
		return "", fmt.Errorf("display name: %w", ErrTooLong)
	}
	clean, err := precis.Nickname.String(s)
	if err != nil {
		return "", fmt.Errorf("display name: %w", err)
	}
	if len(clean) > protocol.MaxDisplay {
		return "", fmt.Errorf("display name: %w", ErrTooLong)
	}
	return clean, nil
}

// cleanFrom is CleanDisplay for what a peer chose: a bad name is no name.
func cleanFrom(display string) string {
	clean, err := CleanDisplay(display)
	if err != nil {
		return ""
	}
	return clean
}

// keyName is where the account of a name is found. The key does not tell the
// name to whoever reads the files.
func (e *Engine) keyName(name string) []byte {
	mac := hmac.New(sha256.New, e.id.nameKey[:])
	mac.Write([]byte(name))
	return store.Key(tableName, mac.Sum(nil)[:16])
}
