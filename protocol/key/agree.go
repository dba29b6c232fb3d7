package key

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// IdentityPrivate (DIK) is a device's X25519 key for the identity part of a
// session opening (RFC 7748). It only agrees; it never signs.
type IdentityPrivate struct {
	Redacted
	key Hidden[ecdh.PrivateKey]
}

// IdentityPublic is the public half of IdentityPrivate; 32 bytes.
type IdentityPublic struct {
	key [32]byte
}

// NewIdentity generates an identity key.
func NewIdentity() IdentityPrivate {
	var seed [32]byte
	rand.Read(seed[:]) // crashes the program rather than fail
	k, _ := ParseIdentity(seed[:])
	clear(seed[:])
	return k
}

// ParseIdentity reads the 32 bytes that Bytes returned.
func ParseIdentity(b []byte) (IdentityPrivate, error) {
	k, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return IdentityPrivate{}, fmt.Errorf("%w: identity key: %v", ErrInvalid, err)
	}
	return IdentityPrivate{key: Hide(k)}, nil
}

// Bytes returns the 32-byte private key; nil for a zero key. The caller owns it.
func (k IdentityPrivate) Bytes() []byte {
	if k.key == nil {
		return nil
	}
	return k.key().Bytes()
}

// Public returns the public half; of a zero key, a zero key.
func (k IdentityPrivate) Public() IdentityPublic {
	if k.key == nil {
		return IdentityPublic{}
	}
	return IdentityPublic{[32]byte(k.key().PublicKey().Bytes())}
}

// DH agrees on 32 secret bytes with the holder of peer. It fails for a point
// of low order and for a zero key.
func (k IdentityPrivate) DH(peer []byte) ([]byte, error) {
	if k.key == nil {
		return nil, fmt.Errorf("%w: no identity key", ErrInvalid)
	}
	p, err := ecdh.X25519().NewPublicKey(peer)
	if err != nil {
		return nil, fmt.Errorf("%w: %v", ErrInvalid, err)
	}
	return k.key().ECDH(p)
}

// ParseIdentityPublic reads 32 bytes. Points of low order are found when the
// key is used.
func ParseIdentityPublic(b []byte) (IdentityPublic, error) {
	if len(b) != 32 {
		return IdentityPublic{}, fmt.Errorf("%w: public identity key of %d bytes, want 32", ErrInvalid, len(b))
	}
	return IdentityPublic{[32]byte(b)}, nil
}

// Bytes returns the 32 bytes of the key. The caller owns them.
func (k IdentityPublic) Bytes() []byte { return bytes.Clone(k.key[:]) }

// String returns the key in hexadecimal.
func (k IdentityPublic) String() string { return hex.EncodeToString(k.key[:]) }
