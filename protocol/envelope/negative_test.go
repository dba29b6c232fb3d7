package envelope_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/envelope/envelopetest"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
)

// attempt is what a device gets to open an opening with.
type attempt struct {
	raw     []byte
	self    envelope.Identity
	signed  prekey.Pair
	oneTime *prekey.Pair
	rsa     key.RSAPrivate
}

// open does what a device does, and tells how often RSA was used.
func (a attempt) open() (calls int, err error) {
	o, _, err := envelope.ParseOpening(a.raw)
	if err != nil {
		return 0, err
	}
	_, err = envelope.OpenCounting(a.self, o, a.signed, a.oneTime, a.rsa, &calls)
	return calls, err
}

// Everything that can be wrong with an opening gives one and the same error,
// and nothing a stranger can do reaches RSA.
func TestOpenRefuses(t *testing.T) {
	alice, bob := devices(t)
	mallory := envelopetest.New(t, start, "mallory", 0)
	raw, _, err := envelope.Seal(alice.Identity, bob.Bundle(true), 1, false)
	check(t, err)
	rawSigned, _, err := envelope.Seal(alice.Identity, bob.Bundle(false), 1, false)
	check(t, err)
	good := attempt{raw, bob.Identity, bob.Signed, &bob.OneTime, bob.RSA}
	if calls, err := good.open(); err != nil || calls != 1 {
		t.Fatalf("good opening: %v, RSA used %d times", err, calls)
	}
	freshSigned, err := prekey.NewSigned(start, start.Add(time.Hour), bob.ID(), bob.DSK, bob.RSA.Public().Hash())
	check(t, err)
	freshOneTime, err := prekey.NewOneTime(start, start.Add(time.Hour), bob.ID(), bob.DSK)
	check(t, err)

	flip := func(i int, x byte) func(*attempt) {
		return func(a *attempt) {
			a.raw = bytes.Clone(a.raw)
			a.raw[i] ^= x
		}
	}
	withCert := func(c account.Cert) func(*attempt) {
		return func(a *attempt) { a.raw = replaceCert(a.raw, c) }
	}
	for name, change := range map[string]func(*attempt){
		"version 0":                   flip(0, 1),
		"version 2":                   flip(0, 3),
		"type of a ratchet message":   flip(1, 3),
		"unknown type":                flip(1, 4),
		"unknown flag":                flip(2, 4),
		"reset added":                 flip(2, 2),
		"one-time flag removed":       flip(2, 1),
		"reserved byte":               flip(3, 1),
		"generation":                  flip(27, 1),
		"sender":                      flip(28, 1),
		"recipient":                   flip(60, 1),
		"signed prekey id":            flip(92, 1),
		"one-time prekey id":          flip(108, 1),
		"ephemeral key":               flip(124, 1),
		"ephemeral key of low order":  func(a *attempt) { a.raw = bytes.Clone(a.raw); clear(a.raw[124:156]) },
		"ML-KEM ciphertext":           flip(156, 1),
		"ML-KEM ciphertext too short": func(a *attempt) { a.raw = append(bytes.Clone(a.raw[:1243]), a.raw[1244:]...) },
		"ML-KEM ciphertext too long":  func(a *attempt) { a.raw = append(append(bytes.Clone(a.raw[:1244]), 0), a.raw[1244:]...) },
		"RSA ciphertext":              flip(1244, 1),
		"precheck, first bit":         flip(1756, 0x80),
		"precheck, last bit":          flip(1771, 1),
		"certificate length":          flip(1773, 1),

		"certificate of another account":   withCert(mallory.Cert),
		"certificate of the recipient":     withCert(bob.Cert),
		"sender's keys in another account": withCert(claim(t, mallory, alice)),
		"another sender and its cert": func(a *attempt) {
			a.raw = replaceCert(a.raw, mallory.Cert)
			id := mallory.ID()
			copy(a.raw[28:], id[:])
		},

		"no signed prekey":         func(a *attempt) { a.signed = prekey.Pair{} },
		"another signed prekey":    func(a *attempt) { a.signed = freshSigned },
		"unknown one-time prekey":  func(a *attempt) { a.oneTime = nil },
		"another one-time prekey":  func(a *attempt) { a.oneTime = &freshOneTime },
		"one-time prekey, no half": func(a *attempt) { a.oneTime = &prekey.Pair{Record: bob.OneTime.Record} },
		"one-time not named":       func(a *attempt) { a.raw = rawSigned },
		"kinds swapped":            func(a *attempt) { a.signed, a.oneTime = bob.OneTime, &bob.Signed },
		"signed as one-time":       func(a *attempt) { a.oneTime = &bob.Signed },
		"RSA key not named":        func(a *attempt) { a.rsa = keytest.RSA(t, 0) },
		"no RSA key":               func(a *attempt) { a.rsa = key.RSAPrivate{} },
		"another recipient":        func(a *attempt) { a.self = mallory.Identity },
		"sender opens its own":     func(a *attempt) { a.self = alice.Identity },
		"recipient's other key":    func(a *attempt) { a.self.Identity = key.NewIdentity() },
		"no identity":              func(a *attempt) { a.self = envelope.Identity{} },
		"empty":                    func(a *attempt) { a.raw = nil },
	} {
		a := good
		change(&a)
		calls, err := a.open()
		if err != envelope.ErrOpen {
			t.Errorf("%s: %v", name, err)
		}
		if calls != 0 {
			t.Errorf("%s: RSA was used", name)
		}
	}
	if calls, err := good.open(); err != nil || calls != 1 {
		t.Fatalf("afterwards: %v", err)
	}
}

func replaceCert(raw []byte, c account.Cert) []byte {
	b := c.Marshal()
	out := append(bytes.Clone(raw[:envelope.HeaderSize]), byte(len(b)>>8), byte(len(b)))
	return append(out, b...)
}

// claim is a certificate by which one account claims another's device.
func claim(t *testing.T, thief, owner envelopetest.Device) account.Cert {
	fields := owner.Cert
	fields.Account = thief.Chain.Account()
	c, err := account.NewCert(thief.AIK, fields)
	check(t, err)
	return c
}

// No single bit can be changed. Only the session id, which is derived last,
// gets as far as RSA; the certificate is checked by its own signature.
func TestOpenEveryByteMatters(t *testing.T) {
	alice, bob := devices(t)
	raw, _, err := envelope.Seal(alice.Identity, bob.Bundle(false), 1, true)
	check(t, err)
	for i := range raw {
		bad := bytes.Clone(raw)
		bad[i] ^= 1 << (i % 8)
		calls, err := attempt{bad, bob.Identity, bob.Signed, nil, bob.RSA}.open()
		if i >= envelope.OffCert {
			o, _, parseErr := envelope.ParseOpening(bad)
			if parseErr == nil && err == nil && alice.Chain.Check(o.Cert, start) == nil {
				t.Fatalf("byte %d of the certificate does not matter", i-envelope.OffCert)
			}
			continue
		}
		if err != envelope.ErrOpen {
			t.Fatalf("byte %d: %v", i, err)
		}
		inSession := i >= envelope.OffSession && i < envelope.OffSession+16
		if (calls > 0) != inSession {
			t.Fatalf("byte %d: RSA used %d times", i, calls)
		}
	}
}

// IM-06: a rendezvous that knows every public key cannot open a session in
// Alice's name, nor turn an opening around, nor move it to another recipient.
func TestIM06_ForgedSenderRefused(t *testing.T) {
	alice, bob := devices(t)
	carol := envelopetest.New(t, start, "carol", 0)
	none := func(*envelope.Opening) {}
	refused := func(name string, o envelope.Opening, d envelopetest.Device, wantRSA int) {
		t.Helper()
		calls := 0
		_, err := envelope.OpenCounting(d.Identity, o, d.Signed, d.OneTimeFor(o), d.RSA, &calls)
		if err != envelope.ErrOpen || calls != wantRSA {
			t.Errorf("%s: %v, RSA used %d times", name, err, calls)
		}
	}
	// Alice's certificate with a key of the forger's.
	forged, _, err := envelope.SealUnchecked(envelope.Identity{Cert: alice.Cert, Identity: key.NewIdentity()}, bob.Bundle(true), none)
	check(t, err)
	refused("forged sender", forged, bob, 0)
	// An opening from Carol to Alice passed on to Bob.
	moved, _, err := envelope.SealUnchecked(carol.Identity, alice.Bundle(true), none)
	check(t, err)
	moved.Recipient = bob.ID()
	moved.SignedID, moved.OneTimeID = bob.Signed.Record.ID(), bob.OneTime.Record.ID()
	refused("moved to another recipient", moved, bob, 0)
	// Bob's own opening sent back to him.
	reflected, _, err := envelope.SealUnchecked(bob.Identity, bob.Bundle(true), none)
	check(t, err)
	refused("reflected", reflected, bob, 0)
	// A sender that is who it says, but lies inside: RSA is used, the error is
	// the same.
	wrongKey := bob.Bundle(true)
	wrongKey.RSA = keytest.RSA(t, 0).Public()
	lie, _, err := envelope.SealUnchecked(alice.Identity, wrongKey, none)
	check(t, err)
	refused("secret wrapped to another RSA key", lie, bob, 1)
	other, _, err := envelope.SealUnchecked(alice.Identity, bob.Bundle(true), none)
	check(t, err)
	other.Session = protocol.SessionID{1}
	refused("session id of choice", other, bob, 1)
}

// The secret inside the RSA ciphertext has one length.
func TestOpenRefusesOtherSecrets(t *testing.T) {
	alice, bob := devices(t)
	raw, _, err := envelope.Seal(alice.Identity, bob.Bundle(true), 1, false)
	check(t, err)
	for _, n := range []int{0, 31, 32, 33, 446} {
		_, err := envelope.OpenUnwrapping(bob.Identity, parse(t, raw), bob.Signed, &bob.OneTime, bob.RSA.Public(), make([]byte, n))
		if err != envelope.ErrOpen {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// A zero identity key is of low order: agreement with it is refused by both
// sides.
func TestNoIdentityKeyRefused(t *testing.T) {
	alice, bob := devices(t)
	cert := alice.Cert
	cert.Identity = key.IdentityPublic{}
	o, _, err := envelope.SealUnchecked(envelope.Identity{Cert: cert, Identity: key.NewIdentity()}, bob.Bundle(true), func(*envelope.Opening) {})
	check(t, err)
	calls := 0
	if _, err := envelope.OpenCounting(bob.Identity, o, bob.Signed, &bob.OneTime, bob.RSA, &calls); err != envelope.ErrOpen || calls != 0 {
		t.Errorf("opened: %v, RSA used %d times", err, calls)
	}
	b := bob.Bundle(true)
	b.Cert = cert
	if _, _, err := envelope.Seal(alice.Identity, b, 1, false); err == nil {
		t.Error("sealed to a point of low order")
	}
}

// An opening of version 1 from a device that is certified not to speak it is a
// downgrade.
func TestSenderMustSpeakVersion(t *testing.T) {
	alice, bob := devices(t)
	fields := alice.Cert
	fields.MinProto, fields.MaxProto = protocol.Version+1, protocol.Version+2
	cert, err := account.NewCert(alice.AIK, fields)
	check(t, err)
	raw, _, err := envelope.Seal(envelope.Identity{Cert: cert, Identity: alice.Identity.Identity}, bob.Bundle(true), 1, false)
	check(t, err)
	if calls, err := (attempt{raw, bob.Identity, bob.Signed, &bob.OneTime, bob.RSA}).open(); err != envelope.ErrOpen || calls != 0 {
		t.Errorf("opened: %v, RSA used %d times", err, calls)
	}
}

// The ephemeral key has one encoding: it is half of what a receiver remembers
// of an opening.
func TestEphemeralKeyHasOneEncoding(t *testing.T) {
	alice, bob := devices(t)
	raw, _, err := envelope.Seal(alice.Identity, bob.Bundle(false), 1, false)
	check(t, err)
	raw[envelope.OffEK+31] |= 0x80
	if _, _, err := envelope.ParseOpening(raw); err != envelope.ErrOpen {
		t.Errorf("parsed: %v", err)
	}
}
