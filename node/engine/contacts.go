package engine

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// askAgainAfter is when an unanswered request is sent again: then the first is
// no longer in any mailbox.
const askAgainAfter = protocol.MailboxTTL

// Add asks an account, as the directory answered, to be a contact, with a note
// for a person; if they asked first, it accepts. Repeating it changes nothing.
// The caller has checked that the answer is about the name the user gave.
//
// Refusals: those of SetAccount, ErrGuest, ErrSelf, ErrBlocked, ErrTooMany, ErrTooLong,
// ErrBadText.
func (e *Engine) Add(tx store.Tx, now time.Time, f *wire.Found, note string) (Hint, error) {
	if e.isGuest() {
		return Hint{}, ErrGuest
	}
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	a, err := w.provenAnswer(f)
	if err != nil {
		return Hint{}, err
	}
	if err := w.mayAdd(a, note); err != nil {
		return Hint{}, err
	}
	p, err := w.learn(a, time.Time{})
	if err != nil {
		return Hint{}, err
	}
	if err := w.add(a.chain.Account(), p, note); err != nil {
		return Hint{}, err
	}
	return w.useAnswer(p, a)
}

func (w *work) mayAdd(a answer, note string) error {
	if a.chain.Account() == w.e.id.Account {
		return ErrSelf
	}
	if len(note) > protocol.MaxNote {
		return fmt.Errorf("note: %w: at most %d bytes", ErrTooLong, protocol.MaxNote)
	}
	if !utf8.ValidString(note) {
		return fmt.Errorf("note: %w", ErrBadText)
	}
	if len(a.devices) == 0 {
		return ErrNoDevice
	}
	p, err := w.peer(a.chain.Account())
	if err != nil && err != ErrNotFound {
		return err
	}
	if err == nil && p.relation == Blocked {
		return ErrBlocked
	}
	if w.count().listed >= protocol.MaxContacts && (err != nil || !p.listed()) {
		return ErrTooMany
	}
	return nil
}

func (w *work) add(id protocol.AccountID, p *peerRow, note string) error {
	switch {
	case p.relation == Incoming:
		return w.accept(id, p)
	case p.relation == Accepted, p.relation == Requested && w.now.Sub(p.since) < askAgainAfter:
		return nil
	}
	if err := w.relate(id, p, Requested, KindContact); err != nil {
		return err
	}
	request := &wire.ContactRequest{Name: w.e.id.Name, Display: w.e.id.Display, Note: note}
	for _, device := range p.valid(w.now) {
		d, err := w.device(device)
		if err != nil {
			return err
		}
		content := &wire.Content{Body: &wire.Content_ContactRequest{ContactRequest: request}}
		if p.request, err = w.postOther(device, d, wire.MailKind_REQUEST, content); err != nil {
			return err
		}
	}
	return nil
}

// listed tells whether an account is on the allow list: who we asked must be
// able to answer.
func (p *peerRow) listed() bool { return p.relation == Accepted || p.relation == Requested }

// relate changes a relation and what depends on it, with an event of kind k.
func (w *work) relate(id protocol.AccountID, p *peerRow, r Relation, k Kind) error {
	c := w.count()
	if p.listed() {
		c.listed--
	}
	if p.relation == Incoming {
		c.incoming--
	}
	w.remember(p)
	p.relation, p.since = r, w.now
	if p.listed() {
		c.listed++
	}
	if r == Incoming {
		c.incoming++
	}
	w.change(id, p)
	w.hint.Contacts = true
	return w.event(eventRow{kind: k, account: id, text: r.String()})
}

// remember keeps an account that would be forgotten after a day.
func (w *work) remember(p *peerRow) {
	if !p.known {
		p.known = true
		w.count().visitors = max(w.count().visitors, 1) - 1
	}
}

// accept makes somebody who asked a contact and tells them.
func (w *work) accept(id protocol.AccountID, p *peerRow) error {
	if err := w.relate(id, p, Accepted, KindContact); err != nil {
		return err
	}
	return w.tellAccepted(p)
}

func (w *work) tellAccepted(p *peerRow) error {
	accept := &wire.ContactAccept{Name: w.e.id.Name, Display: w.e.id.Display}
	for _, device := range p.valid(w.now) {
		d, err := w.device(device)
		if err != nil {
			return err
		}
		queued, err := w.acceptQueued(device)
		if err != nil {
			return err
		}
		if queued {
			continue
		}
		content := &wire.Content{Body: &wire.Content_ContactAccept{ContactAccept: accept}}
		if _, err := w.postOther(device, d, wire.MailKind_MESSAGE, content); err != nil {
			return err
		}
	}
	return nil
}

// acceptQueued tells whether an accept is among the newest contents queued for
// a device. One that asks again and again gets no more than that.
func (w *work) acceptQueued(device protocol.DeviceID) (bool, error) {
	for _, table := range []byte{tableWaiting, tableOut, tableKept} {
		rows := 0
		prefix := store.Key(table, device[:])
		for pair, err := range w.tx.ScanDown(prefix, store.PrefixEnd(prefix)) {
			if err != nil {
				return false, err
			}
			r, err := decodeRow[itemRow](pair.Value)
			if err != nil {
				return false, err
			}
			content, ok := parseContent(r.content)
			if ok && content.GetContactAccept() != nil {
				return true, nil
			}
			if rows++; rows == sentRows {
				break
			}
		}
	}
	return false, nil
}

// Accept makes somebody who asked a contact. Of a contact it changes nothing.
func (e *Engine) Accept(tx store.Tx, now time.Time, a protocol.AccountID) (Hint, error) {
	return e.relation(tx, now, a, func(w *work, p *peerRow) error {
		switch {
		case p.relation == Accepted:
			return nil
		case p.relation != Incoming:
			return ErrNotContact
		case w.count().listed >= protocol.MaxContacts:
			return ErrTooMany
		}
		return w.accept(a, p)
	})
}

// Decline drops a request. The account is not told, and may ask again.
func (e *Engine) Decline(tx store.Tx, now time.Time, a protocol.AccountID) (Hint, error) {
	return e.relation(tx, now, a, func(w *work, p *peerRow) error {
		if p.relation != Incoming {
			return nil
		}
		return w.relate(a, p, Stranger, KindContact)
	})
}

// Block drops, without a word, everything the account sends from now on, and
// gives up what was queued for it.
func (e *Engine) Block(tx store.Tx, now time.Time, a protocol.AccountID) (Hint, error) {
	return e.relation(tx, now, a, func(w *work, p *peerRow) error {
		if p.relation == Blocked {
			return nil
		}
		p.before = p.relation
		return w.part(a, p, Blocked)
	})
}

// Unblock makes a blocked contact a contact again, and anybody else a stranger.
// What was sent meanwhile is lost.
func (e *Engine) Unblock(tx store.Tx, now time.Time, a protocol.AccountID) (Hint, error) {
	return e.relation(tx, now, a, func(w *work, p *peerRow) error {
		if p.relation != Blocked {
			return nil
		}
		if err := w.goOnAll(p); err != nil {
			return err
		}
		if p.before != Accepted {
			return w.relate(a, p, Stranger, KindContact)
		}
		return w.relate(a, p, Accepted, KindContact)
	})
}

func (w *work) goOnAll(p *peerRow) error {
	for _, device := range p.devices {
		d, err := w.device(device.id)
		if err != nil {
			return err
		}
		if err := w.goOn(device.id, d); err != nil {
			return err
		}
	}
	return nil
}

// goOn takes up the order of a device's texts after some were lost: with what
// is held of it, else with what comes next.
func (w *work) goOn(device protocol.DeviceID, d *deviceRow) error {
	d.next = 0
	if d.held == 0 {
		return nil
	}
	first, _, err := w.firstHeld(device, d)
	if err != nil {
		return err
	}
	d.next = first
	return w.release(device, d)
}

// Remove ends a contact, or takes a request back. The conversation stays, and
// the name stays bound to the account.
func (e *Engine) Remove(tx store.Tx, now time.Time, a protocol.AccountID) (Hint, error) {
	return e.relation(tx, now, a, func(w *work, p *peerRow) error {
		if p.relation == Stranger {
			return nil
		}
		p.verified = false
		return w.part(a, p, Stranger)
	})
}

// part ends writing to an account, and giving it files.
func (w *work) part(id protocol.AccountID, p *peerRow, r Relation) error {
	if err := errors.Join(w.relate(id, p, r, KindContact), w.dropComparison(id, nil), w.unshare(id, p)); err != nil {
		return err
	}
	for _, device := range p.devices {
		d, err := w.device(device.id)
		if err != nil {
			return err
		}
		if err := w.purge(device.id, d); err != nil {
			return err
		}
	}
	return nil
}

// purge gives up what is queued for a device that is no longer written to, as
// much as one transaction may carry.
func (w *work) purge(device protocol.DeviceID, d *deviceRow) error {
	p, err := w.peer(d.account)
	if err != nil || !d.revoked && (p.listed() || p.relation == Self) {
		return err
	}
	mate := false
	if !d.revoked {
		if mate, err = w.mate(d.account); err != nil {
			return err
		}
	}
	rows := 0
	for _, table := range []byte{tableKept, tableOut, tableWaiting} { // the oldest first
		err := all(w.tx, store.Key(table, device[:]), func(pair store.Pair) (bool, error) {
			if w.full(rows) {
				return false, w.at(w.now, timerPurge, device[:])
			}
			r, err := decodeRow[itemRow](pair.Value)
			if err != nil {
				return false, err
			}
			if mate && r.kind == wire.MailKind_ROOM { // in a room with us all the same
				return true, nil
			}
			rows++
			return true, w.giveUp(p, d, pair.Key, r)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// SetVerified notes what a person found by comparing the safety number. That it
// is the same settles a recovery of the account; that it is not does not: what
// is held back after one stays so.
func (e *Engine) SetVerified(tx store.Tx, now time.Time, a protocol.AccountID, verified bool) (Hint, error) {
	return e.relation(tx, now, a, func(w *work, p *peerRow) error {
		if p.relation == Stranger {
			return ErrNotContact
		}
		switch {
		case !verified:
			return w.distrust(a, p)
		case p.verified && !p.held():
			return nil
		}
		return w.look(a, p, true)
	})
}

// AcceptRecovery goes on writing to a contact whose account was recovered,
// without comparing the safety number again: it no longer counts as verified.
func (e *Engine) AcceptRecovery(tx store.Tx, now time.Time, a protocol.AccountID) (Hint, error) {
	return e.relation(tx, now, a, func(w *work, p *peerRow) error {
		if p.relation == Stranger {
			return ErrNotContact
		}
		if p.looked == p.recoveries {
			return nil
		}
		return w.look(a, p, false)
	})
}

// look notes that the user looked at a contact's account as it is now.
func (w *work) look(a protocol.AccountID, p *peerRow, verified bool) error {
	p.verified, p.looked = verified, p.recoveries
	w.change(a, p)
	w.wake(p)
	return errors.Join(w.unblockPeer(p), w.event(eventRow{kind: KindContact, account: a}))
}

// distrust takes the mark of a verified contact away, unless it holds back what
// is sent.
func (w *work) distrust(a protocol.AccountID, p *peerRow) error {
	if !p.verified || p.held() {
		return nil
	}
	p.verified = false
	w.change(a, p)
	return w.event(eventRow{kind: KindContact, account: a})
}

// relation changes what an account is to us; ErrNotFound for an unknown one.
func (e *Engine) relation(tx store.Tx, now time.Time, a protocol.AccountID, fn func(*work, *peerRow) error) (Hint, error) {
	if a == e.id.Account {
		return Hint{}, ErrSelf
	}
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	p, err := w.peer(a)
	if err != nil {
		return Hint{}, err
	}
	if err := fn(w, p); err != nil {
		return Hint{}, err
	}
	return w.end()
}
