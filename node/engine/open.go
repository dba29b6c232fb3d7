package engine

import (
	"bytes"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
)

// Opened is an envelope that Open looked at, for Receive.
type Opened struct {
	// from is the device at the other end of the connection that brought the
	// envelope; zero: it came through the mailbox. Nothing is believed because of
	// it: it tells whom to repair with when the envelope names a session that is
	// not known, and whom to blame for forgeries.
	from protocol.DeviceID

	id      protocol.EnvelopeID
	session protocol.SessionID
	message []byte // the ratchet message, a view into the envelope

	cause   string            // why it cannot be opened; "": it may
	claimed protocol.DeviceID // a device of a known account that an opening claims to be of
	blocked bool              // the sender is
	opening *acceptedState    // a session that begins with this envelope
}

// FromUnknown tells that the account it claims to be of does not certify the
// device that it claims to be of.
func (o *Opened) FromUnknown() bool { return o.cause == CauseUnknownSender }

// acceptedState is a session that was accepted but not stored: Receive does
// that, once the message behind the opening has opened.
type acceptedState struct {
	opening envelope.Opening
	state   session.State
}

// Open looks at an envelope. For one of a known session it only parses; for the
// opening of a new one it does the costly part (5 ms), the cheap checks first,
// and so runs in a read-only transaction. Env must not change until Receive
// has returned. From is the device at the other end of the connection, zero for
// the mailbox. Came is when the envelope came: that an account does not certify
// its sender is settled by a look-up since, not by an older one.
//
// The error is *NeedAccount if the sender's directory record is needed first, a
// *protocol.Error (RateLimited) to try again later, or a fault of the store.
// Envelopes that cannot be opened are no error: Receive deals with them.
func (e *Engine) Open(tx store.Tx, now, came time.Time, from protocol.DeviceID, env []byte) (Opened, error) {
	id, opens, err := session.PeekSession(env)
	if err != nil || len(env) > protocol.MaxEnvelope {
		return Opened{from: from, cause: CauseMalformed}, nil
	}
	o := Opened{from: from, id: protocol.IDOf(env), session: id, message: env}
	if !opens {
		return o, nil
	}
	opening, rest, err := envelope.ParseOpening(env)
	if err != nil {
		return Opened{from: from, session: id, cause: CauseMalformed}, nil
	}
	o.message = rest
	known, err := get(tx, keySession(id))
	if err != nil || known != nil {
		return o, err
	}
	err = e.open(tx, now, came, &o, opening)
	return o, err
}

// open decides about the opening of an unknown session.
func (e *Engine) open(tx store.Tx, now, came time.Time, o *Opened, opening envelope.Opening) error {
	if opening.Recipient != e.id.Device || opening.Sender == e.id.Device || opening.Sender != opening.Cert.DeviceID() {
		o.cause = CauseMalformed
		return nil
	}
	if o.from != (protocol.DeviceID{}) && o.from != opening.Sender { // a device brings what it sealed itself
		o.cause = CauseUnknownSender
		return nil
	}
	if err := e.checkSender(tx, now, came, o, opening.Cert); err != nil || o.blocked || o.cause != "" {
		return err
	}
	o.claimed = opening.Sender
	signed, oneTime, err := e.pairs(tx, o, opening)
	if err != nil || o.cause != "" {
		return err
	}
	if !e.limits.admit(now, o.from, opening.Sender, opening.Cert.Account) {
		return protocol.Refuse(protocol.RateLimited, "too many session openings")
	}
	self, err := e.self(tx)
	if err != nil {
		return err
	}
	rsa, err := e.rsaFor(tx, signed.Record.RSAHash)
	if err == ErrNotFound {
		o.cause = CauseExpiredPrekey
		return nil
	}
	if err != nil {
		return err
	}
	s, err := session.Accept(now, self, opening, *signed, oneTime, rsa)
	if err != nil {
		e.limits.blame(now, o.from)
		o.cause = CauseBadTag
		return nil
	}
	e.limits.charge(now, opening.Sender, opening.Cert.Account)
	o.opening = &acceptedState{opening, s}
	return nil
}

// checkSender checks that the claimed account certifies the device, and what
// the account is to us.
func (e *Engine) checkSender(tx store.Tx, now, came time.Time, o *Opened, cert account.Cert) error {
	p, ok, err := load[peerRow](tx, keyPeer(cert.Account))
	if err != nil {
		return err
	}
	if !ok {
		return &NeedAccount{cert.Account}
	}
	w := &work{e: e, tx: tx, now: now}
	if o.blocked, err = w.shut(cert.Account, &p); o.blocked || err != nil {
		return err
	}
	held, err := get(tx, keyCert(cert.DeviceID()))
	if err != nil {
		return err
	}
	for _, d := range p.valid(now) {
		if d == cert.DeviceID() && bytes.Equal(held, cert.Marshal()) {
			return nil
		}
	}
	if awaits, err := e.awaitsKeyOf(tx, cert.DeviceID()); awaits || err != nil {
		return err
	}
	if p.changed || p.checked.Before(fromMillis(millis(came))) || p.checked.After(now) {
		return &NeedAccount{cert.Account}
	}
	o.cause = CauseUnknownSender
	return nil
}

// pairs returns our prekeys that an opening names.
func (e *Engine) pairs(tx store.Tx, o *Opened, opening envelope.Opening) (signed, oneTime *prekey.Pair, err error) {
	if signed, err = loadPair(tx, keySigned(opening.SignedID)); err != nil {
		return nil, nil, err
	}
	if opening.HasOneTime {
		if oneTime, err = loadPair(tx, keyOneTime(opening.OneTimeID)); err != nil {
			return nil, nil, err
		}
	}
	if signed == nil || opening.HasOneTime && oneTime == nil {
		o.cause = CauseExpiredPrekey
		return nil, nil, nil
	}
	seen, err := get(tx, keyReplay(opening.SignedID, opening.EK))
	if seen != nil {
		o.cause = CauseReplay
	}
	return signed, oneTime, err
}

// loadPair reads one of our prekeys; nil if it is gone.
func loadPair(tx store.Tx, key []byte) (*prekey.Pair, error) {
	r, ok, err := load[pairRow](tx, key)
	if err != nil || !ok {
		return nil, err
	}
	pair, err := prekey.ParsePair(r.pair)
	if err != nil {
		return nil, fmt.Errorf("prekey row: %w", store.ErrDamaged)
	}
	return &pair, nil
}
