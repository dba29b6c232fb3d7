package vault

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/parley-chat/parley/store"
)

// The wrap file holds the wrap keys in force:
//
//	"parley wrap 1\n"
//	nonce 24 ‖ ciphertext ‖ tag 16
//
// It is sealed under a key derived from the master key; the first line is the
// additional data. The plaintext is one entry (id 2, big-endian ‖ key 32), and
// while a rotation is under way a second one, of the key that is being given up.
const (
	wrapName   = "wrap"
	wrapHead   = "parley wrap 1\n"
	wrapEntry  = 2 + keySize
	maxEntries = 2
)

// wrapKey is a short-lived key of ephemeral rows. Its id is never valuesKey.
type wrapKey struct {
	id     uint16
	key    [keySize]byte
	cipher *xaes
}

// newWrapKey makes a random key. Ids start again after 65535: by then no row is
// under the key that had this one before, for each rotation leaves one key.
func newWrapKey(after uint16) (*wrapKey, error) {
	id := after + 1
	if id == valuesKey {
		id++
	}
	return loadWrapKey(id, newKey())
}

func loadWrapKey(id uint16, key [keySize]byte) (*wrapKey, error) {
	cipher, err := newXAES(&key)
	if err != nil {
		return nil, err
	}
	return &wrapKey{id: id, key: key, cipher: cipher}, nil
}

// Format hides the key from every way of printing.
func (k *wrapKey) Format(f fmt.State, _ rune) { io.WriteString(f, "redacted") }

// ring is the wrap keys in force. It never changes: another takes its place.
type ring struct {
	current *wrapKey // seals what is written
	old     *wrapKey // only opens; nil: no rotation is under way
}

// find returns the key of an id, or nil.
func (r *ring) find(id uint16) *xaes {
	switch {
	case id == r.current.id:
		return r.current.cipher
	case r.old != nil && id == r.old.id:
		return r.old.cipher
	}
	return nil
}

// readRing reads the wrap file, and makes one where there is none: for a new
// store, or one from before wrap keys. A damaged one is store.ErrDamaged: what
// it sealed is lost. The caller holds the store.
func (v *Vault) readRing() (*ring, error) {
	if err := tidy(v.path(wrapName)); err != nil {
		return nil, fmt.Errorf("tidy up wrap file: %w", err)
	}
	b, err := os.ReadFile(v.path(wrapName))
	if errors.Is(err, fs.ErrNotExist) {
		first, err := newWrapKey(valuesKey)
		if err != nil {
			return nil, err
		}
		r := &ring{current: first}
		return r, v.writeRing(r)
	}
	if err != nil {
		return nil, fmt.Errorf("read wrap file: %w", err)
	}
	sealed, ok := bytes.CutPrefix(b, []byte(wrapHead))
	if !ok {
		return nil, fmt.Errorf("%w: not a wrap file of this version", store.ErrDamaged)
	}
	plain, err := v.wraps.open(sealed, []byte(wrapHead))
	if err != nil {
		return nil, fmt.Errorf("%w: the wrap file is of another vault, or was changed", store.ErrDamaged)
	}
	defer clear(plain)
	return parseRing(plain)
}

func parseRing(plain []byte) (*ring, error) {
	if len(plain) == 0 || len(plain)%wrapEntry != 0 || len(plain) > maxEntries*wrapEntry {
		return nil, fmt.Errorf("%w: wrap file with %d bytes of keys", store.ErrDamaged, len(plain))
	}
	var keys [maxEntries]*wrapKey
	for i := range len(plain) / wrapEntry {
		entry := plain[i*wrapEntry:]
		k, err := loadWrapKey(binary.BigEndian.Uint16(entry), [keySize]byte(entry[2:]))
		if err != nil {
			return nil, err
		}
		keys[i] = k
	}
	return &ring{current: keys[0], old: keys[1]}, nil
}

// writeRing makes r what the wrap file holds. After an error nobody knows
// whether it does.
func (v *Vault) writeRing(r *ring) error {
	plain := make([]byte, 0, maxEntries*wrapEntry)
	defer func() { clear(plain[:cap(plain)]) }()
	for _, k := range []*wrapKey{r.current, r.old} {
		if k != nil {
			plain = append(binary.BigEndian.AppendUint16(plain, k.id), k.key[:]...)
		}
	}
	b, err := v.wraps.seal([]byte(wrapHead), plain, []byte(wrapHead))
	if err != nil {
		return fmt.Errorf("seal wrap file: %w", err)
	}
	if err := replace(v.path(wrapName), b); err != nil {
		return fmt.Errorf("write wrap file: %w", err)
	}
	return nil
}
