package account

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// Chain is a verified chain of an account's statements, from its genesis on.
// It is immutable: methods that add a statement return a longer chain.
type Chain struct {
	raw      []byte // lp(statement) one after the other
	account  protocol.AccountID
	seq      uint64
	head     [32]byte
	last     time.Time // of the newest statement
	aik      key.AccountPublic
	rk       key.RecoveryPublic
	devices  []device // in order of first appearance, the revoked too
	isClosed bool
	exposed  bool

	secured    uint64 // number of the newest statement that ended a device or a key
	recovered  uint64 // number of the newest statement that the recovery key signed
	rekeyed    uint64 // number of the newest statement that replaced the account key
	recoveries int    // account keys that the recovery key put in place
	room       int    // bytes that the chain may have by statements of the account key
}

const (
	// accountRoom is what statements of the account key may fill: about a hundred
	// renewals with the longest names.
	accountRoom = 48 << 10 // bytes

	// recoveryRoom is what a recovery makes room for, itself included. The
	// longest one has 3602 bytes: it replaces both keys, revokes
	// protocol.MaxDevices devices, replaces the account key again and adds one.
	recoveryRoom = 4 << 10 // bytes
)

type device struct {
	id      protocol.DeviceID
	cert    Cert
	revoked bool
}

// Create makes the genesis of a new account. The account has no devices yet:
// add the first with AddDevice.
func Create(now time.Time, aik key.AccountPrivate, rk key.RecoveryPublic) (*Chain, error) {
	body := append(aik.Public().Bytes(), rk.Bytes()...)
	c, err := (&Chain{}).append(now, opGenesis, body, aik.Public().Bytes(), aik)
	if err != nil {
		return nil, fmt.Errorf("create account: %w", err)
	}
	return c, nil
}

// ParseChain reads and verifies a chain: form, order, hashes, signatures and
// the meaning of each statement. It does not look at the time: see Check and
// Devices.
func ParseChain(b []byte) (*Chain, error) {
	if len(b) == 0 || len(b) > protocol.MaxChain {
		return nil, fmt.Errorf("%w: statement chain of %d bytes", ErrMalformed, len(b))
	}
	c := &Chain{}
	for r := key.NewReader(b); r.Len() > 0; {
		s, err := parseStatement(r.LP())
		if err != nil {
			return nil, err
		}
		if c, err = c.apply(s); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// Bytes returns the encoded chain, at most protocol.MaxChain bytes. The caller
// owns it.
func (c *Chain) Bytes() []byte { return bytes.Clone(c.raw) }

// Account names the account: the hash of its genesis.
func (c *Chain) Account() protocol.AccountID { return c.account }

// Seq is the number of the newest statement; the genesis has 0.
func (c *Chain) Seq() uint64 { return c.seq }

// Head is the hash of the newest statement.
func (c *Chain) Head() [32]byte { return c.head }

// Signer is the account key that may sign the next statement.
func (c *Chain) Signer() key.AccountPublic { return c.aik }

// Recovery is the recovery key that may replace Signer.
func (c *Chain) Recovery() key.RecoveryPublic { return c.rk }

// Recoveries is how often the recovery key replaced the account key. Whoever
// knew the account with fewer learns by it that the account was recovered: its
// owner lost the keys, or somebody else has the recovery words.
func (c *Chain) Recoveries() int { return c.recoveries }

// Exposed tells that a device was revoked since Signer is in force: it knows that
// key, which is to be replaced. Who revokes another device does both at once, the
// revocation first.
func (c *Chain) Exposed() bool { return c.exposed }

// Secured tells that a statement after number seq ended a device or a key: a
// revocation, a rotation, or the end of the account.
func (c *Chain) Secured(seq uint64) bool { return c.secured > seq }

// Recovered tells that the recovery key signed a statement after number seq.
func (c *Chain) Recovered(seq uint64) bool { return c.recovered > seq }

// LastRecovery and LastKey are the numbers of the newest statement that the
// recovery key signed, and of the one that replaced the account key; 0: there is
// none.
func (c *Chain) LastRecovery() uint64 { return c.recovered }
func (c *Chain) LastKey() uint64      { return c.rekeyed }

// Closed tells that the account ended: it has no devices and never will.
func (c *Chain) Closed() bool { return c.isClosed }

// Devices returns the certificates that are certified, not revoked and not
// expired at now, oldest device first.
func (c *Chain) Devices(now time.Time) []Cert {
	var certs []Cert
	for _, d := range c.devices {
		if c.live(d) && d.cert.checkTime(now) == nil {
			certs = append(certs, d.cert.clone())
		}
	}
	return certs
}

// Device returns the newest certificate of a device that is certified and not
// revoked. It does not look at the time.
func (c *Chain) Device(id protocol.DeviceID) (Cert, bool) {
	for _, d := range c.devices {
		if d.id == id && c.live(d) {
			return d.cert.clone(), true
		}
	}
	return Cert{}, false
}

// Check returns nil if cert is exactly the newest certificate the chain holds
// for a device that is not revoked, and is valid at now. Use it, rather than
// Cert.Verify, wherever a chain is at hand: certificates outlive the account
// key that signed them, and revocation is only in the chain.
func (c *Chain) Check(cert Cert, now time.Time) error {
	held, ok := c.Device(cert.DeviceID())
	if !ok || !bytes.Equal(held.Marshal(), cert.Marshal()) {
		return fmt.Errorf("device %v: %w", cert.DeviceID(), ErrUnknownDevice)
	}
	return held.checkTime(now)
}

// Revoked tells that the chain revoked the device.
func (c *Chain) Revoked(id protocol.DeviceID) bool {
	return slices.ContainsFunc(c.devices, func(d device) bool { return d.id == id && d.revoked })
}

func (c *Chain) live(d device) bool { return !d.revoked && !c.isClosed }

// Extends tells that c holds the statements of old, then none or more.
func (c *Chain) Extends(old *Chain) bool { return bytes.HasPrefix(c.raw, old.raw) }

// AddDevice certifies a device, or renews its certificate.
func (c *Chain) AddDevice(now time.Time, aik key.AccountPrivate, cert Cert) (*Chain, error) {
	next, err := c.append(now, opAddDevice, cert.Marshal(), aik.Public().Bytes(), aik)
	if err != nil {
		return nil, fmt.Errorf("add device: %w", err)
	}
	return next, nil
}

// RevokeDevice ends a device for good: its id never comes back. Since says
// from when on its signatures are not to be trusted.
func (c *Chain) RevokeDevice(now time.Time, aik key.AccountPrivate, id protocol.DeviceID, reason Reason, since time.Time) (*Chain, error) {
	next, err := c.append(now, opRevokeDevice, revokeBody(id, reason, since), aik.Public().Bytes(), aik)
	if err != nil {
		return nil, fmt.Errorf("revoke device: %w", err)
	}
	return next, nil
}

// RotateAIK replaces the account key; the old one signs.
func (c *Chain) RotateAIK(now time.Time, old, new key.AccountPrivate) (*Chain, error) {
	return c.rotate(now, opRotateAIK, old.Public().Bytes(), old, new.Public().Bytes(), new)
}

// RecoverAIK replaces the account key; the recovery key signs. Devices the old
// key certified stay until they are revoked.
func (c *Chain) RecoverAIK(now time.Time, rk key.RecoveryPrivate, new key.AccountPrivate) (*Chain, error) {
	return c.rotate(now, opRotateAIK, rk.Public().Bytes(), rk, new.Public().Bytes(), new)
}

// RotateRK replaces the recovery key; the old one signs.
func (c *Chain) RotateRK(now time.Time, old, new key.RecoveryPrivate) (*Chain, error) {
	return c.rotate(now, opRotateRK, old.Public().Bytes(), old, new.Public().Bytes(), new)
}

// Close ends the account.
func (c *Chain) Close(now time.Time, aik key.AccountPrivate) (*Chain, error) {
	next, err := c.append(now, opClose, nil, aik.Public().Bytes(), aik)
	if err != nil {
		return nil, fmt.Errorf("close account: %w", err)
	}
	return next, nil
}

func (c *Chain) rotate(now time.Time, o op, signer []byte, k signing, newPublic []byte, newKey signing) (*Chain, error) {
	s := c.next(now, o)
	sig, err := newKey.Sign(labelRotate, s.introduction(newPublic)...)
	if err != nil {
		return nil, fmt.Errorf("rotate key: %w", err)
	}
	next, err := c.append(now, o, append(newPublic, sig...), signer, k)
	if err != nil {
		return nil, fmt.Errorf("rotate key: %w", err)
	}
	return next, nil
}

// next is the statement that may follow, without body and signature. Its time
// is now, or that of the newest statement if the clock went back.
func (c *Chain) next(now time.Time, o op) statement {
	s := statement{op: o, time: key.Seconds(now)}
	if len(c.raw) > 0 {
		s.account, s.seq, s.prev = c.account, c.seq+1, c.head
	}
	if s.time.Before(c.last) {
		s.time = c.last
	}
	return s
}

func (c *Chain) append(now time.Time, o op, body, signer []byte, k signing) (*Chain, error) {
	s := c.next(now, o)
	s.body = body
	s.signer = [32]byte(signer)
	if err := s.sign(k); err != nil {
		return nil, err
	}
	return c.apply(s)
}
