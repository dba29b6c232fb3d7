package file

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

const (
	keySize        = 32
	saltSize       = 24
	nonceSize      = 12
	commitmentSize = 32

	// algorithm begins what the keys of a file are derived with.
	algorithm = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"
)

// Key is the key of one file. The zero value is unusable.
type Key struct {
	key.Redacted
	secret key.Hidden[[keySize]byte]
}

// ParseKey reads the 32 bytes that Bytes returned.
func ParseKey(b []byte) (Key, error) {
	if len(b) != keySize {
		return Key{}, fmt.Errorf("%w: key of a file of %d bytes", key.ErrInvalid, len(b))
	}
	secret := [keySize]byte(b)
	return Key{secret: key.Hide(&secret)}, nil
}

// Bytes returns the key; nil for a zero key. The caller owns it.
func (k Key) Bytes() []byte {
	if k.secret == nil {
		return nil
	}
	return bytes.Clone(k.secret()[:])
}

// context binds what is sealed to its file, and to this protocol.
func context(id protocol.FileID) []byte { return key.Message("file", id[:]) }

// chunks seals and opens the chunks of one file: its derived key and its base nonce.
type chunks struct {
	aead cipher.AEAD
	base [nonceSize]byte
}

// derive gives what the chunks of a file are sealed with, and the commitment to it
// (c2sp.org/chunked-encryption, "Key derivation", with SHA-512 and AES-256-GCM).
func derive(k Key, salt [saltSize]byte, context []byte) (c chunks, commitment [commitmentSize]byte, err error) {
	if k.secret == nil {
		return c, commitment, fmt.Errorf("%w: no key of a file", key.ErrInvalid)
	}
	info := algorithm + string(salt[:]) + string(context)
	okm, err := hkdf.Expand(sha512.New, k.secret()[:], info, keySize+nonceSize+commitmentSize)
	if err != nil {
		return c, commitment, fmt.Errorf("derive the keys of a file: %w", err)
	}
	block, err := aes.NewCipher(okm[:keySize])
	if err != nil {
		return c, commitment, fmt.Errorf("derive the keys of a file: %w", err)
	}
	c.aead, err = cipher.NewGCM(block)
	if err != nil {
		return c, commitment, fmt.Errorf("derive the keys of a file: %w", err)
	}
	copy(c.base[:], okm[keySize:])
	copy(commitment[:], okm[keySize+nonceSize:])
	return c, commitment, nil
}

// nonce puts the nonce of chunk n of the file in b.
func (c chunks) nonce(b *[nonceSize]byte, n uint64) {
	*b = c.base
	end := b[nonceSize-8:]
	binary.BigEndian.PutUint64(end, binary.BigEndian.Uint64(end)^n)
}

// seal seals piece k, in the memory of piece if that was made for a sealed one.
func (c chunks) seal(k int, piece []byte) []byte {
	n := chunksIn(len(piece))
	if cap(piece) != SealedPieceSize { // somebody else's bytes may be behind it
		piece = slices.Clip(piece)
	}
	out := slices.Grow(piece, n*TagSize)[:sealedLen(len(piece))]
	var nonce [nonceSize]byte
	for i := n - 1; i >= 0; i-- { // from the end: each chunk moves back by the tags before it
		from, to := i*ChunkSize, min((i+1)*ChunkSize, len(piece))
		chunk := out[i*sealedChunkSize:][:to-from]
		copy(chunk, out[from:to])
		c.nonce(&nonce, uint64(k)*chunksPerPiece+uint64(i))
		c.aead.Seal(chunk[:0], nonce[:], chunk, nil)
	}
	return out
}

// open opens piece k in the memory of sealed, whose length is that of a sealed piece. All
// of it is cleared if one chunk does not open.
func (c chunks) open(k int, sealed []byte) ([]byte, error) {
	var nonce [nonceSize]byte
	size := 0
	for i := 0; i*sealedChunkSize < len(sealed); i++ {
		chunk := sealed[i*sealedChunkSize : min((i+1)*sealedChunkSize, len(sealed))]
		c.nonce(&nonce, uint64(k)*chunksPerPiece+uint64(i))
		plain, err := c.aead.Open(chunk[:0], nonce[:], chunk, nil)
		if err != nil {
			clear(sealed)
			return nil, ErrUnreadable
		}
		size += copy(sealed[size:], plain)
	}
	return sealed[:size], nil
}
