package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

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
	if known.Signer() != c.Signer() {
		before = nil
		if err := w.accountKeyReplaced(known.Signer()); err != nil {
			return err
		}
	}
	if c.Seq() > known.Seq() {
		if err := w.learnedChain(c); err != nil {
			return err
		}
	}
	return errors.Join(w.shareAccountKey(p, c, before), w.useAccountKey())
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
