package envelope_test

import (
	"bytes"
	"testing"
	"testing/cryptotest"

	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/envelope/envelopetest"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
)

// vector is an opening with all the recipient needs to open it. Sealing is
// random, so the vectors are checked in the direction of opening.
type vector struct {
	Comment       string      `json:"comment"`
	RecipientCert keytest.Hex `json:"recipient_cert"`
	DIKPrivate    keytest.Hex `json:"recipient_dik_private"`
	SignedPair    keytest.Hex `json:"recipient_signed_pair"`
	OneTimePair   keytest.Hex `json:"recipient_one_time_pair,omitempty"`
	RSAPrimes     keytest.Hex `json:"recipient_rsa_primes"`
	Opening       keytest.Hex `json:"opening"`
	Transcript    keytest.Hex `json:"transcript"`
	Precheck      keytest.Hex `json:"precheck"`
	Root          keytest.Hex `json:"root_key"`
	AD            keytest.Hex `json:"ad"`
	Session       keytest.Hex `json:"session_id"`
}

func TestVectors(t *testing.T) {
	const file = "opening.json"
	if keytest.Updating() {
		cryptotest.SetGlobalRandom(t, 1)
		keytest.Golden(t, file, []vector{
			makeVector(t, "with a one-time prekey, generation 1800000000", true),
			makeVector(t, "without a one-time prekey, with reset", false),
		})
	}
	var vectors []vector
	keytest.LoadGolden(t, file, &vectors)
	for _, v := range vectors {
		v.check(t)
	}
}

func makeVector(t *testing.T, comment string, oneTime bool) vector {
	alice, bob := devices(t)
	raw, s, err := envelope.Seal(alice.Identity, bob.Bundle(oneTime), 1_800_000_000, !oneTime)
	check(t, err)
	o := parse(t, raw)
	v := vector{
		Comment: comment, RecipientCert: bob.Cert.Marshal(), DIKPrivate: bob.Identity.Identity.Bytes(),
		SignedPair: bob.Signed.Marshal(), RSAPrimes: bob.RSA.Bytes(), Opening: raw,
		Precheck: o.Precheck(), Root: s.Root()[:], AD: s.AD[:], Session: s.Session[:],
	}
	if oneTime {
		v.OneTimePair = bob.OneTime.Marshal()
	}
	transcript := o.Transcript(bob.Cert, bob.Signed.Record.Marshal(), oneTimeBytes(bob, oneTime))
	v.Transcript = transcript[:]
	return v
}

func oneTimeBytes(d envelopetest.Device, oneTime bool) []byte {
	if !oneTime {
		return nil
	}
	return d.OneTime.Record.Marshal()
}

func (v vector) check(t *testing.T) {
	t.Helper()
	cert, err := account.ParseCert(v.RecipientCert)
	check(t, err)
	dik, err := key.ParseIdentity(v.DIKPrivate)
	check(t, err)
	rsa, err := key.ParseRSA(v.RSAPrimes)
	check(t, err)
	signed, err := prekey.ParsePair(v.SignedPair)
	check(t, err)
	var oneTime *prekey.Pair
	var record []byte
	if len(v.OneTimePair) > 0 {
		p, err := prekey.ParsePair(v.OneTimePair)
		check(t, err)
		oneTime, record = &p, p.Record.Marshal()
	}
	o := parse(t, v.Opening)
	transcript := o.Transcript(cert, signed.Record.Marshal(), record)
	s, err := envelope.Open(envelope.Identity{Cert: cert, Identity: dik}, o, signed, oneTime, rsa)
	check(t, err)
	for name, pair := range map[string][2][]byte{
		"transcript": {transcript[:], v.Transcript},
		"precheck":   {o.Precheck(), v.Precheck},
		"root":       {s.Root()[:], v.Root},
		"ad":         {s.AD[:], v.AD},
		"session":    {s.Session[:], v.Session},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("%s: %s is %x, want %x", v.Comment, name, pair[0], pair[1])
		}
	}
}
