// Package envelopetest gives tests complete devices: an account with one
// certified device, its keys and its prekeys.
package envelopetest

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
)

// Device is a device that holds everything a real one does.
type Device struct {
	envelope.Identity
	AIK     key.AccountPrivate
	DSK     key.DevicePrivate
	RSA     key.RSAPrivate
	Chain   *account.Chain
	Signed  prekey.Pair
	OneTime prekey.Pair
}

// New makes a device of a new account. Rsa is the number of its fixed RSA key.
func New(t testing.TB, now time.Time, name string, rsa int) Device {
	t.Helper()
	d := Device{AIK: key.NewAccount(), DSK: key.NewDevice(), RSA: keytest.RSA(t, rsa)}
	chain, err := account.Create(now, d.AIK, key.NewRecovery().Public())
	check(t, err)
	d.Identity.Identity = key.NewIdentity()
	d.Cert, err = account.NewCert(d.AIK, account.Cert{
		Account: chain.Account(), Signing: d.DSK.Public(), Identity: d.Identity.Identity.Public(),
		PeerID: key.NewHost().Public().PeerID(), MinProto: protocol.Version, MaxProto: protocol.Version,
		Created: now, NotAfter: now.AddDate(1, 0, 0), Name: name,
	})
	check(t, err)
	d.Chain, err = chain.AddDevice(now, d.AIK, d.Cert)
	check(t, err)
	d.Signed, err = prekey.NewSigned(now, now.Add(prekey.SignedExpires), d.ID(), d.DSK, d.RSA.Public().Hash())
	check(t, err)
	d.OneTime, err = prekey.NewOneTime(now, now.Add(prekey.OneTimeExpires), d.ID(), d.DSK)
	check(t, err)
	return d
}

// ID is the device's id.
func (d Device) ID() protocol.DeviceID { return d.Cert.DeviceID() }

// Bundle is what others need to open a session with the device, with its
// one-time prekey or without.
func (d Device) Bundle(oneTime bool) envelope.Bundle {
	b := envelope.Bundle{Cert: d.Cert, Signed: d.Signed.Record, RSA: d.RSA.Public()}
	if oneTime {
		b.OneTime = &d.OneTime.Record
	}
	return b
}

// OneTimeFor is the one-time pair an opening names, nil if it names none.
func (d Device) OneTimeFor(o envelope.Opening) *prekey.Pair {
	if !o.HasOneTime {
		return nil
	}
	return &d.OneTime
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
