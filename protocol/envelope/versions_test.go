package envelope_test

import (
	"errors"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/key"
)

// A device that also speaks a later version is talked to in this one, both
// ways; one that no longer speaks this one is refused by name. What a device
// speaks is under its account's signature: whoever serves the certificate
// cannot change it without being noticed.
func TestKLC15_VersionsAreCertified(t *testing.T) {
	alice, bob := devices(t)
	for name, test := range map[string]struct {
		from, to uint16
		talks    bool
	}{
		"this one only":     {protocol.Version, protocol.Version, true},
		"this and the next": {protocol.Version, protocol.Version + 1, true},
		"only the next":     {protocol.Version + 1, protocol.Version + 1, false},
	} {
		fields := bob.Cert
		fields.MinProto, fields.MaxProto = test.from, test.to
		cert, err := account.NewCert(bob.AIK, fields)
		check(t, err)
		newer := bob
		newer.Cert = cert
		if err := newer.Bundle(true).Verify(start); (err == nil) != test.talks || !test.talks && protocol.CodeOf(err) != protocol.UnsupportedVersion {
			t.Errorf("%s: to it: %v", name, err)
		}
		raw, _, err := envelope.Seal(newer.Identity, alice.Bundle(true), 1, false)
		check(t, err)
		calls, err := (attempt{raw, alice.Identity, alice.Signed, &alice.OneTime, alice.RSA}).open()
		if (err == nil) != test.talks || !test.talks && calls != 0 {
			t.Errorf("%s: from it: %v", name, err)
		}

		genuine := cert.Marshal()
		for at := range genuine { // the rendezvous changes what it serves
			changed := append([]byte{}, genuine...)
			changed[at] ^= 3
			served, err := account.ParseCert(changed)
			if err == nil {
				err = served.Verify(bob.AIK.Public(), start)
			}
			if !errors.Is(err, key.ErrSignature) && !errors.Is(err, account.ErrMalformed) && !errors.Is(err, account.ErrExpired) {
				t.Fatalf("%s: byte %d changed: %v", name, at, err)
			}
		}
	}
}
