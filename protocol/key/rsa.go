package key

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"math/big"
)

// Sizes in bytes. The modulus is 4096 bits and the exponent 65537, always:
// a weaker or a costlier key cannot be written down in this encoding.
const (
	RSAPublicSize  = 512
	RSAPrivateSize = 512
	rsaPrimeSize   = 256
	rsaExponent    = 65537
)

// RSAPrivate unwraps the secret inside session openings (RSAES-OAEP with
// SHA-256 and MGF1-SHA-256, RFC 8017). It never signs.
type RSAPrivate struct {
	Redacted
	key Hidden[rsa.PrivateKey]
}

// RSAPublic is the public half of RSAPrivate: the bare 512-byte modulus.
type RSAPublic struct {
	modulus [RSAPublicSize]byte
}

// NewRSA generates a key. It takes 0.1 to 3 s of one core.
func NewRSA() (RSAPrivate, error) {
	k, err := rsa.GenerateKey(rand.Reader, RSAPublicSize*8)
	if err != nil {
		return RSAPrivate{}, fmt.Errorf("generate RSA key: %w", err)
	}
	return RSAPrivate{key: Hide(k)}, nil
}

// ParseRSA reads the 512 bytes that Bytes returned: the two primes, 256 bytes
// each, the larger first. It takes about 1 ms; keep the result.
func ParseRSA(b []byte) (RSAPrivate, error) {
	if len(b) != RSAPrivateSize {
		return RSAPrivate{}, fmt.Errorf("%w: RSA key of %d bytes, want %d", ErrInvalid, len(b), RSAPrivateSize)
	}
	p := new(big.Int).SetBytes(b[:rsaPrimeSize])
	q := new(big.Int).SetBytes(b[rsaPrimeSize:])
	n := new(big.Int).Mul(p, q)
	if p.Cmp(q) <= 0 || n.BitLen() != RSAPublicSize*8 || n.Bit(0) == 0 {
		return RSAPrivate{}, fmt.Errorf("%w: RSA primes", ErrInvalid)
	}
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	d := new(big.Int).ModInverse(big.NewInt(rsaExponent), phi)
	if d == nil {
		return RSAPrivate{}, fmt.Errorf("%w: RSA primes do not fit the exponent", ErrInvalid)
	}
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: rsaExponent}, D: d, Primes: []*big.Int{p, q}}
	k.Precompute()
	if err := k.Validate(); err != nil {
		return RSAPrivate{}, fmt.Errorf("%w: RSA key: %v", ErrInvalid, err)
	}
	return RSAPrivate{key: Hide(k)}, nil
}

// Bytes returns the two primes, the larger first: 512 bytes, or nil for a zero
// key. The caller owns them.
func (k RSAPrivate) Bytes() []byte {
	if k.key == nil {
		return nil
	}
	p, q := k.key().Primes[0], k.key().Primes[1]
	if p.Cmp(q) < 0 {
		p, q = q, p
	}
	b := make([]byte, RSAPrivateSize)
	p.FillBytes(b[:rsaPrimeSize])
	q.FillBytes(b[rsaPrimeSize:])
	return b
}

// Public returns the public half; of a zero key, a zero key.
func (k RSAPrivate) Public() (pub RSAPublic) {
	if k.key != nil {
		k.key().N.FillBytes(pub.modulus[:])
	}
	return pub
}

// Unwrap opens what Wrap made with the same label. It costs about 5 ms: check
// everything cheaper first. Its error tells nothing about the reason.
func (k RSAPrivate) Unwrap(wrapped, label []byte) ([]byte, error) {
	if k.key == nil {
		return nil, fmt.Errorf("%w: no RSA key", ErrInvalid)
	}
	return rsa.DecryptOAEP(sha256.New(), nil, k.key(), wrapped, label)
}

// ParseRSAPublic reads a bare modulus: 512 bytes, top bit set, odd.
func ParseRSAPublic(b []byte) (RSAPublic, error) {
	if len(b) != RSAPublicSize {
		return RSAPublic{}, fmt.Errorf("%w: RSA modulus of %d bytes, want %d", ErrInvalid, len(b), RSAPublicSize)
	}
	k := RSAPublic{[RSAPublicSize]byte(b)}
	if !k.valid() {
		return RSAPublic{}, fmt.Errorf("%w: RSA modulus is even or under 4096 bits", ErrInvalid)
	}
	return k, nil
}

func (k RSAPublic) valid() bool {
	return k.modulus[0]&0x80 != 0 && k.modulus[RSAPublicSize-1]&1 == 1
}

// Bytes returns the 512-byte modulus. The caller owns it.
func (k RSAPublic) Bytes() []byte { return bytes.Clone(k.modulus[:]) }

// Hash names the key: SHA-256 of the modulus.
func (k RSAPublic) Hash() [32]byte { return sha256.Sum256(k.modulus[:]) }

// Wrap seals secret (at most 446 bytes) to the key: 512 bytes.
func (k RSAPublic) Wrap(secret, label []byte) ([]byte, error) {
	if !k.valid() {
		return nil, fmt.Errorf("%w: no RSA key", ErrInvalid)
	}
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(k.modulus[:]), E: rsaExponent}
	return rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, secret, label)
}
