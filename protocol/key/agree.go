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

// ParseIdentityPublic reads 32 bytes.
func ParseIdentityPublic(b []byte) (IdentityPublic, error) {
	if len(b) != 32 || !GoodX25519([32]byte(b)) {
		return IdentityPublic{}, fmt.Errorf("%w: public identity key", ErrInvalid)
	}
	return IdentityPublic{[32]byte(b)}, nil
}

// GoodX25519 tells that k is the one encoding of a public X25519 key that is
// not of low order. Agreement itself (RFC 7748) takes any 32 bytes, so that
// one key would have several names.
func GoodX25519(k [32]byte) bool {
	return k[31]&0x80 == 0 && !overField(k) && !lowOrder[k]
}

// lowOrder holds the u of the points of low order, on the curve and its twist
// (https://cr.yp.to/ecdh.html#validate).
var lowOrder = map[[32]byte]bool{
	point("0000000000000000000000000000000000000000000000000000000000000000"): true,
	point("0100000000000000000000000000000000000000000000000000000000000000"): true,
	point("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"): true,
	point("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"): true,
	point("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"): true,
}

// Bytes returns the 32 bytes of the key. The caller owns them.
func (k IdentityPublic) Bytes() []byte { return bytes.Clone(k.key[:]) }

// String returns the key in hexadecimal.
func (k IdentityPublic) String() string { return hex.EncodeToString(k.key[:]) }
