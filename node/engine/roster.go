package engine

import (
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/store"
)

// Contacts returns the contacts, requests and blocked accounts.
func (e *Engine) Contacts(tx store.Tx) ([]Contact, error) {
	var list []Contact
	err := eachPeer(tx, func(id protocol.AccountID, p *peerRow) error {
		if p.relation == Stranger || p.relation == Self {
			return nil
		}
		c, err := p.contact(tx, id)
		list = append(list, c)
		return err
	})
	return list, err
}

// Contact returns what is known about an account, also one that is no contact, or our own;
// ErrNotFound if nothing is.
func (e *Engine) Contact(tx store.Tx, a protocol.AccountID) (Contact, error) {
	p, ok, err := load[peerRow](tx, keyPeer(a))
	if err != nil {
		return Contact{}, err
	}
	if !ok {
		return Contact{}, ErrNotFound
	}
	return p.contact(tx, a)
}

// ContactByName is Contact by unique name.
func (e *Engine) ContactByName(tx store.Tx, name string) (Contact, error) {
	b, err := get(tx, e.keyName(name))
	if err != nil {
		return Contact{}, err
	}
	a, err := protocol.FromBytes[protocol.AccountID](b)
	if err != nil {
		return Contact{}, ErrNotFound
	}
	return e.Contact(tx, a)
}

func (p *peerRow) contact(tx store.Tx, id protocol.AccountID) (Contact, error) {
	c := Contact{
		Account: id, Name: p.name, Display: p.display, Note: p.note, Relation: p.relation, Verified: p.verified, Held: p.held(),
		Since: p.since, Checked: p.checked, Unread: int(p.unread), Queued: int(p.queued),
	}
	for _, d := range p.devices {
		cert, err := loadCert(tx, d.id)
		if err != nil {
			return Contact{}, err
		}
		c.Devices = append(c.Devices, cert)
	}
	return c, nil
}

func loadCert(tx store.Tx, device protocol.DeviceID) (account.Cert, error) {
	b, err := tx.Get(keyCert(device))
	if err != nil {
		return account.Cert{}, err
	}
	return account.ParseCert(b)
}

// AllowList returns the accounts that may reach us, sorted, and the digest by
// which the rendezvous tells whether it has this list.
func (e *Engine) AllowList(tx store.Tx) (accounts []protocol.AccountID, digest [32]byte, err error) {
	err = eachPeer(tx, func(id protocol.AccountID, p *peerRow) error {
		if p.listed() {
			accounts = append(accounts, id)
		}
		return nil
	})
	return accounts, store.ContactsDigest(accounts), err
}

// Peers returns the devices of contacts, of those we asked, and the other ones
// of our account, for the connection gate.
func (e *Engine) Peers(tx store.Tx) ([]PeerInfo, error) {
	var list []PeerInfo
	err := eachPeer(tx, func(id protocol.AccountID, p *peerRow) error {
		if !p.listed() && p.relation != Self {
			return nil
		}
		for _, d := range p.devices {
			cert, err := loadCert(tx, d.id)
			if err != nil {
				return err
			}
			list = append(list, PeerInfo{Account: id, Device: d.id, PeerID: cert.PeerID})
		}
		return nil
	})
	return list, err
}

// SafetyNumber returns what this account's user and the contact compare.
func (e *Engine) SafetyNumber(tx store.Tx, a protocol.AccountID) (string, error) {
	p, ok, err := load[peerRow](tx, keyPeer(a))
	if err != nil {
		return "", err
	}
	if !ok {
		return "", ErrNotFound
	}
	return account.SafetyNumber(e.id.Account, a, e.id.Name, p.name), nil
}
