package key_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"math/big"
	"testing"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// IM-01: the published record is a 4096-bit modulus and nothing else; weaker
// and costlier keys cannot be expressed or are refused.
func TestIM01_OnlyRSA4096(t *testing.T) {
	k := keytest.RSA(t, 0)
	pub := k.Public().Bytes()
	n := new(big.Int).SetBytes(pub)
	if n.BitLen() != 4096 || len(pub) != 512 {
		t.Fatalf("published modulus has %d bits", n.BitLen())
	}
	even := bytes.Clone(pub)
	even[511] &^= 1
	short := bytes.Clone(pub)
	short[0] &= 0x7f
	withExponent := append(bytes.Clone(pub), 0, 0, 3)
	for name, b := range map[string][]byte{
		"even":              even,
		"4095 bits":         short,
		"2048 bits":         pub[:256],
		"2048 bits padded":  append(make([]byte, 256), pub[:256]...),
		"3072 bits":         pub[:384],
		"4097 bits":         append([]byte{1}, pub...),
		"8192 bits":         append(bytes.Clone(pub), pub...),
		"exponent appended": withExponent,
		"empty":             nil,
	} {
		if _, err := key.ParseRSAPublic(b); !errors.Is(err, key.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The exponent and the hashes are fixed: what Wrap makes opens with e=65537
// and OAEP over SHA-256 only.
func TestIM01_ExponentAndHash(t *testing.T) {
	k := keytest.RSA(t, 0)
	std := stdKey(t, k)
	wrapped, err := k.Public().Wrap([]byte("secret"), []byte("label"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := rsa.DecryptOAEP(sha256.New(), nil, std, wrapped, []byte("label")); err != nil || string(got) != "secret" {
		t.Errorf("SHA-256, e=65537: %v", err)
	}
	if _, err := rsa.DecryptOAEP(sha1.New(), nil, std, wrapped, []byte("label")); err == nil {
		t.Error("opens with SHA-1")
	}
	for _, hash := range []struct {
		name string
		e    int
		sha1 bool
	}{{"e=3", 3, false}, {"e=65539", 65539, false}, {"SHA-1", 65537, true}} {
		pub := &rsa.PublicKey{N: std.N, E: hash.e}
		h := sha256.New()
		if hash.sha1 {
			h = sha1.New()
		}
		foreign, err := rsa.EncryptOAEP(h, rand.Reader, pub, []byte("secret"), []byte("label"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.Unwrap(foreign, []byte("label")); err == nil {
			t.Errorf("%s: unwrapped", hash.name)
		}
	}
}

func stdKey(t *testing.T, k key.RSAPrivate) *rsa.PrivateKey {
	b := k.Bytes()
	p, q := new(big.Int).SetBytes(b[:256]), new(big.Int).SetBytes(b[256:])
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	std := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537},
		D:         new(big.Int).ModInverse(big.NewInt(65537), phi),
		Primes:    []*big.Int{p, q},
	}
	std.Precompute()
	if err := std.Validate(); err != nil {
		t.Fatal(err)
	}
	return std
}

func TestUnwrap(t *testing.T) {
	k, other := keytest.RSA(t, 0), keytest.RSA(t, 1)
	wrapped, err := k.Public().Wrap([]byte("secret"), []byte("label"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.Unwrap(wrapped, []byte("label")); err != nil || string(got) != "secret" {
		t.Fatalf("%q, %v", got, err)
	}
	damaged := bytes.Clone(wrapped)
	damaged[100] ^= 1
	texts := map[string]bool{}
	for name, f := range map[string]func() ([]byte, error){
		"other label": func() ([]byte, error) { return k.Unwrap(wrapped, []byte("Label")) },
		"no label":    func() ([]byte, error) { return k.Unwrap(wrapped, nil) },
		"other key":   func() ([]byte, error) { return other.Unwrap(wrapped, []byte("label")) },
		"damaged":     func() ([]byte, error) { return k.Unwrap(damaged, []byte("label")) },
		"truncated":   func() ([]byte, error) { return k.Unwrap(wrapped[:511], []byte("label")) },
	} {
		_, err := f()
		if err == nil {
			t.Errorf("%s: unwrapped", name)
			continue
		}
		texts[err.Error()] = true
	}
	if len(texts) != 1 {
		t.Errorf("failures can be told apart: %v", texts)
	}
}

func TestParseRSARefuses(t *testing.T) {
	good := keytest.RSA(t, 0).Bytes()
	p, q := good[:256], good[256:]
	change := func(i int, x byte) []byte {
		b := bytes.Clone(good)
		b[i] ^= x
		return b
	}
	for name, b := range map[string][]byte{
		"smaller prime first": append(bytes.Clone(q), p...),
		"equal primes":        append(bytes.Clone(p), p...),
		"even prime":          change(255, 1),
		"small primes":        append(make([]byte, 255), append([]byte{7}, append(make([]byte, 255), 5)...)...),
		"all zero":            make([]byte, 512),
		"all ones":            bytes.Repeat([]byte{0xff}, 512),
	} {
		if _, err := key.ParseRSA(b); !errors.Is(err, key.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseRSAPublic(f *testing.F) {
	f.Add(keytest.RSA(f, 0).Public().Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := key.ParseRSAPublic(b)
		if err == nil && !bytes.Equal(k.Bytes(), b) {
			t.Fatal("not canonical")
		}
	})
}

func FuzzParsePeerID(f *testing.F) {
	f.Add(key.NewHost().Public().PeerID())
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := key.ParsePeerID(b)
		if err == nil && !bytes.Equal(k.PeerID(), b) {
			t.Fatal("not canonical")
		}
	})
}

func BenchmarkUnwrap(b *testing.B) {
	k := keytest.RSA(b, 0)
	wrapped, err := k.Public().Wrap(make([]byte, 32), nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := k.Unwrap(wrapped, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWrap(b *testing.B) {
	pub := keytest.RSA(b, 0).Public()
	for b.Loop() {
		if _, err := pub.Wrap(make([]byte, 32), nil); err != nil {
			b.Fatal(err)
		}
	}
}
