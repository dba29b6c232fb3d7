package prekey

import (
	"bytes"
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// Pair is a record with its private halves. The zero value is unusable.
type Pair struct {
	key.Redacted
	Record Record

	secret key.Hidden[secret]
}

// secret holds the ML-KEM key as its seed: expanding it takes 40 µs and not
// every pair that is read decapsulates.
type secret struct {
	x25519 *ecdh.PrivateKey
	seed   [mlkem.SeedSize]byte
}

// secretSize is the length of the encoded private halves: X25519 key 32,
// ML-KEM seed 64.
const secretSize = 32 + mlkem.SeedSize

// NewSigned makes a signed prekey of device dev that names the RSA key with
// the hash rsaHash. Expires is at most SignedExpires after now.
func NewSigned(now, expires time.Time, dev protocol.DeviceID, dsk key.DevicePrivate, rsaHash [32]byte) (Pair, error) {
	return newPair(Record{Kind: Signed, Created: now, Expires: expires, RSAHash: rsaHash}, dev, dsk)
}

// NewOneTime makes a one-time prekey of device dev. Expires is at most
// OneTimeExpires after now.
func NewOneTime(now, expires time.Time, dev protocol.DeviceID, dsk key.DevicePrivate) (Pair, error) {
	return newPair(Record{Kind: OneTime, Created: now, Expires: expires}, dev, dsk)
}

func newPair(r Record, dev protocol.DeviceID, dsk key.DevicePrivate) (Pair, error) {
	var random [secretSize]byte
	rand.Read(random[:]) // crashes the program rather than fail
	s, err := parseSecret(random[:])
	clear(random[:])
	if err != nil {
		return Pair{}, fmt.Errorf("make prekey: %w", err)
	}
	p, err := signRecord(r, s, dev, dsk)
	if err != nil {
		return Pair{}, fmt.Errorf("make prekey: %w", err)
	}
	return p, nil
}

// signRecord completes r with the public halves of s and signs it.
func signRecord(r Record, s *secret, dev protocol.DeviceID, dsk key.DevicePrivate) (Pair, error) {
	r.Created, r.Expires = key.Seconds(r.Created), key.Seconds(r.Expires)
	if err := r.checkLife(); err != nil {
		return Pair{}, err
	}
	kem, err := mlkem.NewDecapsulationKey768(s.seed[:])
	if err != nil {
		return Pair{}, err
	}
	r.X25519 = [32]byte(s.x25519.PublicKey().Bytes())
	r.MLKEM = [mlkem.EncapsulationKeySize768]byte(kem.EncapsulationKey().Bytes())
	sig, err := dsk.Sign(labelPrekey, dev[:], r.body())
	if err != nil {
		return Pair{}, err
	}
	r.sig = [key.SignatureSize]byte(sig)
	return Pair{Record: r, secret: key.Hide(s)}, nil
}

func parseSecret(b []byte) (*secret, error) {
	x, err := ecdh.X25519().NewPrivateKey(b[:32])
	if err != nil {
		return nil, err
	}
	return &secret{x, [mlkem.SeedSize]byte(b[32:])}, nil
}

// Marshal returns the record followed by the private halves, or nil for a zero
// pair: seal it before storing it. The caller owns it.
func (p Pair) Marshal() []byte {
	if p.secret == nil {
		return nil
	}
	b := append(p.Record.Marshal(), p.secret().x25519.Bytes()...)
	return append(b, p.secret().seed[:]...)
}

// ParsePair reads what Marshal made. It checks that the X25519 halves belong
// together, not the signature.
func ParsePair(b []byte) (Pair, error) {
	if len(b) < secretSize {
		return Pair{}, fmt.Errorf("%w: pair of %d bytes", ErrMalformed, len(b))
	}
	split := len(b) - secretSize
	r, err := Parse(b[:split])
	if err != nil {
		return Pair{}, err
	}
	s, err := parseSecret(b[split:])
	if err != nil {
		return Pair{}, fmt.Errorf("%w: private halves", ErrMalformed)
	}
	if [32]byte(s.x25519.PublicKey().Bytes()) != r.X25519 {
		return Pair{}, fmt.Errorf("%w: private halves of another record", ErrMalformed)
	}
	return Pair{Record: r, secret: key.Hide(s)}, nil
}

// DH agrees on 32 secret bytes with the holder of peer. It fails for a point
// of low order and for a zero pair.
func (p Pair) DH(peer []byte) ([]byte, error) {
	if p.secret == nil {
		return nil, fmt.Errorf("%w: no private half", ErrMalformed)
	}
	pub, err := ecdh.X25519().NewPublicKey(peer)
	if err != nil {
		return nil, err
	}
	return p.secret().x25519.ECDH(pub)
}

// Decapsulate returns the 32 secret bytes inside an ML-KEM-768 ciphertext
// (FIPS 203). Of a forged ciphertext of the right size it returns other bytes,
// not an error.
func (p Pair) Decapsulate(ciphertext []byte) ([]byte, error) {
	if p.secret == nil {
		return nil, fmt.Errorf("%w: no private half", ErrMalformed)
	}
	kem, err := mlkem.NewDecapsulationKey768(p.secret().seed[:])
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(kem.EncapsulationKey().Bytes(), p.Record.MLKEM[:]) {
		return nil, fmt.Errorf("%w: private half of another record", ErrMalformed)
	}
	return kem.Decapsulate(ciphertext)
}

// X25519 returns the private X25519 key: with it the responder's first ratchet
// step is made. The caller owns it; nil for a zero pair.
func (p Pair) X25519() []byte {
	if p.secret == nil {
		return nil
	}
	return p.secret().x25519.Bytes()
}
