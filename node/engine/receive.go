package engine

import (
	"errors"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Receive takes an envelope that Open looked at. In one transaction it opens
// the message and stores the next state of the session with all it means. The
// code is what the sender may know:
//
//	OK             durable here, now or before; or dropped because the sender is blocked
//	Undecryptable  it does not open; an event says why, and repair is under way if it may be
//	StaleKey       it was sealed to prekeys that are gone: to be sealed anew
//	NotContact     the sender's account is not an accepted contact, or its device was revoked
//	BadRequest     it opened and holds no content
//	Unavailable    too much came out of order; to be sent again later
//
// Of all but OK nothing but events and repair is kept. The error is a fault of
// the store.
func (e *Engine) Receive(tx store.Tx, now time.Time, o Opened, via Path) (protocol.Code, Hint, error) {
	if o.blocked {
		return protocol.OK, Hint{}, nil
	}
	w, err := e.begin(tx, now)
	if err != nil {
		return protocol.Internal, Hint{}, err
	}
	code, err := w.receive(o, via)
	if err != nil {
		return protocol.Internal, Hint{}, err
	}
	h, err := w.end()
	return code, h, err
}

func (w *work) receive(o Opened, via Path) (protocol.Code, error) {
	if o.cause != "" && o.session == (protocol.SessionID{}) {
		return protocol.Undecryptable, w.trouble(o.cause, protocol.AccountID{}, "not an envelope")
	}
	s, ok, err := w.session(o.session)
	if err != nil {
		return protocol.Internal, err
	}
	if ok {
		return w.receiveOn(s, o, via)
	}
	if o.opening == nil {
		return w.undecryptable(o, via)
	}
	return w.receiveFirst(o, via)
}

// receiveOn receives a message of a known session.
func (w *work) receiveOn(s session.State, o Opened, via Path) (protocol.Code, error) {
	from := s.Peer()
	d, err := w.device(from)
	if err != nil {
		return protocol.Internal, err
	}
	p, err := w.peer(d.account)
	if err != nil {
		return protocol.Internal, err
	}
	if shut, err := w.shut(d.account, p); err != nil {
		return protocol.Internal, err
	} else if shut {
		return protocol.OK, nil
	}
	next, plain, err := s.Decrypt(w.now, o.message)
	if d.revoked {
		return w.receiveLast(o, d, plain)
	}
	if err != nil {
		return w.doesNotOpen(o, from, d, via, err)
	}
	in, code, err := w.admit(from, d, p, via, plain)
	if code != protocol.OK || err != nil {
		return code, err
	}
	w.setSession(next)
	d.opened(next)
	if err := errors.Join(w.usedSession(d, next.ID()), w.setSeen(o.id), w.receiveContent(&in)); err != nil {
		return protocol.Internal, err
	}
	return protocol.OK, w.drain(from, d) // an answer makes a session that had become too old usable again
}

// shut tells that an account is blocked, so that nothing of it is taken. Of who is in a
// room with us what the room needs is taken all the same: see receiveContent.
func (w *work) shut(a protocol.AccountID, p *peerRow) (bool, error) {
	if p.relation != Blocked {
		return false, nil
	}
	mate, err := w.mate(a)
	return !mate, err
}

// admit reads a content and tells whether it may be taken.
func (w *work) admit(from protocol.DeviceID, d *deviceRow, p *peerRow, via Path, plain []byte) (in incoming, code protocol.Code, err error) {
	content, ok := parseContent(plain)
	if !ok {
		return in, protocol.BadRequest, w.trouble(CauseMalformed, d.account, "message without content")
	}
	in = incoming{from: from, d: d, p: p, via: via, content: content}
	switch {
	case p.relation == Self && !fromSibling(content), p.relation != Self && onlySiblings(content):
		return in, protocol.BadRequest, w.trouble(CauseMalformed, d.account, "a content that its sender may not send")
	case content.GetRoomKeys() != nil:
		code, err := w.mayGiveKeys(&in, content.GetRoomKeys())
		return in, code, err
	case p.relation == Self && in.tooEarly():
		return in, protocol.Unavailable, nil
	case p.relation == Self:
		return in, protocol.OK, nil
	case !p.listed() && fromMates(content):
		mate, err := w.mate(d.account)
		if !mate {
			code = protocol.NotContact
		}
		return in, code, err
	case p.relation == Blocked: // dropped, and not told
		return in, protocol.OK, nil
	case !p.mayReceive(content), p.relation == Stranger && w.count().incoming >= maxIncoming:
		return in, protocol.NotContact, nil
	case in.tooEarly():
		return in, protocol.Unavailable, nil
	}
	return in, protocol.OK, nil
}

// opened notes that a message of the device opened.
func (r *deviceRow) opened(s session.State) {
	r.repair = r.repair.Opened()
	for i := range r.sessions {
		if r.sessions[i].ID == s.ID() {
			r.sessions[i].Confirmed = s.Confirmed()
		}
	}
}

// receiveFirst receives the first message of a session that is not known yet.
// What Open found is looked at again: it was another transaction.
func (w *work) receiveFirst(o Opened, via Path) (protocol.Code, error) {
	op := o.opening.opening
	d, err := w.device(op.Sender)
	if err == ErrNotFound { // forgotten since Open
		return protocol.NotContact, nil
	}
	if err != nil {
		return protocol.Internal, err
	}
	p, err := w.peer(d.account)
	if err != nil {
		return protocol.Internal, err
	}
	if shut, err := w.shut(d.account, p); err != nil {
		return protocol.Internal, err
	} else if shut {
		return protocol.OK, nil
	}
	if o.cause, err = w.openingGone(o); err != nil {
		return protocol.Internal, err
	}
	if o.cause != "" {
		return w.undecryptable(o, via)
	}
	next, plain, err := o.opening.state.Decrypt(w.now, o.message)
	if d.revoked {
		return w.receiveLast(o, d, plain)
	}
	if err != nil {
		return w.doesNotOpen(o, op.Sender, d, via, err)
	}
	in, code, err := w.admit(op.Sender, d, p, via, plain)
	if code != protocol.OK || err != nil {
		return code, err
	}
	in.first = true
	w.remember(p) // its session is kept
	if err := w.keepSession(d, o, next); err != nil {
		return protocol.Internal, err
	}
	if err := errors.Join(w.setSeen(o.id), w.receiveContent(&in)); err != nil {
		return protocol.Internal, err
	}
	if op.Reset {
		return protocol.OK, w.sealAnew(op.Sender, d)
	}
	return protocol.OK, w.drain(op.Sender, d)
}

// openingGone tells why an opening can no longer be accepted.
func (w *work) openingGone(o Opened) (cause string, err error) {
	op := o.opening.opening
	keys := [][]byte{keySigned(op.SignedID)}
	if op.HasOneTime {
		keys = append(keys, keyOneTime(op.OneTimeID))
	}
	for _, k := range keys {
		if b, err := get(w.tx, k); err != nil || b == nil {
			return CauseExpiredPrekey, err
		}
	}
	if b, err := get(w.tx, keyReplay(op.SignedID, op.EK)); err != nil || b != nil {
		return CauseReplay, err
	}
	return "", nil
}

// keepSession stores an accepted session, and sees to it that its opening is
// not accepted again: the one-time prekey is destroyed, or the opening is
// remembered for as long as the signed prekey lives.
func (w *work) keepSession(d *deviceRow, o Opened, s session.State) error {
	op := o.opening.opening
	if err := w.addSession(op.Sender, d, s, time.Time{}); err != nil {
		return err
	}
	d.opened(s)
	if err := w.usedPrekeys(d, op, s.ID()); err != nil {
		return err
	}
	if op.HasOneTime {
		return w.dropOneTime(op.OneTimeID, "used")
	}
	if err := w.set(keyReplay(op.SignedID, op.EK), []byte{rowVersion}); err != nil {
		return err
	}
	return w.usedFallback(op.SignedID)
}

// undecryptable notes an envelope of no known session.
func (w *work) undecryptable(o Opened, via Path) (protocol.Code, error) {
	if seen, err := w.wasSeen(o.id); seen || err != nil {
		return protocol.OK, err
	}
	if o.cause == "" {
		o.cause = CauseUnknownSession
	}
	from, d, err := w.whose(o)
	if err != nil {
		return protocol.Internal, err
	}
	if d != nil && d.revoked { // sealed before it knew; its sessions are destroyed
		return protocol.NotContact, nil
	}
	var account protocol.AccountID
	if d != nil {
		account = d.account
	}
	if err := w.trouble(o.cause, account, "no session opens it"); err != nil {
		return protocol.Internal, err
	}
	stale := o.cause == CauseExpiredPrekey || o.cause == CauseReplay
	if d != nil && (o.cause == CauseUnknownSession || stale && via == Mailbox) {
		err = w.broken(from, d, o.session, d.repair.UnknownSession())
	}
	if stale { // the sender replaces the session, if it hears of this
		return protocol.StaleKey, err
	}
	return protocol.Undecryptable, err
}

// whose tells which device an envelope of no known session is of, as far as that
// can be told; a nil row if it cannot.
func (w *work) whose(o Opened) (device protocol.DeviceID, d *deviceRow, err error) {
	device = o.from
	if device == (protocol.DeviceID{}) {
		device = o.claimed
	}
	if device == (protocol.DeviceID{}) {
		if device, err = w.deviceOfGone(o.session); err != nil {
			return device, nil, err
		}
	}
	d, err = w.device(device)
	if err == ErrNotFound {
		return device, nil, nil
	}
	return device, d, err
}

// doesNotOpen deals with a message that does not open on its session. Mostly it
// is a copy of one that did. Of any other, on a connection, the sender hears and
// tries again, so that three failures are soon counted; a mailbox brings it only
// once, and one whose key is gone will never open.
func (w *work) doesNotOpen(o Opened, from protocol.DeviceID, d *deviceRow, via Path, problem error) (protocol.Code, error) {
	if seen, err := w.wasSeen(o.id); seen || err != nil {
		return protocol.OK, err
	}
	cause := CauseBadTag
	switch {
	case errors.Is(problem, session.ErrMalformed):
		cause = CauseMalformed
	case errors.Is(problem, session.ErrSkip):
		cause = CauseSkippedTooFar
	case errors.Is(problem, session.ErrReplay):
		cause = CauseReplay
	}
	if err := w.trouble(cause, d.account, problem.Error()); err != nil {
		return protocol.Internal, err
	}
	next := d.repair.Failed(w.now, problem)
	if via == Mailbox && cause != CauseMalformed || cause == CauseReplay {
		next = d.repair.UnknownSession()
	}
	return protocol.Undecryptable, w.broken(from, d, o.session, next)
}

// parseContent reads what an envelope held. It is well-formed if it has an id,
// and a body or evidence, and a text has a place in the order.
func parseContent(plain []byte) (*wire.Content, bool) {
	c := &wire.Content{}
	if err := proto.Unmarshal(plain, c); err != nil || len(c.GetMsgId()) != len(protocol.MsgID{}) {
		return nil, false
	}
	switch body := c.GetBody().(type) {
	case nil:
		return c, len(c.GetEvidence()) > 0
	case *wire.Content_Text:
		if c.GetSeq() == 0 || len(body.Text.GetText()) > protocol.MaxText {
			return nil, false
		}
	}
	return c, true
}

// mayReceive tells whether the account may send this. Anybody may ask, under
// the name that the directory binds to the account; who we asked may answer,
// and may write at once.
func (p *peerRow) mayReceive(c *wire.Content) bool {
	if request := c.GetContactRequest(); request != nil {
		return p.name != "" && request.GetName() == p.name // guests have none
	}
	return p.listed()
}
