package account

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// apply verifies that s may follow c and returns the longer chain. Building
// and reading a chain both end here, so what is built can always be read.
func (c *Chain) apply(s statement) (*Chain, error) {
	if err := c.checkPlace(s); err != nil {
		return nil, err
	}
	next := *c
	next.devices = slices.Clone(c.devices)
	if err := next.change(s); err != nil {
		return nil, fmt.Errorf("statement %d: %w", s.seq, err)
	}
	raw := s.marshal()
	next.raw = key.AppendLP(bytes.Clone(c.raw), raw)
	if err := next.checkSize(s); err != nil {
		return nil, err
	}
	next.seq, next.last = s.seq, s.time
	if s.op != opGenesis && s.op != opAddDevice {
		next.secured = s.seq
	}
	next.head = s.hash()
	if s.op == opGenesis {
		next.account = next.head
	}
	return &next, nil
}

// checkSize checks that c, which ends with s, is not too long. The account key
// may fill its room only: whoever holds it, like a thief of a device, cannot
// leave so little that the recovery key could not end what he made.
func (c *Chain) checkSize(s statement) error {
	room := c.room
	if s.op == opRotateRK {
		room = protocol.MaxChain
	}
	if len(c.raw) > room {
		return fmt.Errorf("statement %d, at %d bytes of %d: %w", s.seq, len(c.raw), room, ErrFull)
	}
	return nil
}

// checkPlace checks everything about s but its meaning and its signature.
func (c *Chain) checkPlace(s statement) error {
	want := c.next(c.last, s.op)
	if s.account != want.account || s.seq != want.seq || s.prev != want.prev {
		return fmt.Errorf("%w: statement %d does not follow its chain", ErrMalformed, s.seq)
	}
	if first := len(c.raw) == 0; first != (s.op == opGenesis) {
		return fmt.Errorf("%w: statement %d: misplaced genesis", ErrMalformed, s.seq)
	}
	if c.isClosed {
		return fmt.Errorf("%w: statement %d after the end", ErrMalformed, s.seq)
	}
	if s.time.Before(c.last) || !key.ValidTime(s.time) {
		return fmt.Errorf("%w: statement %d has a time before the last one", ErrMalformed, s.seq)
	}
	return nil
}

// change verifies the signature of s and does what s says to c.
func (c *Chain) change(s statement) error {
	switch s.op {
	case opGenesis:
		return c.genesis(s)
	case opAddDevice:
		return c.addDevice(s)
	case opRevokeDevice:
		return c.revokeDevice(s)
	case opRotateAIK:
		return c.rotateAIK(s)
	case opRotateRK:
		return c.rotateRK(s)
	case opClose:
		return c.close(s)
	}
	return fmt.Errorf("%w: operation %d", ErrMalformed, s.op)
}

func (c *Chain) genesis(s statement) error {
	if len(s.body) != 64 {
		return fmt.Errorf("%w: genesis", ErrMalformed)
	}
	aik, err := key.ParseAccountPublic(s.body[:32])
	if err != nil {
		return err
	}
	rk, err := key.ParseRecoveryPublic(s.body[32:])
	if err != nil {
		return err
	}
	if bytes.Equal(aik.Bytes(), rk.Bytes()) {
		return fmt.Errorf("%w: one key as account and recovery key", ErrMalformed)
	}
	c.aik, c.rk, c.room = aik, rk, accountRoom
	return c.signedByAIK(s)
}

func (c *Chain) addDevice(s statement) error {
	if err := c.signedByAIK(s); err != nil {
		return err
	}
	cert, err := ParseCert(s.body)
	if err != nil {
		return err
	}
	if cert.Account != c.account {
		return fmt.Errorf("%w: certificate for another account", ErrMalformed)
	}
	if err := cert.verifySignature(c.aik); err != nil {
		return err
	}
	d := device{id: cert.DeviceID(), cert: cert}
	if i := slices.IndexFunc(c.devices, func(o device) bool { return o.id == d.id }); i >= 0 {
		return c.renew(i, d)
	}
	return c.addNew(d)
}

// renew replaces the certificate of a known device: same keys, same peer.
func (c *Chain) renew(i int, d device) error {
	old := c.devices[i]
	if old.revoked {
		return fmt.Errorf("%w: revoked device added again", ErrMalformed)
	}
	if !bytes.Equal(old.cert.PeerID, d.cert.PeerID) || d.cert.Created.Before(old.cert.Created) {
		return fmt.Errorf("%w: renewal of a device with another peer or an older certificate", ErrMalformed)
	}
	c.devices[i] = d
	return nil
}

// addNew adds a device, none of whose keys any device of the account, revoked
// or not, ever had.
func (c *Chain) addNew(d device) error {
	live := 0
	for _, o := range c.devices {
		if o.cert.Signing == d.cert.Signing || o.cert.Identity == d.cert.Identity || bytes.Equal(o.cert.PeerID, d.cert.PeerID) {
			return fmt.Errorf("%w: device with a key of another device", ErrMalformed)
		}
		if !o.revoked {
			live++
		}
	}
	if live >= protocol.MaxDevices {
		return fmt.Errorf("%w: more than %d devices", ErrMalformed, protocol.MaxDevices)
	}
	c.devices = append(c.devices, d)
	return nil
}

func (c *Chain) revokeDevice(s statement) error {
	if err := c.signedByAIK(s); err != nil {
		return err
	}
	r := key.NewReader(s.body)
	id := protocol.DeviceID(r.Take(32))
	reason := Reason(r.Byte())
	since := r.Time()
	if r.End() != nil || reason < Retired || reason > Compromised || !key.ValidTime(since) {
		return fmt.Errorf("%w: revocation", ErrMalformed)
	}
	i := slices.IndexFunc(c.devices, func(o device) bool { return o.id == id && !o.revoked })
	if i < 0 {
		return fmt.Errorf("revocation of %v: %w", id, ErrUnknownDevice)
	}
	c.devices[i].revoked = true
	c.exposed = true
	return nil
}

func (c *Chain) rotateAIK(s statement) error {
	recovered := c.signedByRK(s) == nil
	if !recovered && c.signedByAIK(s) != nil {
		return fmt.Errorf("new account key: %w", key.ErrSignature)
	}
	newKey, sig, err := splitRotation(s.body)
	if err != nil {
		return err
	}
	aik, err := key.ParseAccountPublic(newKey)
	if err != nil {
		return err
	}
	if aik == c.aik || bytes.Equal(newKey, c.rk.Bytes()) {
		return fmt.Errorf("%w: rotation to a key in use", ErrMalformed)
	}
	if err := aik.Verify(labelRotate, sig, s.introduction(newKey)...); err != nil {
		return err
	}
	c.aik, c.exposed, c.rekeyed = aik, false, s.seq
	if recovered {
		c.recoveries++
		c.recovered = s.seq
		c.room = max(c.room, min(len(c.raw)+recoveryRoom, protocol.MaxChain)) // raw is without s yet
	}
	return nil
}

func (c *Chain) rotateRK(s statement) error {
	if err := c.signedByRK(s); err != nil {
		return err
	}
	newKey, sig, err := splitRotation(s.body)
	if err != nil {
		return err
	}
	rk, err := key.ParseRecoveryPublic(newKey)
	if err != nil {
		return err
	}
	if rk == c.rk || bytes.Equal(newKey, c.aik.Bytes()) {
		return fmt.Errorf("%w: rotation to a key in use", ErrMalformed)
	}
	if err := rk.Verify(labelRotate, sig, s.introduction(newKey)...); err != nil {
		return err
	}
	c.rk = rk
	c.recovered = s.seq
	return nil
}

func splitRotation(body []byte) (newKey, sig []byte, err error) {
	if len(body) != 32+key.SignatureSize {
		return nil, nil, fmt.Errorf("%w: rotation", ErrMalformed)
	}
	return body[:32], body[32:], nil
}

func (c *Chain) close(s statement) error {
	if err := c.signedByAIK(s); err != nil {
		return err
	}
	if len(s.body) != 0 {
		return fmt.Errorf("%w: end of account with a body", ErrMalformed)
	}
	c.isClosed = true
	return nil
}

func (c *Chain) signedByAIK(s statement) error {
	if !bytes.Equal(s.signer[:], c.aik.Bytes()) {
		return fmt.Errorf("signer is not the account key: %w", key.ErrSignature)
	}
	return c.aik.Verify(labelStatement, s.sig[:], s.unsigned())
}

func (c *Chain) signedByRK(s statement) error {
	if !bytes.Equal(s.signer[:], c.rk.Bytes()) {
		return fmt.Errorf("signer is not the recovery key: %w", key.ErrSignature)
	}
	return c.rk.Verify(labelStatement, s.sig[:], s.unsigned())
}
