package key

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// SignatureSize is the length in bytes of every signature.
const SignatureSize = ed25519.SignatureSize

// The four kinds of signing keys (Ed25519, RFC 8032). Each private half has
//
//	Sign(purpose string, parts ...[]byte) ([]byte, error)
//	Bytes() []byte
//
// and each public half, which is comparable and may be a map key,
//
//	Verify(purpose string, sig []byte, parts ...[]byte) error
//	Bytes() []byte
//
// A signature covers Message(purpose, parts...), so it verifies under no other
// purpose and for no other split of the same bytes.
type (
	// AccountPrivate (AIK) signs the account's statements and its devices'
	// certificates.
	AccountPrivate struct{ signer[accountKind] }
	// AccountPublic is the public half of AccountPrivate; 32 bytes.
	AccountPublic struct{ verifier[accountKind] }

	// RecoveryPrivate (RK) replaces a lost or stolen account key. Kept on paper.
	RecoveryPrivate struct{ signer[recoveryKind] }
	// RecoveryPublic is the public half of RecoveryPrivate; 32 bytes.
	RecoveryPublic struct{ verifier[recoveryKind] }

	// DevicePrivate (DSK) signs a device's prekeys, its entries in room logs and its
	// room messages.
	DevicePrivate struct{ signer[deviceKind] }
	// DevicePublic is the public half of DevicePrivate; 32 bytes.
	DevicePublic struct{ verifier[deviceKind] }

	// LinkPrivate is the secret of a link into a room: it signs in whoever joins
	// by the link.
	LinkPrivate struct{ signer[linkKind] }
	// LinkPublic is the public half of LinkPrivate; 32 bytes.
	LinkPublic struct{ verifier[linkKind] }
)

// The kinds keep the types apart: without them Go would convert one into
// another.
type (
	accountKind  struct{}
	recoveryKind struct{}
	deviceKind   struct{}
	linkKind     struct{}
)

// NewAccount generates an account key.
func NewAccount() AccountPrivate { return AccountPrivate{newSigner[accountKind]()} }

// NewRecovery generates a recovery key.
func NewRecovery() RecoveryPrivate { return RecoveryPrivate{newSigner[recoveryKind]()} }

// NewDevice generates a device signing key.
func NewDevice() DevicePrivate { return DevicePrivate{newSigner[deviceKind]()} }

// NewLink generates the key of a link into a room.
func NewLink() LinkPrivate { return LinkPrivate{newSigner[linkKind]()} }

// ParseAccount reads the 32-byte seed that Bytes returned.
func ParseAccount(seed []byte) (AccountPrivate, error) {
	s, err := parseSigner[accountKind](seed)
	return AccountPrivate{s}, err
}

// ParseRecovery reads the 32-byte seed that Bytes returned.
func ParseRecovery(seed []byte) (RecoveryPrivate, error) {
	s, err := parseSigner[recoveryKind](seed)
	return RecoveryPrivate{s}, err
}

// ParseDevice reads the 32-byte seed that Bytes returned.
func ParseDevice(seed []byte) (DevicePrivate, error) {
	s, err := parseSigner[deviceKind](seed)
	return DevicePrivate{s}, err
}

// ParseLink reads the 32-byte seed that Bytes returned.
func ParseLink(seed []byte) (LinkPrivate, error) {
	s, err := parseSigner[linkKind](seed)
	return LinkPrivate{s}, err
}

// ParseAccountPublic reads 32 bytes.
func ParseAccountPublic(b []byte) (AccountPublic, error) {
	v, err := parseVerifier[accountKind](b)
	return AccountPublic{v}, err
}

// ParseRecoveryPublic reads 32 bytes.
func ParseRecoveryPublic(b []byte) (RecoveryPublic, error) {
	v, err := parseVerifier[recoveryKind](b)
	return RecoveryPublic{v}, err
}

// ParseDevicePublic reads 32 bytes.
func ParseDevicePublic(b []byte) (DevicePublic, error) {
	v, err := parseVerifier[deviceKind](b)
	return DevicePublic{v}, err
}

// ParseLinkPublic reads 32 bytes.
func ParseLinkPublic(b []byte) (LinkPublic, error) {
	v, err := parseVerifier[linkKind](b)
	return LinkPublic{v}, err
}

// Public returns the public half; of a zero key, a zero key.
func (k AccountPrivate) Public() AccountPublic { return AccountPublic{k.public()} }

// Public returns the public half; of a zero key, a zero key.
func (k RecoveryPrivate) Public() RecoveryPublic { return RecoveryPublic{k.public()} }

// Public returns the public half; of a zero key, a zero key.
func (k DevicePrivate) Public() DevicePublic { return DevicePublic{k.public()} }

// Public returns the public half; of a zero key, a zero key.
func (k LinkPrivate) Public() LinkPublic { return LinkPublic{k.public()} }

// signer is an Ed25519 private key.
type signer[K any] struct {
	Redacted
	key Hidden[[ed25519.PrivateKeySize]byte]
}

func newSigner[K any]() signer[K] {
	var seed [ed25519.SeedSize]byte
	rand.Read(seed[:]) // crashes the program rather than fail
	s, _ := parseSigner[K](seed[:])
	clear(seed[:])
	return s
}

func parseSigner[K any](seed []byte) (signer[K], error) {
	if len(seed) != ed25519.SeedSize {
		return signer[K]{}, fmt.Errorf("%w: signing key of %d bytes, want %d", ErrInvalid, len(seed), ed25519.SeedSize)
	}
	full := [ed25519.PrivateKeySize]byte(ed25519.NewKeyFromSeed(seed))
	return signer[K]{key: Hide(&full)}, nil
}

// Bytes returns the 32-byte seed; nil for a zero key. The caller owns it.
func (s signer[K]) Bytes() []byte {
	if s.key == nil {
		return nil
	}
	return bytes.Clone(s.key()[:ed25519.SeedSize])
}

// Sign signs Message(purpose, parts...); 64 bytes, deterministic. It fails
// only for a zero key.
func (s signer[K]) Sign(purpose string, parts ...[]byte) ([]byte, error) {
	if s.key == nil {
		return nil, fmt.Errorf("sign %s: %w", purpose, ErrInvalid)
	}
	return ed25519.Sign(s.key()[:], Message(purpose, parts...)), nil
}

func (s signer[K]) public() verifier[K] {
	if s.key == nil {
		return verifier[K]{}
	}
	return verifier[K]{key: [32]byte(s.key()[ed25519.SeedSize:])}
}

// verifier is an Ed25519 public key.
type verifier[K any] struct {
	key [ed25519.PublicKeySize]byte
}

func parseVerifier[K any](b []byte) (verifier[K], error) {
	if err := checkPoint(b); err != nil {
		return verifier[K]{}, err
	}
	return verifier[K]{key: [32]byte(b)}, nil
}

func checkPoint(b []byte) error {
	if len(b) != ed25519.PublicKeySize {
		return fmt.Errorf("%w: public key of %d bytes, want %d", ErrInvalid, len(b), ed25519.PublicKeySize)
	}
	if weakPoint([32]byte(b)) {
		return fmt.Errorf("%w: weak public key", ErrInvalid)
	}
	return nil
}

// Bytes returns the 32 bytes of the key. The caller owns them.
func (v verifier[K]) Bytes() []byte { return bytes.Clone(v.key[:]) }

// IsZero tells that the key was never set.
func (v verifier[K]) IsZero() bool { return v.key == [32]byte{} }

// String returns the key in hexadecimal.
func (v verifier[K]) String() string { return hex.EncodeToString(v.key[:]) }

// Verify returns nil if sig is this key's signature for this purpose over
// these parts, else an error that wraps ErrSignature.
func (v verifier[K]) Verify(purpose string, sig []byte, parts ...[]byte) error {
	if weakPoint(v.key) || len(sig) != SignatureSize || !ed25519.Verify(v.key[:], Message(purpose, parts...), sig) {
		return fmt.Errorf("verify %s: %w", purpose, ErrSignature)
	}
	return nil
}

// weakPoint tells encodings of y that are not canonical (y >= 2^255-19) and
// points of small order: under such a key one signature fits many messages.
func weakPoint(k [32]byte) bool {
	k[31] &= 0x7f // the sign of x
	return overField(k) || smallOrder[k]
}

// overField tells that the number k, little-endian, is from 2^255-19 to
// 2^255-1.
func overField(k [32]byte) bool {
	for _, x := range k[1:31] {
		if x != 0xff {
			return false
		}
	}
	return k[31] == 0x7f && k[0] >= 0xed
}

// smallOrder holds the y of the eight points of order 1, 2, 4 and 8, sign
// removed (Cremers and Jackson, "Prime, Order Please!", table 1).
var smallOrder = map[[32]byte]bool{
	point("0000000000000000000000000000000000000000000000000000000000000000"): true, // order 4
	point("0100000000000000000000000000000000000000000000000000000000000000"): true, // order 1
	point("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"): true, // order 2
	point("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"): true, // order 8
	point("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"): true, // order 8
}

func point(text string) (p [32]byte) {
	hex.Decode(p[:], []byte(text))
	return p
}
