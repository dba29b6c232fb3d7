package session

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"slices"

	"github.com/parley-chat/parley/protocol/key"
)

const labelRoot = "root"

// rootStep starts a chain: it mixes a Diffie-Hellman secret and, with a PQ
// step, an ML-KEM secret into the root key, bound to the chain's header
// (Double Ratchet KDF_RK; SPEC "Ratchet").
func rootStep(root [32]byte, dh, shared []byte, h header) (newRoot, chain [32]byte, err error) {
	ikm := slices.Concat(dh, shared)
	defer clear(ikm)
	prk, err := hkdf.Extract(sha256.New, ikm, root[:])
	if err != nil {
		return newRoot, chain, err
	}
	bound := sha256.New()
	bound.Write(h.pub[:])
	bound.Write([]byte{h.flags})
	bound.Write(h.blocks)
	out, err := hkdf.Expand(sha256.New, prk, key.Label(labelRoot)+string(bound.Sum(nil)), 64)
	if err != nil {
		return newRoot, chain, err
	}
	defer clear(out)
	return [32]byte(out), [32]byte(out[32:]), nil
}

// dh agrees on a secret; it fails for a point of low order.
func dh(private, public [32]byte) ([]byte, error) {
	k, err := ecdh.X25519().NewPrivateKey(private[:])
	if err != nil {
		return nil, err
	}
	p, err := ecdh.X25519().NewPublicKey(public[:])
	if err != nil {
		return nil, err
	}
	return k.ECDH(p)
}
