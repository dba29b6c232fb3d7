package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
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
	c, aik, err := e.signingKey(tx)
	if err != nil {
		return nil, err
	}
	next, err := CertifyDevice(now, c, aik, r)
	if err != nil {
		return nil, err
	}
	return next.Bytes(), nil
}

// Revoke ends another device of this account for good. The account key goes
// with it, since the device knows it: the new one is stored here before the
// chain that names it is returned, and is sent to the other devices when it is
// in force. ErrNoAccountKey; ErrNotFound for a device that the account does not
// have; ErrThisDevice, for which there are Leave and CloseAccount.
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
	newAIK, err := w.nextAccountKey(c)
	if err != nil {
		return nil, err
	}
	next, err := c.RotateAIK(now, aik, newAIK)
	if err != nil {
		return nil, err
	}
	if next, err = next.RevokeDevice(now, newAIK, device, reason, now); err != nil {
		return nil, err
	}
	_, err = w.end()
	return next.Bytes(), err
}

// Leave revokes this very device. The account key stays: its new one could not
// be given to the others. Upload the chain, then Retire. If it was the last, the
// account has no device until it is recovered or restored.
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

// CloseAccount ends the account, with all its devices, for ever.
func (e *Engine) CloseAccount(tx store.Tx, now time.Time) ([]byte, error) {
	c, aik, err := e.signingKey(tx)
	if err != nil {
		return nil, err
	}
	next, err := c.Close(now, aik)
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
// have ended; a nil chain if there are none.
func (e *Engine) Renew(tx store.Tx, now time.Time) ([]byte, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	c, err := e.OwnChain(tx)
	if err != nil || len(w.expiring(c)) == 0 {
		return nil, err
	}
	_, aik, err := e.signingKey(tx)
	if err != nil {
		return nil, err
	}
	for _, cert := range w.expiring(c) {
		cert.NotAfter = now.Add(certLife)
		if c, err = certifyAgain(now, c, aik, cert); err != nil {
			return nil, err
		}
	}
	return c.Bytes(), nil
}

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

// SetOwnChain takes the chain of this account, after it was uploaded or out of
// a look-up. It must extend the one known: ErrChainFork if not, ErrBadAnswer if
// it is no chain of this account. If it ends this device, Hint.Revoked is set:
// call Retire. From then on what this engine would change gives ErrRevoked.
func (e *Engine) SetOwnChain(tx store.Tx, now time.Time, chain []byte) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	c, err := account.ParseChain(chain)
	if err != nil {
		return Hint{}, fmt.Errorf("%w: %v", ErrBadAnswer, err)
	}
	if err := w.takeOwnChain(c); err != nil {
		return Hint{}, err
	}
	return w.end()
}

func (w *work) takeOwnChain(c *account.Chain) error {
	known, err := w.e.OwnChain(w.tx)
	if err != nil {
		return err
	}
	if c.Account() != known.Account() {
		return fmt.Errorf("%w: not this account", ErrBadAnswer)
	}
	if !c.Extends(known) {
		return fmt.Errorf("%w: statement %d of this account does not extend %d", ErrChainFork, c.Seq(), known.Seq())
	}
	if c.Seq() > known.Seq() {
		if err := w.set(keyChain(c.Account()), c.Bytes()); err != nil {
			return err
		}
	}
	if c.Closed() || c.Revoked(w.e.id.Device) {
		return w.ended(c)
	}
	p, err := w.peer(c.Account())
	if err != nil {
		return err
	}
	before := p.devices
	if err := w.learnOwn(p, c); err != nil {
		return err
	}
	if err := w.tellOwn(known, c); err != nil {
		return err
	}
	if known.Signer() == c.Signer() {
		return w.shareAccountKey(p, c, before)
	}
	if err := w.accountKeyReplaced(known.Signer()); err != nil {
		return err
	}
	return w.shareAccountKey(p, c, nil)
}

// learnOwn takes over this device's certificate, and the other devices of the
// account as those of a peer.
func (w *work) learnOwn(p *peerRow, c *account.Chain) error {
	own, ok := c.Device(w.e.id.Device)
	if !ok {
		return fmt.Errorf("%w: it does not certify this device", ErrBadAnswer)
	}
	if err := w.ledgerCert(own); err != nil {
		return err
	}
	if own.Name != w.e.id.DeviceName {
		err := change(w.tx, func(id *Identity) error {
			id.DeviceName = own.Name
			return nil
		})
		if err != nil {
			return err
		}
	}
	if err := w.setCert(w.e.id.Device, own); err != nil {
		return err
	}
	siblings := slices.DeleteFunc(c.Devices(w.now), func(cert account.Cert) bool { return cert.DeviceID() == w.e.id.Device })
	return w.learnDevices(p, answer{chain: c, devices: siblings})
}

// tellOwn notices what changed among the devices of the account.
func (w *work) tellOwn(known, c *account.Chain) error {
	planned, err := w.plannedDevice()
	if err != nil {
		return err
	}
	for _, cert := range c.Devices(time.Time{}) {
		id := cert.DeviceID()
		if _, ok := known.Device(id); ok || id == w.e.id.Device || id == planned {
			continue
		}
		text := fmt.Sprintf("this account has a new device, %q (%s); if it is not yours: parley device revoke %s", cert.Name, short(id), short(id))
		if err := w.notice(NoticeDeviceAdded, c.Account(), text); err != nil {
			return err
		}
	}
	for _, cert := range known.Devices(time.Time{}) {
		if !c.Revoked(cert.DeviceID()) {
			continue
		}
		text := fmt.Sprintf("device %q (%s) of this account was revoked", cert.Name, short(cert.DeviceID()))
		if err := w.notice(NoticeDeviceRevoked, c.Account(), text); err != nil {
			return err
		}
	}
	return nil
}

// plannedDevice is the device that this one is about to become; zero: none.
func (w *work) plannedDevice() (id protocol.DeviceID, err error) {
	r, ok, err := load[rebornRow](w.tx, keyReborn())
	if err != nil || !ok {
		return id, err
	}
	return r.newcomer.Request().Device(w.e.id.Account), nil
}

// shareAccountKey sends the account key in force, if it was made here, to the
// devices that are not among those before.
func (w *work) shareAccountKey(p *peerRow, c *account.Chain, before []peerDevice) error {
	public := c.Signer().Bytes()
	r, ok, err := load[accountKeyRow](w.tx, keyAccountKey(public))
	if err != nil || !ok || !r.mine {
		return err
	}
	for _, to := range p.devices {
		if slices.ContainsFunc(before, func(o peerDevice) bool { return o.id == to.id }) {
			continue
		}
		d, err := w.device(to.id)
		if err != nil {
			return err
		}
		// The key itself is put in when it is sealed: queues are not shredded.
		content := &wire.Content{Body: &wire.Content_AccountKey{AccountKey: &wire.AccountKey{Seed: public}}}
		item, err := w.newItem(d, wire.MailKind_MESSAGE, content)
		if err != nil {
			return err
		}
		item.accountKey = true
		if _, err := w.post(to.id, d, item, nil); err != nil {
			return err
		}
	}
	return nil
}

// withAccountKey puts the account key into a content that names it. One that
// was destroyed meanwhile is left out, and the content means nothing.
func (w *work) withAccountKey(plain []byte) ([]byte, error) {
	content := &wire.Content{}
	if err := proto.Unmarshal(plain, content); err != nil || content.GetAccountKey() == nil {
		return nil, fmt.Errorf("queue row: %w", store.ErrDamaged)
	}
	k := content.GetAccountKey()
	r, _, err := load[accountKeyRow](w.tx, keyAccountKey(k.GetSeed()))
	if err != nil {
		return nil, err
	}
	k.Seed = r.private
	return proto.Marshal(content)
}

// ended notes that this device is none any more.
func (w *work) ended(c *account.Chain) error {
	w.e.stopped.Store(true)
	w.e.ended.Store(true)
	w.hint.Revoked = true
	id, err := loadIdentity(w.tx)
	if err != nil || id.Revoked {
		return err
	}
	text := "this device was revoked; its keys are destroyed, its history stays"
	if c.Closed() {
		text = "this account was closed; the keys of this device are destroyed, its history stays"
	}
	return errors.Join(w.endIdentity(id), w.notice(NoticeRevoked, id.Account, text))
}
