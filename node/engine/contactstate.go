package engine

import (
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// takeContact takes over what another device of the account knows of a contact.
func (w *work) takeContact(c *wire.ContactState) error {
	return nil
}

// contactState returns what is known of a contact, for another device of the
// account.
func (w *work) contactState(a protocol.AccountID, p *peerRow) (*wire.ContactState, error) {
	return &wire.ContactState{Account: a[:], Name: p.name}, nil
}
