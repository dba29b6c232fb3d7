package session

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"crypto/sha256"
	"encoding/json"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// Project Wycheproof's vectors against the primitives as this tree uses them.

// vectorGroup has the fields of all the groups read here; hex strings.
type vectorGroup struct {
	IVSize     int `json:"ivSize"`
	KeySize    int `json:"keySize"`
	TagSize    int `json:"tagSize"`
	PublicKey  struct{ PK keytest.Hex }
	PrivateKey struct {
		Prime1, Prime2 keytest.Hex
	}
	Tests []vectorCase
}

type vectorCase struct {
	TcID                       int `json:"tcId"`
	Result                     string
	Key, IV, AAD, Msg, CT, Tag keytest.Hex
	IKM, Salt, Info, OKM       keytest.Hex
	Size                       int
	Sig                        keytest.Hex
	Public, Private, Shared    keytest.Hex
	Label                      keytest.Hex
	Seed, EK, C, K, M          keytest.Hex
}

func (c vectorCase) valid() bool { return c.Result == "valid" }

// each runs f on every test of a file and checks that at least want ran.
func each(t *testing.T, file string, want int, f func(t *testing.T, g vectorGroup, c vectorCase) (ran bool)) {
	t.Helper()
	b, err := fs.ReadFile(wycheproof.TestVectors, file)
	check(t, err)
	var v struct{ TestGroups []vectorGroup }
	check(t, json.Unmarshal(b, &v))
	ran := 0
	for _, g := range v.TestGroups {
		for _, c := range g.Tests {
			if f(t, g, c) {
				ran++
			}
		}
	}
	if ran < want {
		t.Errorf("%s: %d tests, want %d", file, ran, want)
	}
}

func TestWycheproofAESGCM(t *testing.T) {
	each(t, "aes_gcm_test.json", 60, func(t *testing.T, g vectorGroup, c vectorCase) bool {
		if g.KeySize != 256 || g.IVSize != 96 || g.TagSize != 128 {
			return false
		}
		sealed := append(append(bytes.Clone(c.IV), c.CT...), c.Tag...)
		msg, err := kdfchain.AEAD([32]byte(c.Key)).Open(nil, nil, sealed, c.AAD)
		if (err == nil) != c.valid() || err == nil && !bytes.Equal(msg, c.Msg) {
			t.Errorf("test %d: %v", c.TcID, err)
		}
		return true
	})
}

func TestWycheproofHMAC(t *testing.T) {
	each(t, "hmac_sha256_test.json", 170, func(t *testing.T, g vectorGroup, c vectorCase) bool {
		mac := hmac.New(sha256.New, c.Key)
		mac.Write(c.Msg)
		if hmac.Equal(mac.Sum(nil)[:g.TagSize/8], c.Tag) != c.valid() {
			t.Errorf("test %d", c.TcID)
		}
		return true
	})
}

func TestWycheproofHKDF(t *testing.T) {
	each(t, "hkdf_sha256_test.json", 80, func(t *testing.T, _ vectorGroup, c vectorCase) bool {
		prk, err := hkdf.Extract(sha256.New, c.IKM, c.Salt)
		check(t, err)
		okm, err := hkdf.Expand(sha256.New, prk, string(c.Info), c.Size)
		if (err == nil) != c.valid() || err == nil && !bytes.Equal(okm, c.OKM) {
			t.Errorf("test %d: %v", c.TcID, err)
		}
		return true
	})
}

// Some vectors agree on zero with a point of low order: those are refused, all
// others give the listed secret.
func TestWycheproofX25519(t *testing.T) {
	refused := 0
	each(t, "x25519_test.json", 518, func(t *testing.T, _ vectorGroup, c vectorCase) bool {
		k, err := key.ParseIdentity(c.Private)
		check(t, err)
		shared, err := k.DH(c.Public)
		zero := bytes.Equal(c.Shared, make([]byte, 32))
		if (err != nil) != zero || err == nil && !bytes.Equal(shared, c.Shared) {
			t.Errorf("test %d: %v", c.TcID, err)
		}
		if zero {
			refused++
		}
		return true
	})
	if refused != 31 {
		t.Errorf("%d vectors of low order", refused)
	}
}

func TestWycheproofEd25519(t *testing.T) {
	each(t, "ed25519_test.json", 150, func(t *testing.T, g vectorGroup, c vectorCase) bool {
		if ed25519.Verify(ed25519.PublicKey(g.PublicKey.PK), c.Msg, c.Sig) != c.valid() {
			t.Errorf("test %d", c.TcID)
		}
		return true
	})
}

func TestWycheproofRSAOAEP(t *testing.T) {
	each(t, "rsa_oaep_4096_sha256_mgf1sha256_test.json", 37, func(t *testing.T, g vectorGroup, c vectorCase) bool {
		p, q := make([]byte, 256), make([]byte, 256)
		copy(p, bytes.TrimLeft(g.PrivateKey.Prime1, "\x00"))
		copy(q, bytes.TrimLeft(g.PrivateKey.Prime2, "\x00"))
		k, err := key.ParseRSA(append(p, q...))
		check(t, err)
		msg, err := k.Unwrap(c.CT, c.Label)
		if (err == nil) != c.valid() || err == nil && !bytes.Equal(msg, c.Msg) {
			t.Errorf("test %d: %v", c.TcID, err)
		}
		return true
	})
}

func TestWycheproofMLKEM(t *testing.T) {
	each(t, "mlkem_768_test.json", 200, func(t *testing.T, _ vectorGroup, c vectorCase) bool {
		k, err := mlkem.NewDecapsulationKey768(c.Seed)
		if err == nil {
			var shared []byte
			shared, err = k.Decapsulate(c.C)
			if err == nil && !bytes.Equal(shared, c.K) {
				t.Errorf("test %d: another secret", c.TcID)
			}
		}
		if (err == nil) != c.valid() {
			t.Errorf("test %d: %v", c.TcID, err)
		}
		return true
	})
	each(t, "mlkem_768_keygen_seed_test.json", 100, func(t *testing.T, _ vectorGroup, c vectorCase) bool {
		k, err := mlkem.NewDecapsulationKey768(c.Seed)
		check(t, err)
		if !bytes.Equal(k.EncapsulationKey().Bytes(), c.EK) {
			t.Errorf("test %d: another key", c.TcID)
		}
		return true
	})
	each(t, "mlkem_768_encaps_test.json", 260, func(t *testing.T, _ vectorGroup, c vectorCase) bool {
		k, err := mlkem.NewEncapsulationKey768(c.EK)
		if err == nil {
			shared, ct, err := mlkemtest.Encapsulate768(k, c.M)
			if err != nil || !bytes.Equal(shared, c.K) || !bytes.Equal(ct, c.C) {
				t.Errorf("test %d: %v", c.TcID, err)
			}
		}
		if (err == nil) != c.valid() {
			t.Errorf("test %d: %v", c.TcID, err)
		}
		return true
	})
}
