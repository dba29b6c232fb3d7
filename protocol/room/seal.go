package room

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

const (
	labelKeyID = "roomkey id"
	labelSeal  = "roomkey seal"

	stateKeySize = 32
	gcmOverhead  = 12 + 16 // nonce and tag
	sealedBlock  = 64      // texts are padded to a multiple of it, in bytes
)

// ErrSealed is returned for what does not open: another key, or changed.
var ErrSealed = errors.New("sealed with another key, or damaged")

// KeyID names a StateKey. It commits to it: no two keys have one name.
type KeyID [32]byte

// StateKey seals what the log holds for readers only. Members give it to each other
// through their sessions. The zero value is unusable.
type StateKey struct {
	key.Redacted
	secret key.Hidden[[stateKeySize]byte]
}

// NewStateKey makes a key from crypto/rand.
func NewStateKey() StateKey {
	var b [stateKeySize]byte
	rand.Read(b[:]) // crashes the program rather than fail
	return StateKey{secret: key.Hide(&b)}
}

// ParseStateKey reads the 32 bytes that Bytes returned. Who got them from somebody
// compares ID with what the log names.
func ParseStateKey(b []byte) (StateKey, error) {
	if len(b) != stateKeySize {
		return StateKey{}, fmt.Errorf("%w: state key of %d bytes", key.ErrInvalid, len(b))
	}
	secret := [stateKeySize]byte(b)
	return StateKey{secret: key.Hide(&secret)}, nil
}

// Bytes returns the key; nil for a zero key. The caller owns it.
func (k StateKey) Bytes() []byte {
	if k.secret == nil {
		return nil
	}
	return bytes.Clone(k.secret()[:])
}

// ID names the key; of a zero key, the zero name.
func (k StateKey) ID() KeyID {
	if k.secret == nil {
		return KeyID{}
	}
	return key.Hash(labelKeyID, k.secret()[:])
}

// Sealed is a text that only holders of a key read. The zero value is no text.
type Sealed struct {
	Key KeyID
	Box string // AES-256-GCM: nonce 12 ‖ ciphertext ‖ tag 16
}

// IsZero tells that there is no text.
func (s Sealed) IsZero() bool { return s == Sealed{} }

func (s Sealed) append(b []byte) []byte {
	if s.IsZero() {
		return key.AppendLP(b, nil)
	}
	return key.AppendLP(b, append(bytes.Clone(s.Key[:]), s.Box...))
}

func takeSealed(r *key.Reader) (s Sealed, err error) {
	b := r.LP()
	if len(b) == 0 {
		return Sealed{}, nil
	}
	if len(b) < len(s.Key)+gcmOverhead || len(b) > len(s.Key)+gcmOverhead+MaxSealed {
		return Sealed{}, fmt.Errorf("sealed text of %d bytes", len(b))
	}
	s.Box = string(b[copy(s.Key[:], b):])
	return s, nil
}

// seal seals a text for one kind of entry of one room.
func (k StateKey) seal(room protocol.RoomID, kind Kind, text []byte) (Sealed, error) {
	padded := append(bytes.Clone(text), 0x80)
	padded = append(padded, make([]byte, -len(padded)&(sealedBlock-1))...)
	if k.secret == nil || len(padded) > MaxSealed {
		return Sealed{}, fmt.Errorf("seal %d bytes for a room's log: %w", len(text), key.ErrInvalid)
	}
	return Sealed{k.ID(), string(k.aead().Seal(nil, nil, padded, sealedFor(room, kind)))}, nil
}

func (k StateKey) open(room protocol.RoomID, kind Kind, s Sealed) ([]byte, error) {
	if k.secret == nil || k.ID() != s.Key {
		return nil, ErrSealed
	}
	padded, err := k.aead().Open(nil, nil, []byte(s.Box), sealedFor(room, kind))
	if err != nil {
		return nil, ErrSealed
	}
	text, ok := bytes.CutSuffix(bytes.TrimRight(padded, "\x00"), []byte{0x80})
	if !ok || len(padded)-len(text) > sealedBlock || len(padded)%sealedBlock != 0 {
		return nil, ErrSealed
	}
	return text, nil
}

// aead draws a random nonce for each text: one key seals many.
func (k StateKey) aead() cipher.AEAD {
	secret := key.Hash(labelSeal, k.secret()[:])
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		panic(err) // 32 bytes are always an AES key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // block is always AES
	}
	return aead
}

func sealedFor(room protocol.RoomID, kind Kind) []byte {
	return key.Message("roomseal", room[:], []byte{byte(kind)})
}

// About is what a room is called and about.
type About struct {
	Name  string // 1 to protocol.MaxDisplay bytes of UTF-8
	Topic string // at most MaxTopic bytes of UTF-8; may be empty
}

// SealAbout seals what Describe sets.
func (k StateKey) SealAbout(room protocol.RoomID, a About) (Sealed, error) {
	if !a.valid() {
		return Sealed{}, fmt.Errorf("%w: name or topic of a room", ErrMalformed)
	}
	return k.seal(room, KindDescribe, key.AppendLP(key.AppendLP(nil, []byte(a.Name)), []byte(a.Topic)))
}

// OpenAbout reads what SealAbout sealed. Topic may hold line breaks and whatever
// else a member wrote: it is shown like a message.
func (k StateKey) OpenAbout(room protocol.RoomID, s Sealed) (About, error) {
	text, err := k.open(room, KindDescribe, s)
	if err != nil {
		return About{}, fmt.Errorf("open name and topic of a room: %w", err)
	}
	r := key.NewReader(text)
	a := About{string(r.LP()), string(r.LP())}
	if err := r.End(); err != nil || !a.valid() {
		return About{}, fmt.Errorf("%w: name or topic of a room", ErrMalformed)
	}
	return a, nil
}

func (a About) valid() bool {
	return a.Name != "" && account.ValidDeviceName(a.Name) && len(a.Topic) <= MaxTopic && utf8.ValidString(a.Topic)
}

// SealName seals the display name in a Join or a GuestJoin.
func (k StateKey) SealName(room protocol.RoomID, name string) (Sealed, error) {
	if name == "" || !account.ValidDeviceName(name) {
		return Sealed{}, fmt.Errorf("%w: name of a member", ErrMalformed)
	}
	return k.seal(room, KindJoin, []byte(name))
}

// OpenName reads what SealName sealed.
func (k StateKey) OpenName(room protocol.RoomID, s Sealed) (string, error) {
	text, err := k.open(room, KindJoin, s)
	if err != nil {
		return "", fmt.Errorf("open name of a member: %w", err)
	}
	if len(text) == 0 || !account.ValidDeviceName(string(text)) {
		return "", fmt.Errorf("%w: name of a member", ErrMalformed)
	}
	return string(text), nil
}

// SealPassword seals the 32 bytes derived from the room's password, which devices
// that admit guests need. The key is for them only: it is not the one that all
// readers have.
func (k StateKey) SealPassword(room protocol.RoomID, derived [32]byte) (Sealed, error) {
	return k.seal(room, KindSetPassword, derived[:])
}

// OpenPassword reads what SealPassword sealed.
func (k StateKey) OpenPassword(room protocol.RoomID, s Sealed) (derived [32]byte, err error) {
	text, err := k.open(room, KindSetPassword, s)
	if err != nil {
		return derived, fmt.Errorf("open password of a room: %w", err)
	}
	if len(text) != len(derived) {
		return derived, fmt.Errorf("%w: password of a room", ErrMalformed)
	}
	return [32]byte(text), nil
}
