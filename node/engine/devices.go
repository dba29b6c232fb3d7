package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

// What changes the account's chain. Each returns the longer chain, to be
// uploaded; it counts when the rendezvous took it and SetOwnChain was told. If
// the rendezvous says that another was there first: look the own account up,
// and do it again.

// OwnDevice is one device of this account.
type OwnDevice struct {
	ID                protocol.DeviceID
	Name              string
	Created, NotAfter time.Time
	This              bool
	PeerID            []byte
}

// OwnDevices returns the devices of this account that are not revoked, oldest
// first, those with an expired certificate included.
func (e *Engine) OwnDevices(tx store.Tx, now time.Time) ([]OwnDevice, error) {
	c, err := e.OwnChain(tx)
	if err != nil {
		return nil, err
	}
	var list []OwnDevice
	for _, cert := range c.Devices(time.Time{}) {
		id := cert.DeviceID()
		list = append(list, OwnDevice{
			ID: id, Name: cert.Name, Created: cert.Created, NotAfter: cert.NotAfter, This: id == e.id.Device, PeerID: cert.PeerID,
		})
	}
	return list, nil
}

// Certify adds a device. ErrNoAccountKey, ErrTooManyDevices.
func (e *Engine) Certify(tx store.Tx, now time.Time, r DeviceRequest) ([]byte, error) {
	c, err := e.certify(tx, now, r)
	if err != nil {
		return nil, err
	}
	return c.Bytes(), nil
}

func (e *Engine) certify(tx store.Tx, now time.Time, r DeviceRequest) (*account.Chain, error) {
	c, aik, err := e.signingKey(tx)
	if err != nil {
		return nil, err
	}
	return CertifyDevice(now, c, aik, r)
}

// MayCertify tells whether a device could be added now: ErrNoAccountKey or
// ErrTooManyDevices if not.
func (e *Engine) MayCertify(tx store.Tx) error {
	c, _, err := e.signingKey(tx)
	if err == nil && len(c.Devices(time.Time{})) >= protocol.MaxDevices {
		err = ErrTooManyDevices
	}
	return err
}

// Revoke ends another device of this account for good. The account key goes
// with it, since the device knows it: the new one is stored here before the
// chain that names it is returned, and is sent to the other devices when it is
// in force. ErrNoAccountKey; ErrNotFound for a device that the account does not
// have; ErrThisDevice, for which there is Leave.
func (e *Engine) Revoke(tx store.Tx, now time.Time, device protocol.DeviceID, reason account.Reason) ([]byte, error) {
	if device == e.id.Device {
		return nil, ErrThisDevice
	}
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	c, aik, err := e.signingKey(tx)
	if err != nil {
		return nil, err
	}
	if _, ok := c.Device(device); !ok {
		return nil, fmt.Errorf("device %s: %w", short(device), ErrNotFound)
	}
	next, err := c.RevokeDevice(now, aik, device, reason, now)
	if err != nil {
		return nil, err
	}
	if next, _, err = w.replaceAccountKey(next, aik); err != nil { // last: see account.Chain.Exposed
		return nil, err
	}
	_, err = w.end()
	return next.Bytes(), err
}

// Leave revokes this very device. The account key stays, since a new one could
// not be given to the others: they replace it when they see this. Upload the
// chain, then Retire. If it was the last device, the account has none until it is
// recovered or restored.
func (e *Engine) Leave(tx store.Tx, now time.Time, reason account.Reason) ([]byte, error) {
	c, aik, err := e.signingKey(tx)
	if err != nil {
		return nil, err
	}
	next, err := c.RevokeDevice(now, aik, e.id.Device, reason, now)
	if err != nil {
		return nil, err
	}
	return next.Bytes(), nil
}

// Rename gives a device of this account another name.
func (e *Engine) Rename(tx store.Tx, now time.Time, device protocol.DeviceID, name string) ([]byte, error) {
	if !account.ValidDeviceName(name) {
		return nil, ErrBadDeviceName
	}
	c, aik, err := e.signingKey(tx)
	if err != nil {
		return nil, err
	}
	cert, ok := c.Device(device)
	if !ok {
		return nil, fmt.Errorf("device %s: %w", short(device), ErrNotFound)
	}
	cert.Name = name
	next, err := certifyAgain(now, c, aik, cert)
	if err != nil {
		return nil, err
	}
	return next.Bytes(), nil
}

// Renew renews the certificates of all devices of the account that end soon, or
// have ended, and replaces the account key if a device that knows it was revoked
// and left it in force; a nil chain if there is nothing to do.
func (e *Engine) Renew(tx store.Tx, now time.Time) ([]byte, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	c, err := e.OwnChain(tx)
	if err != nil {
		return nil, err
	}
	if !w.wantsRenewal(c) {
		return nil, nil
	}
	_, aik, err := e.signingKey(tx)
	if err != nil {
		return nil, err
	}
	if c.Exposed() {
		if c, aik, err = w.replaceAccountKey(c, aik); err != nil {
			return nil, err
		}
	}
	for _, cert := range w.expiring(c) {
		cert.NotAfter = now.Add(certLife)
		if c, err = certifyAgain(now, c, aik, cert); err != nil {
			return nil, err
		}
	}
	_, err = w.end()
	return c.Bytes(), err
}

// replaceAccountKey returns the longer chain with another account key, which is
// stored here.
func (w *work) replaceAccountKey(c *account.Chain, aik key.AccountPrivate) (*account.Chain, key.AccountPrivate, error) {
	next, err := w.nextAccountKey(c)
	if err != nil {
		return nil, aik, err
	}
	c, err = c.RotateAIK(w.now, aik, next)
	return c, next, err
}

// wantsRenewal tells whether Renew has something to do.
func (w *work) wantsRenewal(c *account.Chain) bool { return c.Exposed() || len(w.expiring(c)) > 0 }

// expiring returns the certificates that are to be renewed.
func (w *work) expiring(c *account.Chain) []account.Cert {
	return slices.DeleteFunc(c.Devices(time.Time{}), func(cert account.Cert) bool {
		return cert.NotAfter.Sub(w.now) > renewBefore
	})
}

// certifyAgain puts a changed certificate of the same keys in the place of the
// old one.
func certifyAgain(now time.Time, c *account.Chain, aik key.AccountPrivate, cert account.Cert) (*account.Chain, error) {
	cert, err := account.NewCert(aik, cert)
	if err != nil {
		return nil, err
	}
	return c.AddDevice(now, aik, cert)
}
