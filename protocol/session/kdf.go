package session

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
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

// chainStep returns the key of a chain's next message and the chain key after
// it (Double Ratchet KDF_CK).
func chainStep(chain [32]byte) (message, next [32]byte) {
	mac := hmac.New(sha256.New, chain[:])
	mac.Write([]byte{0x01})
	mac.Sum(message[:0])
	mac.Reset()
	mac.Write([]byte{0x02})
	mac.Sum(next[:0])
	return message, next
}

// newAEAD returns AES-256-GCM that puts a random nonce before the ciphertext.
// The nonce is random although every key seals one message: a device restored
// from a snapshot repeats its keys.
func newAEAD(messageKey [32]byte) cipher.AEAD {
	block, err := aes.NewCipher(messageKey[:])
	if err != nil {
		panic(err) // 32 bytes are always an AES key
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // block is always AES
	}
	return aead
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
