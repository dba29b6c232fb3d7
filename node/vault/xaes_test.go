package vault

import (
	"bytes"
	"crypto/sha3"
	"encoding/hex"
	"testing"
)

// The vectors of c2sp.org/XAES-256-GCM: the first has the top bit of L clear,
// the second has it set.
var xaesVectors = []struct {
	name   string
	key    byte // repeated
	aad    string
	sealed string
}{
	{"no aad", 0x01, "", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
	{"aad", 0x03, "c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
}

func newTestXAES(t testing.TB, key []byte) *xaes {
	t.Helper()
	x, err := newXAES((*[keySize]byte)(key))
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestXAESVectors(t *testing.T) {
	nonce, plain := []byte("ABCDEFGHIJKLMNOPQRSTUVWX"), []byte("XAES-256-GCM")
	for _, v := range xaesVectors {
		t.Run(v.name, func(t *testing.T) {
			x := newTestXAES(t, bytes.Repeat([]byte{v.key}, keySize))
			got, err := x.sealWith(nil, nonce, plain, []byte(v.aad))
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(got) != v.sealed {
				t.Errorf("sealed %x, want %s", got, v.sealed)
			}
			opened, err := x.open(append(nonce, got...), []byte(v.aad))
			if err != nil || !bytes.Equal(opened, plain) {
				t.Errorf("opened %q, %v", opened, err)
			}
		})
	}
}

// TestXAESAccumulated is the specification's test over 10,000 random inputs.
func TestXAESAccumulated(t *testing.T) {
	source, digest := sha3.NewSHAKE128(), sha3.NewSHAKE128()
	read := func(n int) []byte {
		b := make([]byte, n)
		source.Read(b)
		return b
	}
	for range 10_000 {
		x := newTestXAES(t, read(keySize))
		nonce := read(nonceSize)
		plain := read(int(read(1)[0]))
		aad := read(int(read(1)[0]))
		sealed, err := x.sealWith(nil, nonce, plain, aad)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := x.open(append(nonce, sealed...), aad)
		if err != nil || !bytes.Equal(opened, plain) {
			t.Fatalf("opened %x, %v, want %x", opened, err, plain)
		}
		digest.Write(sealed)
	}
	sum := make([]byte, 32)
	digest.Read(sum)
	const want = "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939"
	if hex.EncodeToString(sum) != want {
		t.Errorf("digest %x, want %s", sum, want)
	}
}

func TestXAESRefusesEveryChangedBit(t *testing.T) {
	x := newTestXAES(t, bytes.Repeat([]byte{7}, keySize))
	sealed, err := x.seal(nil, []byte("hello"), []byte("row"))
	if err != nil {
		t.Fatal(err)
	}
	for bit := range 8 * len(sealed) {
		bad := bytes.Clone(sealed)
		bad[bit/8] ^= 1 << (bit % 8)
		if plain, err := x.open(bad, []byte("row")); err == nil {
			t.Fatalf("bit %d changed: opened %q", bit, plain)
		}
	}
	for n := range sealed {
		if _, err := x.open(sealed[:n], []byte("row")); err == nil {
			t.Fatalf("opened the first %d bytes", n)
		}
	}
	if _, err := x.open(sealed, []byte("other row")); err == nil {
		t.Fatal("opened with other additional data")
	}
}

func BenchmarkSealValue1KiB(b *testing.B) {
	s := &Store{vault: &Vault{values: newTestXAES(b, make([]byte, keySize))}, ephemeral: ephemeral}
	tx := sealedTx{store: s}
	key, value := make([]byte, 40), make([]byte, 1024)
	b.SetBytes(1024)
	for b.Loop() {
		if _, err := tx.seal(key, value); err != nil {
			b.Fatal(err)
		}
	}
}
