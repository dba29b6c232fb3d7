package engine

import (
	"fmt"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
)

// replaceSession gives up a session that the device cannot accept: the prekeys
// it was opened with are gone, or it is too old; or that we have given up
// already. Any other envelope that the device could not open is left to the
// device to repair. Offer is what the device gave of itself to open another
// session with, or nil.
func (w *work) replaceSession(device protocol.DeviceID, r itemRow, code protocol.Code, offer *wire.Bundle) error {
	id, _, err := session.PeekSession(r.sealed)
	if err != nil { // kept, so it was taken meanwhile
		return nil
	}
	d, err := w.device(device)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(d.sessions, func(s knownSession) bool { return s.ID == id }); i >= 0 {
		if d.sessions[i].Confirmed || code != protocol.StaleKey && !d.sessions[i].expired(w.now) {
			return nil
		}
		if replaced, err := w.dropRefused(device, d, id); !replaced || err != nil {
			return err
		}
	}
	if err := w.openOffered(device, d, offer); err != nil {
		return err
	}
	return w.sealAnew(device, d)
}

// dropRefused forgets a session that the device refused. A device that refuses one
// after the other is let do so only so often: then what was sealed last stays as
// it is, is tried again more and more seldom, and the user is told.
func (w *work) dropRefused(device protocol.DeviceID, d *deviceRow, id protocol.SessionID) (bool, error) {
	limit := w.e.limits.refused
	if !limit.left(w.now, device) {
		return false, nil
	}
	limit.take(w.now, device)
	if err := w.forgetSession(device, d, id, "refused by the device"); err != nil || limit.left(w.now, device) {
		return true, err
	}
	p, err := w.peer(d.account)
	if err != nil {
		return true, err
	}
	text := fmt.Sprintf("device %s of %s says of one key after the other that it is gone; what is written to it may wait", short(device), p.name)
	return true, w.notice(NoticeKeysRefused, d.account, text)
}

// openOffered opens a session with the keys that a device gave of itself when it
// refused those of another, unless there is one to send on. They are verified as
// if the rendezvous had given them, and not used if something else has to be
// known first: of that a look-up takes care.
func (w *work) openOffered(device protocol.DeviceID, d *deviceRow, offer *wire.Bundle) error {
	p, err := w.peer(d.account)
	if err != nil || offer == nil || d.revoked || d.repairing || !p.fresh(w.now) {
		return err
	}
	if _, ok, err := w.sendingSession(d); ok || err != nil || w.e.stopped.Load() {
		return err
	}
	chain, err := w.knownChain(d.account)
	if err != nil {
		return err
	}
	certs := chain.Devices(w.now)
	i := slices.IndexFunc(certs, func(c account.Cert) bool { return c.DeviceID() == device })
	if i < 0 {
		return nil
	}
	s, until, err := w.initiate(certs[i], d, offer)
	if err != nil {
		return w.lookupFailed(d.account, p, fmt.Errorf("%w: device %s: %w", errBadBundle, short(device), err))
	}
	return w.useSession(device, d, s, until)
}
