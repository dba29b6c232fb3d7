package vault

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
)

// Sizes of XAES-256-GCM, in bytes.
const (
	keySize   = 32
	nonceSize = 24
	tagSize   = 16
)

var errOpen = errors.New("message authentication failed")

// xaes is XAES-256-GCM (c2sp.org/XAES-256-GCM): AES-256-GCM under a key that is
// derived for each nonce, so that 24-byte nonces may be random without limit.
// It may be used from several goroutines.
type xaes struct {
	block cipher.Block
	k1    [aes.BlockSize]byte // the CMAC subkey, the same for every nonce
}

func newXAES(key *[keySize]byte) (*xaes, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	x := &xaes{block: block}
	block.Encrypt(x.k1[:], x.k1[:])
	carry := x.k1[0] >> 7
	for i := range len(x.k1) - 1 {
		x.k1[i] = x.k1[i]<<1 | x.k1[i+1]>>7
	}
	last := len(x.k1) - 1
	x.k1[last] = x.k1[last]<<1 ^ carry*0x87
	return x, nil
}

// aead derives the AES-256-GCM key of a nonce from its first half; the second
// half is the nonce to use it with. Each half of the key is the CMAC of one
// block, counter ‖ 'X' ‖ 0 ‖ first half, hence a single AES call.
func (x *xaes) aead(nonce []byte) (cipher.AEAD, error) {
	var key [keySize]byte
	defer clear(key[:])
	for i := range 2 {
		half := key[i*aes.BlockSize : (i+1)*aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], nonce[:nonceSize/2])
		subtle.XORBytes(half, half, x.k1[:])
		x.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// seal appends nonce ‖ ciphertext ‖ tag to dst, under a fresh random nonce.
func (x *xaes) seal(dst, plain, aad []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, nonceSize)...)
	nonce := dst[start:]
	rand.Read(nonce)
	return x.sealWith(dst, nonce, plain, aad)
}

func (x *xaes) sealWith(dst, nonce, plain, aad []byte) ([]byte, error) {
	a, err := x.aead(nonce)
	if err != nil {
		return nil, err
	}
	return a.Seal(dst, nonce[nonceSize/2:], plain, aad), nil
}

// open reverses seal. The plaintext is a new slice.
func (x *xaes) open(sealed, aad []byte) ([]byte, error) {
	if len(sealed) < nonceSize+tagSize {
		return nil, errOpen
	}
	nonce, ciphertext := sealed[:nonceSize], sealed[nonceSize:]
	a, err := x.aead(nonce)
	if err != nil {
		return nil, err
	}
	plain, err := a.Open(nil, nonce[nonceSize/2:], ciphertext, aad)
	if err != nil {
		return nil, errOpen
	}
	return plain, nil
}
