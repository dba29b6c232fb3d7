// Package kdfchain is the symmetric-key ratchet that pairwise sessions and room
// chains share: a chain key that only moves forward, and AES-256-GCM under the
// message keys it gives (Double Ratchet, KDF_CK and ENCRYPT; SPEC "Ratchet
// message").
package kdfchain

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
)

// What AEAD adds to a message, in bytes: a nonce before it and a tag after it.
const (
	NonceSize = 12
	TagSize   = 16
)

// Step returns the key of a chain's next message and the chain key after it.
func Step(chain [32]byte) (message, next [32]byte) {
	mac := hmac.New(sha256.New, chain[:])
	mac.Write([]byte{0x01})
	mac.Sum(message[:0])
	mac.Reset()
	mac.Write([]byte{0x02})
	mac.Sum(next[:0])
	return message, next
}

// AEAD returns AES-256-GCM that puts a random nonce before the ciphertext.
// The nonce is random although every key seals one message: a device restored
// from a snapshot repeats its keys.
func AEAD(messageKey [32]byte) cipher.AEAD {
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
