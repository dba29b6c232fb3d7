package envelope_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/envelope/envelopetest"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
)

var start = time.Unix(1_800_000_000, 0).UTC()

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func devices(t testing.TB) (alice, bob envelopetest.Device) {
	t.Helper()
	return envelopetest.New(t, start, "alice", 0), envelopetest.New(t, start, "bob", 1)
}

func parse(t testing.TB, b []byte) envelope.Opening {
	t.Helper()
	o, rest, err := envelope.ParseOpening(b)
	check(t, err)
	if len(rest) != 0 {
		t.Fatalf("%d bytes left over", len(rest))
	}
	return o
}

func TestSealOpen(t *testing.T) {
	alice, bob := devices(t)
	for _, oneTime := range []bool{true, false} {
		for _, reset := range []bool{true, false} {
			b := bob.Bundle(oneTime)
			check(t, b.Verify(start))
			raw, sent, err := envelope.Seal(alice.Identity, b, 42, reset)
			check(t, err)
			o := parse(t, raw)
			if o.Gen != 42 || o.Reset != reset || o.HasOneTime != oneTime || o.Sender != alice.ID() || o.Recipient != bob.ID() ||
				o.Session != sent.Session || o.SignedID != b.Signed.ID() || o.Cert.Name != "alice" {
				t.Errorf("opening reads %+v", o)
			}
			if !bytes.Equal(o.Marshal(), raw) {
				t.Error("opening is not canonical")
			}
			got, err := envelope.Open(bob.Identity, o, bob.Signed, bob.OneTimeFor(o), bob.RSA)
			check(t, err)
			if *got.Root() != *sent.Root() || got.AD != sent.AD || got.Session != sent.Session {
				t.Error("the two sides derive different secrets")
			}
			if *got.Root() == got.AD || *got.Root() == [32]byte{} || got.Session == (protocol.SessionID{}) {
				t.Error("secrets are not independent")
			}
		}
	}
}

// Two openings towards one device have nothing in common.
func TestOpeningsAreFresh(t *testing.T) {
	alice, bob := devices(t)
	one, s1, err := envelope.Seal(alice.Identity, bob.Bundle(true), 1, false)
	check(t, err)
	two, s2, err := envelope.Seal(alice.Identity, bob.Bundle(true), 1, false)
	check(t, err)
	if *s1.Root() == *s2.Root() || s1.Session == s2.Session {
		t.Error("same secrets")
	}
	for _, off := range []int{envelope.OffEK, envelope.OffKEM, envelope.OffRSA, envelope.OffPrecheck} {
		if bytes.Equal(one[off:off+16], two[off:off+16]) {
			t.Errorf("bytes at %d repeat", off)
		}
	}
}

// What follows the opening is left to the caller.
func TestParseOpeningRest(t *testing.T) {
	alice, bob := devices(t)
	raw, _, err := envelope.Seal(alice.Identity, bob.Bundle(true), 1, false)
	check(t, err)
	if len(raw) > envelope.MaxOpening {
		t.Errorf("%d bytes", len(raw))
	}
	_, rest, err := envelope.ParseOpening(append(bytes.Clone(raw), "message"...))
	check(t, err)
	if string(rest) != "message" {
		t.Errorf("rest is %q", rest)
	}
	for n := range raw {
		if _, _, err := envelope.ParseOpening(raw[:n]); err != envelope.ErrOpen {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func TestSealRefuses(t *testing.T) {
	alice, bob := devices(t)
	lowOrder := bob.Bundle(false)
	lowOrder.Signed.X25519 = [32]byte{}
	badKEM := bob.Bundle(false)
	badKEM.Signed.MLKEM = [1184]byte(bytes.Repeat([]byte{0xff}, 1184))
	noRSA := bob.Bundle(true)
	noRSA.RSA = key.RSAPublic{}
	for name, f := range map[string]func() ([]byte, envelope.Secrets, error){
		"to ourselves": func() ([]byte, envelope.Secrets, error) {
			return envelope.Seal(alice.Identity, alice.Bundle(true), 1, false)
		},
		"certificate of another key": func() ([]byte, envelope.Secrets, error) {
			return envelope.Seal(envelope.Identity{Cert: alice.Cert, Identity: key.NewIdentity()}, bob.Bundle(true), 1, false)
		},
		"zero identity": func() ([]byte, envelope.Secrets, error) {
			return envelope.Seal(envelope.Identity{}, bob.Bundle(true), 1, false)
		},
		"low-order prekey":   func() ([]byte, envelope.Secrets, error) { return envelope.Seal(alice.Identity, lowOrder, 1, false) },
		"invalid ML-KEM key": func() ([]byte, envelope.Secrets, error) { return envelope.Seal(alice.Identity, badKEM, 1, false) },
		"bundle without RSA": func() ([]byte, envelope.Secrets, error) { return envelope.Seal(alice.Identity, noRSA, 1, false) },
		"bundle with nothing": func() ([]byte, envelope.Secrets, error) {
			return envelope.Seal(alice.Identity, envelope.Bundle{}, 1, false)
		},
	} {
		if raw, s, err := f(); err == nil || raw != nil || s.Root != nil {
			t.Errorf("%s: sealed, %v", name, err)
		}
	}
}

// IM-01 and the prekey rules: what a sender checks before it opens a session.
func TestIM01_BundleVerify(t *testing.T) {
	_, bob := devices(t)
	mallory := envelopetest.New(t, start, "mallory", 0)
	signedOnly := func(change func(*envelope.Bundle)) envelope.Bundle {
		b := bob.Bundle(true)
		change(&b)
		return b
	}
	foreign, err := prekey.NewSigned(start, start.Add(time.Hour), bob.ID(), mallory.DSK, bob.RSA.Public().Hash())
	check(t, err)
	otherVersion := bob.Cert
	otherVersion.MinProto, otherVersion.MaxProto = 2, 3
	for name, tt := range map[string]struct {
		bundle envelope.Bundle
		now    time.Time
		want   error
	}{
		"good":                        {bob.Bundle(true), start, nil},
		"good without one-time key":   {bob.Bundle(false), start, nil},
		"RSA key not named":           {signedOnly(func(b *envelope.Bundle) { b.RSA = keytest.RSA(t, 0).Public() }), start, key.ErrInvalid},
		"no RSA key":                  {signedOnly(func(b *envelope.Bundle) { b.RSA = key.RSAPublic{} }), start, key.ErrInvalid},
		"signed by another device":    {signedOnly(func(b *envelope.Bundle) { b.Signed = foreign.Record }), start, key.ErrSignature},
		"signed for another device":   {signedOnly(func(b *envelope.Bundle) { b.Signed = mallory.Signed.Record }), start, key.ErrSignature},
		"one-time of another device":  {signedOnly(func(b *envelope.Bundle) { b.OneTime = &mallory.OneTime.Record }), start, key.ErrSignature},
		"one-time as signed":          {signedOnly(func(b *envelope.Bundle) { b.Signed = *b.OneTime }), start, prekey.ErrMalformed},
		"signed as one-time":          {signedOnly(func(b *envelope.Bundle) { b.OneTime = &b.Signed }), start, prekey.ErrMalformed},
		"zero records":                {envelope.Bundle{Cert: bob.Cert}, start, prekey.ErrMalformed},
		"signed expired":              {bob.Bundle(false), start.Add(prekey.SignedExpires + time.Second), prekey.ErrExpired},
		"one-time expired":            {renewed(t, bob), start.Add(prekey.OneTimeExpires + time.Second), prekey.ErrExpired},
		"certificate of other device": {signedOnly(func(b *envelope.Bundle) { b.Cert = mallory.Cert }), start, key.ErrSignature},
	} {
		if err := tt.bundle.Verify(tt.now); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err = signedOnly(func(b *envelope.Bundle) { b.Cert = otherVersion }).Verify(start)
	if protocol.CodeOf(err) != protocol.UnsupportedVersion {
		t.Errorf("device of another protocol version: %v", err)
	}
}

// renewed is a bundle whose signed prekey is newer than its one-time one.
func renewed(t *testing.T, d envelopetest.Device) envelope.Bundle {
	later := start.Add(prekey.OneTimeExpires)
	p, err := prekey.NewSigned(later, later.Add(time.Hour), d.ID(), d.DSK, d.RSA.Public().Hash())
	check(t, err)
	b := d.Bundle(true)
	b.Signed = p.Record
	return b
}

func TestSecretsRedacted(t *testing.T) {
	root := [32]byte(bytes.Repeat([]byte{0xab}, 32))
	s := envelope.Secrets{Root: key.Hide(&root)}
	inside := struct{ s envelope.Secrets }{s}
	if text := fmt.Sprintf("%v %+v %#v", inside, inside, inside); strings.Contains(text, "abab") || strings.Contains(text, "171 171") || strings.Contains(text, "0xab, 0xab") {
		t.Errorf("inside another struct prints %q", text)
	}
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", &s), fmt.Sprintf("%x", []envelope.Secrets{s})} {
		if strings.Contains(text, "abab") || strings.Contains(text, "171 171") || !strings.Contains(text, "redacted") {
			t.Errorf("prints %q", text)
		}
	}
}

func FuzzParseOpening(f *testing.F) {
	alice, bob := devices(f)
	for _, oneTime := range []bool{true, false} {
		raw, _, err := envelope.Seal(alice.Identity, bob.Bundle(oneTime), 1, !oneTime)
		check(f, err)
		f.Add(raw)
		f.Add(append(raw, "rest"...))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		o, rest, err := envelope.ParseOpening(b)
		if err != nil {
			if err != envelope.ErrOpen {
				t.Fatalf("another error: %v", err)
			}
			return
		}
		if !bytes.Equal(append(o.Marshal(), rest...), b) {
			t.Fatal("not canonical")
		}
		_, _ = envelope.Open(bob.Identity, o, bob.Signed, bob.OneTimeFor(o), bob.RSA)
	})
}

func BenchmarkSeal(b *testing.B) {
	alice, bob := devices(b)
	bundle := bob.Bundle(true)
	for b.Loop() {
		_, _, err := envelope.Seal(alice.Identity, bundle, 1, false)
		check(b, err)
	}
}

func BenchmarkOpen(b *testing.B) {
	alice, bob := devices(b)
	raw, _, err := envelope.Seal(alice.Identity, bob.Bundle(true), 1, false)
	check(b, err)
	o, _, err := envelope.ParseOpening(raw)
	check(b, err)
	for b.Loop() {
		_, err := envelope.Open(bob.Identity, o, bob.Signed, &bob.OneTime, bob.RSA)
		check(b, err)
	}
}
