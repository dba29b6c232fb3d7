package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
)

// openSessions opens a session with each device that one is wanted with and
// that the answer has a good bundle for, and seals what waited. Bad is what is
// wrong with a bundle that was left out; what waits for it goes on waiting.
func (w *work) openSessions(p *peerRow, a answer) (bad, err error) {
	for _, b := range a.bundles[:min(len(a.bundles), protocol.MaxDevices)] {
		device, err := protocol.FromBytes[protocol.DeviceID](b.GetDevice())
		if device == w.e.id.Device { // ours, in an answer about our own account
			continue
		}
		i := slices.IndexFunc(a.devices, func(c account.Cert) bool { return c.DeviceID() == device })
		if err != nil || i < 0 {
			bad = fmt.Errorf("device %s is not certified", short(device))
			continue
		}
		d, err := w.device(device)
		if err != nil {
			return nil, err
		}
		wanted, err := w.wantsSession(d)
		if err != nil {
			return nil, err
		}
		if !wanted {
			continue
		}
		s, until, err := w.initiate(a.devices[i], d, b)
		if err != nil {
			bad = fmt.Errorf("device %s: %w", short(device), err)
			continue
		}
		if err := w.useSession(device, d, s, until); err != nil {
			return nil, err
		}
	}
	return bad, nil
}

// wantsSession tells whether a bundle of the device would be used.
func (w *work) wantsSession(d *deviceRow) (bool, error) {
	if d.revoked || w.e.stopped.Load() || d.waiting == 0 && !d.repairing && !d.renewing {
		return false, nil
	}
	if blocked, err := w.blocked(d.account); err != nil || blocked {
		return d.repairing, err
	}
	_, ok, err := w.sendingSession(d)
	return d.repairing || d.renewing || !ok, err
}

// initiate makes a session with a device. The certificate is from its chain.
func (w *work) initiate(cert account.Cert, d *deviceRow, b *wire.Bundle) (s session.State, until time.Time, err error) {
	bundle, err := readBundle(cert, b)
	if err != nil {
		return s, until, err
	}
	until = bundle.Signed.Expires
	if bundle.OneTime != nil && bundle.OneTime.Expires.Before(until) {
		until = bundle.OneTime.Expires
	}
	self, err := w.e.self(w.tx)
	if err != nil {
		return s, until, err
	}
	s, err = session.Initiate(w.now, self, bundle, d.nextGen(w.now), d.repairing)
	return s, until, err
}

func (w *work) useSession(device protocol.DeviceID, d *deviceRow, s session.State, until time.Time) error {
	if err := w.addSession(device, d, s, until); err != nil {
		return err
	}
	d.renewing = false
	if err := w.at(until, timerReopen, device[:]); err != nil {
		return err
	}
	if !d.repairing {
		return w.drain(device, d)
	}
	// What did not open here may have been receipts: without them we would wait
	// for ever for contents that the device has. Sent again, it says so again.
	d.reseal = w.count().items + 1
	if err := w.sendRepair(device, d, s); err != nil {
		return err
	}
	return w.unseal(device, d)
}

func readBundle(cert account.Cert, b *wire.Bundle) (envelope.Bundle, error) {
	bundle := envelope.Bundle{Cert: cert}
	var err error
	if bundle.Signed, err = prekey.Parse(b.GetSignedRecord()); err != nil {
		return bundle, err
	}
	if bundle.RSA, err = key.ParseRSAPublic(b.GetRsa()); err != nil {
		return bundle, err
	}
	if len(b.GetOneTimeRecord()) == 0 {
		return bundle, nil
	}
	oneTime, err := prekey.Parse(b.GetOneTimeRecord())
	bundle.OneTime = &oneTime
	return bundle, err
}

// sendRepair tells the device which session broke, as the first content of the
// one that replaces it, ahead of what waits.
func (w *work) sendRepair(device protocol.DeviceID, d *deviceRow, s session.State) error {
	content := &wire.Content{Body: &wire.Content_Repair{Repair: &wire.Repair{SessionId: d.failed[:]}}}
	r, err := w.newItem(d, wire.MailKind_MESSAGE, content)
	if err != nil {
		return err
	}
	d.repair, d.repairing = d.repair.Repaired(w.now), false
	if err := w.notice(NoticeRepaired, d.account, "messages of device "+short(device)+" did not open; a new session replaces theirs"); err != nil {
		return err
	}
	return w.seal(device, d, s, r, nil)
}

// broken notes that a message of a contact's device did not open, and asks for
// a new session as soon as the policy allows one.
func (w *work) broken(device protocol.DeviceID, d *deviceRow, failed protocol.SessionID, next session.Repair) error {
	p, err := w.peer(d.account)
	if err != nil || !p.close() || d.revoked {
		return err
	}
	d.repair = next
	due, ok := d.repair.Due()
	if !ok || d.repairing {
		return nil
	}
	d.failed = failed
	if due.After(w.now) {
		return w.at(due, timerRepair, device[:])
	}
	return w.repairIfDue(d)
}

// repairIfDue asks for a bundle of the device; openSessions does the rest.
func (w *work) repairIfDue(d *deviceRow) error {
	due, ok := d.repair.Due()
	if !ok || due.After(w.now) || d.revoked {
		return nil
	}
	p, err := w.peer(d.account)
	if err != nil || !p.close() {
		return err
	}
	d.repairing = true
	return w.wantLookup(d.account)
}
