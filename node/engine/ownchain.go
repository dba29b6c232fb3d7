package engine

import (
	"fmt"

	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

// The own chain, as a look-up of the own account brings it.

// takeOwnChain takes a chain of the own account that extends the one known.
func (w *work) takeOwnChain(c *account.Chain) error {
	b, err := get(w.tx, keyChain(c.Account()))
	if err != nil {
		return err
	}
	known, err := account.ParseChain(b)
	if err != nil {
		return fmt.Errorf("own chain row: %w", store.ErrDamaged)
	}
	if !c.Extends(known) {
		return fmt.Errorf("%w: statement %d of this account does not extend %d", ErrChainFork, c.Seq(), known.Seq())
	}
	if err := w.save(keyChain(c.Account()), c.Bytes(), b); err != nil {
		return err
	}
	if c.Closed() || c.Revoked(w.e.id.Device) {
		return w.ended(c)
	}
	p, err := w.peer(c.Account())
	if err != nil {
		return err
	}
	if err := w.tellOwn(known, c); err != nil {
		return err
	}
	return w.learnDevices(p, answer{chain: c, devices: w.devicesOf(c)})
}

// tellOwn notices what changed among the devices of the account.
func (w *work) tellOwn(known, c *account.Chain) error {
	for _, cert := range c.Devices(w.now) {
		if _, ok := known.Device(cert.DeviceID()); ok || cert.DeviceID() == w.e.id.Device {
			continue
		}
		if err := w.notice(NoticeDeviceAdded, c.Account(), fmt.Sprintf("a new device of yours: %q", cert.Name)); err != nil {
			return err
		}
	}
	for _, cert := range known.Devices(w.now) {
		if !c.Revoked(cert.DeviceID()) {
			continue
		}
		if err := w.notice(NoticeDeviceRevoked, c.Account(), fmt.Sprintf("your device %q was revoked", cert.Name)); err != nil {
			return err
		}
	}
	return nil
}

// ended notes that this device no longer belongs to its account.
func (w *work) ended(c *account.Chain) error {
	w.e.stopped.Store(true)
	w.hint.Revoked = true
	return w.notice(NoticeRevoked, c.Account(), "this device was revoked, or its account closed: nothing more is sent")
}

// takeAccountKey looks at an account key that a sibling sent.
func (w *work) takeAccountKey(seed []byte) error {
	if _, err := key.ParseAccount(seed); err != nil {
		return w.trouble(CauseMalformed, w.e.id.Account, "an account key that is none")
	}
	return nil
}

// knowSelf makes the own account known, as a new store begins.
func (w *work) knowSelf(id *Identity) error {
	p := peerRow{name: id.Name, relation: Self, known: true, checked: w.now, head: headOf(id.Chain)}
	for _, cert := range id.Chain.Devices(w.now) {
		device := cert.DeviceID()
		if device == id.Device {
			continue
		}
		p.devices = append(p.devices, peerDevice{device, cert.NotAfter})
		if err := w.set(keyCert(device), cert.Marshal()); err != nil {
			return err
		}
		if err := w.put(keyDevice(device), newDeviceRow(id.Account)); err != nil {
			return err
		}
	}
	if err := w.set(keyChain(id.Account), id.Chain.Bytes()); err != nil {
		return err
	}
	return w.put(keyPeer(id.Account), &p)
}
