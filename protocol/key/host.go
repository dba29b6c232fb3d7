package key

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"fmt"
)

// HostPrivate is the libp2p identity (Ed25519) of a device or a rendezvous. Only
// libp2p signs with it, in its handshakes, and a rendezvous the heads of its log
// (protocol/directory) and the events of its token keys (rendezvous/token); this
// package gives out the seed and never signs.
type HostPrivate struct {
	Redacted
	seed Hidden[[ed25519.SeedSize]byte]
}

// HostPublic is the public half of HostPrivate; 32 bytes.
type HostPublic struct {
	key [ed25519.PublicKeySize]byte
}

// NewHost generates a libp2p identity.
func NewHost() HostPrivate {
	var seed [ed25519.SeedSize]byte
	rand.Read(seed[:]) // crashes the program rather than fail
	return HostPrivate{seed: Hide(&seed)}
}

// ParseHost reads the 32-byte seed that Bytes returned.
func ParseHost(seed []byte) (HostPrivate, error) {
	if len(seed) != ed25519.SeedSize {
		return HostPrivate{}, fmt.Errorf("%w: host key of %d bytes, want %d", ErrInvalid, len(seed), ed25519.SeedSize)
	}
	s := [ed25519.SeedSize]byte(seed)
	return HostPrivate{seed: Hide(&s)}, nil
}

// Seed returns the 32-byte Ed25519 seed; nil for a zero key. The caller owns it.
func (k HostPrivate) Seed() []byte {
	if k.seed == nil {
		return nil
	}
	return bytes.Clone(k.seed()[:])
}

// Bytes is Seed.
func (k HostPrivate) Bytes() []byte { return k.Seed() }

// Public returns the public half; of a zero key, a zero key.
func (k HostPrivate) Public() HostPublic {
	if k.seed == nil {
		return HostPublic{}
	}
	return HostPublic{[32]byte(ed25519.NewKeyFromSeed(k.seed()[:])[ed25519.SeedSize:])}
}

// ParseHostPublic reads 32 bytes.
func ParseHostPublic(b []byte) (HostPublic, error) {
	if err := checkPoint(b); err != nil {
		return HostPublic{}, err
	}
	return HostPublic{[32]byte(b)}, nil
}

// Bytes returns the 32 bytes of the key. The caller owns them.
func (k HostPublic) Bytes() []byte { return bytes.Clone(k.key[:]) }

// String returns the key in hexadecimal.
func (k HostPublic) String() string { return hex.EncodeToString(k.key[:]) }

// peerIDHead begins the peer ID of an Ed25519 key: an identity multihash of 36
// bytes holding the protobuf PublicKey{Type: Ed25519, Data: 32 bytes} (libp2p
// peer-ids specification).
var peerIDHead = []byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}

// PeerID returns the libp2p peer ID of the key: 38 bytes, the caller owns them.
func (k HostPublic) PeerID() []byte {
	return append(bytes.Clone(peerIDHead), k.key[:]...)
}

// ParsePeerID reads the host key out of a libp2p peer ID.
func ParsePeerID(b []byte) (HostPublic, error) {
	rest, ok := bytes.CutPrefix(b, peerIDHead)
	if !ok {
		return HostPublic{}, fmt.Errorf("%w: not the peer id of an Ed25519 key", ErrInvalid)
	}
	return ParseHostPublic(rest)
}
