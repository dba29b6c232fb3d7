package prekey

import (
	"bytes"
	"crypto/mlkem"
	"crypto/mlkem/mlkemtest"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

var (
	start   = time.Unix(1_800_000_000, 0).UTC()
	device  = protocol.DeviceID{1, 2, 3}
	rsaHash = [32]byte{7}
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pairs makes one prekey of each kind.
func pairs(t testing.TB, dsk key.DevicePrivate) []Pair {
	t.Helper()
	signed, err := NewSigned(start, start.Add(SignedExpires), device, dsk, rsaHash)
	check(t, err)
	oneTime, err := NewOneTime(start, start.Add(OneTimeExpires), device, dsk)
	check(t, err)
	return []Pair{signed, oneTime}
}

// A private half outlives every opening made with the published half: made in
// the last second before expiry, held in a mailbox for as long as it may be.
func TestNoGap(t *testing.T) {
	const day = 24 * time.Hour
	if SignedKeep < SignedExpires+protocol.MailboxTTL+day {
		t.Error("signed prekeys are destroyed too early")
	}
	if OneTimeKeep < OneTimeExpires+protocol.MailboxTTL+day {
		t.Error("one-time prekeys are destroyed too early")
	}
	if SignedEvery >= SignedExpires {
		t.Error("a device that rotates in time has no valid signed prekey for a while")
	}
	for _, p := range pairs(t, key.NewDevice()) {
		if p.Record.KeepUntil().Before(p.Record.Expires.Add(protocol.MailboxTTL + day)) {
			t.Errorf("kind %d: KeepUntil", p.Record.Kind)
		}
	}
}

func TestRecordRoundTrip(t *testing.T) {
	dsk := key.NewDevice()
	sizes := map[Kind]int{Signed: SignedSize, OneTime: OneTimeSize}
	for _, p := range pairs(t, dsk) {
		b := p.Record.Marshal()
		if len(b) != sizes[p.Record.Kind] {
			t.Errorf("kind %d: %d bytes", p.Record.Kind, len(b))
		}
		r, err := Parse(b)
		check(t, err)
		if r != p.Record || r.ID() != p.Record.ID() || !bytes.Equal(r.Marshal(), b) {
			t.Errorf("kind %d: came back different", r.Kind)
		}
		check(t, r.Verify(device, dsk.Public()))
	}
}

// The id names the key and nothing else, and making the signature again
// gives the same bytes, so a repeated upload is the same upload.
func TestIDNamesTheKey(t *testing.T) {
	dsk := key.NewDevice()
	p := pairs(t, dsk)[1]
	resigned := p.Record
	resigned.sig = [64]byte{1}
	if resigned.ID() != p.Record.ID() {
		t.Error("the id depends on the signature")
	}
	sig, err := dsk.Sign(labelPrekey, device[:], p.Record.body())
	check(t, err)
	if !bytes.Equal(sig, p.Record.sig[:]) {
		t.Error("the signature is not deterministic")
	}
	other := p.Record
	other.X25519[0] ^= 1
	if other.ID() == p.Record.ID() {
		t.Error("another key has the same id")
	}
}

func TestRecordDamaged(t *testing.T) {
	dsk := key.NewDevice()
	for _, p := range pairs(t, dsk) {
		b := p.Record.Marshal()
		for i := range b {
			bad := bytes.Clone(b)
			bad[i] ^= 1 << (i % 8)
			if r, err := Parse(bad); err == nil && r.Verify(device, dsk.Public()) == nil {
				t.Fatalf("kind %d: byte %d does not matter", p.Record.Kind, i)
			}
		}
		for _, n := range []int{0, 1, len(b) - 1, len(b) + 1, len(b) + 32} {
			if _, err := Parse(append(bytes.Clone(b), make([]byte, 32)...)[:min(n, len(b)+32)]); !errors.Is(err, ErrMalformed) {
				t.Errorf("kind %d: %d bytes: %v", p.Record.Kind, n, err)
			}
		}
	}
}

// The agreement key has one encoding and is not of low order.
func TestRecordX25519(t *testing.T) {
	for _, p := range pairs(t, key.NewDevice()) {
		again := p.Record
		again.X25519[31] |= 0x80
		zero := p.Record
		zero.X25519 = [32]byte{}
		for _, r := range []Record{again, zero} {
			if _, err := Parse(r.Marshal()); !errors.Is(err, ErrMalformed) {
				t.Errorf("kind %d: key %x: %v", r.Kind, r.X25519, err)
			}
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	dsk := key.NewDevice()
	for _, p := range pairs(t, dsk) {
		r := p.Record
		if err := r.Verify(protocol.DeviceID{9}, dsk.Public()); !errors.Is(err, key.ErrSignature) {
			t.Errorf("signature for another device: %v", err)
		}
		if err := r.Verify(device, key.NewDevice().Public()); !errors.Is(err, key.ErrSignature) {
			t.Errorf("signature of another device: %v", err)
		}
		swapped := r
		swapped.Kind = Signed + OneTime - r.Kind
		if err := swapped.Verify(device, dsk.Public()); !errors.Is(err, key.ErrSignature) {
			t.Errorf("swapped kind: %v", err)
		}
		crossed := r
		sig, err := dsk.Sign("upload", device[:], r.body())
		check(t, err)
		crossed.sig = [64]byte(sig)
		if err := crossed.Verify(device, dsk.Public()); !errors.Is(err, key.ErrSignature) {
			t.Errorf("signature for another purpose: %v", err)
		}
		notKEM := r
		for i := range notKEM.MLKEM {
			notKEM.MLKEM[i] = 0xff // coefficients over the modulus (FIPS 203, 7.2)
		}
		sig, err = dsk.Sign(labelPrekey, device[:], notKEM.body())
		check(t, err)
		notKEM.sig = [64]byte(sig)
		if err := notKEM.Verify(device, dsk.Public()); !errors.Is(err, ErrMalformed) {
			t.Errorf("invalid ML-KEM key: %v", err)
		}
	}
}

func TestLife(t *testing.T) {
	dsk := key.NewDevice()
	for name, life := range map[string]time.Duration{"none": 0, "negative": -time.Hour, "too long": SignedExpires + time.Second} {
		if _, err := NewSigned(start, start.Add(life), device, dsk, rsaHash); !errors.Is(err, ErrMalformed) {
			t.Errorf("signed, life %s: %v", name, err)
		}
	}
	if _, err := NewOneTime(start, start.Add(OneTimeExpires+time.Second), device, dsk); !errors.Is(err, ErrMalformed) {
		t.Errorf("one-time, life too long: %v", err)
	}
	if _, err := NewOneTime(time.Unix(-1, 0), start, device, dsk); !errors.Is(err, ErrMalformed) {
		t.Errorf("made before 1970: %v", err)
	}
	if _, err := NewOneTime(start, start.Add(time.Hour), device, key.DevicePrivate{}); !errors.Is(err, key.ErrInvalid) {
		t.Errorf("zero signing key: %v", err)
	}
	r := pairs(t, dsk)[0].Record
	if err := r.CheckTime(r.Expires); err != nil {
		t.Errorf("in its last second: %v", err)
	}
	if err := r.CheckTime(r.Expires.Add(time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	// Times are cut to seconds before they are signed.
	p, err := NewOneTime(start.Add(999*time.Millisecond), start.Add(time.Hour), device, dsk)
	check(t, err)
	if !p.Record.Created.Equal(start) {
		t.Errorf("created %v", p.Record.Created)
	}
}

func TestPairRoundTrip(t *testing.T) {
	dsk := key.NewDevice()
	for _, p := range pairs(t, dsk) {
		back, err := ParsePair(p.Marshal())
		check(t, err)
		if back.Record != p.Record || !bytes.Equal(back.Marshal(), p.Marshal()) {
			t.Errorf("kind %d: came back different", p.Record.Kind)
		}
		other := key.NewIdentity()
		ours, err := back.DH(other.Public().Bytes())
		check(t, err)
		theirs, err := other.DH(p.Record.X25519[:])
		check(t, err)
		if !bytes.Equal(ours, theirs) {
			t.Errorf("kind %d: X25519 halves do not fit", p.Record.Kind)
		}
		ek, err := mlkem.NewEncapsulationKey768(p.Record.MLKEM[:])
		check(t, err)
		want, ct := ek.Encapsulate()
		got, err := back.Decapsulate(ct)
		check(t, err)
		if !bytes.Equal(got, want) {
			t.Errorf("kind %d: ML-KEM halves do not fit", p.Record.Kind)
		}
		if _, err := back.Decapsulate(ct[1:]); err == nil {
			t.Error("short ciphertext")
		}
		if _, err := back.DH(make([]byte, 32)); err == nil {
			t.Error("point of low order")
		}
	}
}

func TestPairRefuses(t *testing.T) {
	dsk := key.NewDevice()
	a, b := pairs(t, dsk)[1], pairs(t, dsk)[1]
	mixed := append(a.Record.Marshal(), b.Marshal()[OneTimeSize:]...)
	if _, err := ParsePair(mixed); !errors.Is(err, ErrMalformed) {
		t.Errorf("halves of two pairs: %v", err)
	}
	mixed = append(a.Marshal()[:OneTimeSize+32], b.Marshal()[OneTimeSize+32:]...)
	p, err := ParsePair(mixed)
	check(t, err)
	if _, err := p.Decapsulate(make([]byte, mlkem.CiphertextSize768)); !errors.Is(err, ErrMalformed) {
		t.Errorf("ML-KEM halves of two pairs: %v", err)
	}
	for _, n := range []int{0, 95, 96, OneTimeSize, OneTimeSize + 95, OneTimeSize + 97} {
		if _, err := ParsePair(append(a.Marshal(), 0)[:n]); !errors.Is(err, ErrMalformed) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	var zero Pair
	if zero.Marshal() != nil || zero.X25519() != nil {
		t.Error("zero pair has bytes")
	}
	if _, err := zero.DH(make([]byte, 32)); err == nil {
		t.Error("zero pair agrees")
	}
	if _, err := zero.Decapsulate(make([]byte, mlkem.CiphertextSize768)); err == nil {
		t.Error("zero pair decapsulates")
	}
}

func TestPairRedacted(t *testing.T) {
	p := pairs(t, key.NewDevice())[0]
	secret := hex.EncodeToString(p.X25519()[:8])
	type outer struct{ p Pair }
	for _, v := range []any{p, &p, outer{p}, []Pair{p}} {
		b, _ := json.Marshal(v)
		for _, text := range []string{fmt.Sprintf("%x", v), fmt.Sprintf("%#x", v), string(b)} {
			if strings.Contains(strings.ReplaceAll(text, "0x", ""), secret) {
				t.Errorf("private half in %q", text)
			}
		}
	}
}

// vector is one record of each kind, from fixed seeds.
type vector struct {
	Comment    string      `json:"comment"`
	DSKSeed    keytest.Hex `json:"dsk_seed"`
	DeviceID   keytest.Hex `json:"device_id"`
	X25519     keytest.Hex `json:"x25519_private"`
	MLKEMSeed  keytest.Hex `json:"mlkem_seed"`
	RSAHash    keytest.Hex `json:"rsa_hash"`
	Signed     keytest.Hex `json:"signed"`
	SignedID   keytest.Hex `json:"signed_id"`
	OneTime    keytest.Hex `json:"one_time"`
	OneTimeID  keytest.Hex `json:"one_time_id"`
	EncapsRand keytest.Hex `json:"encapsulation_randomness"`
	Ciphertext keytest.Hex `json:"ciphertext"`
	Shared     keytest.Hex `json:"shared_secret"`
}

func TestVectors(t *testing.T) {
	v := vector{
		Comment: "created 1800000000; the signed record lives 14 days, the one-time record 30; both with the same keys",
		DSKSeed: keytest.Seed("dsk", 32), DeviceID: device[:], RSAHash: rsaHash[:],
		X25519: keytest.Seed("x25519", 32), MLKEMSeed: keytest.Seed("mlkem", 64), EncapsRand: keytest.Seed("encaps", 32),
	}
	dsk, err := key.ParseDevice(v.DSKSeed)
	check(t, err)
	s, err := parseSecret(append(bytes.Clone(v.X25519), v.MLKEMSeed...))
	check(t, err)
	signed, err := signRecord(Record{Kind: Signed, Created: start, Expires: start.Add(SignedExpires), RSAHash: rsaHash}, s, device, dsk)
	check(t, err)
	oneTime, err := signRecord(Record{Kind: OneTime, Created: start, Expires: start.Add(OneTimeExpires)}, s, device, dsk)
	check(t, err)
	signedID, oneTimeID := signed.Record.ID(), oneTime.Record.ID()
	v.Signed, v.SignedID = signed.Record.Marshal(), signedID[:]
	v.OneTime, v.OneTimeID = oneTime.Record.Marshal(), oneTimeID[:]

	ek, err := mlkem.NewEncapsulationKey768(signed.Record.MLKEM[:])
	check(t, err)
	v.Shared, v.Ciphertext, err = mlkemtest.Encapsulate768(ek, v.EncapsRand)
	check(t, err)
	shared, err := signed.Decapsulate(v.Ciphertext)
	check(t, err)
	if !bytes.Equal(shared, v.Shared) {
		t.Error("decapsulated another secret")
	}
	keytest.Golden(t, "prekey.json", v)
}

func FuzzParse(f *testing.F) {
	for _, p := range pairs(f, key.NewDevice()) {
		f.Add(p.Record.Marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Parse(b)
		if err == nil && !bytes.Equal(r.Marshal(), b) {
			t.Fatal("not canonical")
		}
	})
}

func FuzzParsePair(f *testing.F) {
	for _, p := range pairs(f, key.NewDevice()) {
		f.Add(p.Marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePair(b)
		if err == nil && !bytes.Equal(p.Marshal(), b) {
			t.Fatal("not canonical")
		}
	})
}

func BenchmarkNewOneTime(b *testing.B) {
	dsk := key.NewDevice()
	for b.Loop() {
		_, err := NewOneTime(start, start.Add(OneTimeExpires), device, dsk)
		check(b, err)
	}
}

func BenchmarkVerify(b *testing.B) {
	dsk := key.NewDevice()
	r, pub := pairs(b, dsk)[0].Record, dsk.Public()
	for b.Loop() {
		check(b, r.Verify(device, pub))
	}
}
