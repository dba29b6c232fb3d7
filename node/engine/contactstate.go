package engine

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// All devices of the account know the same contacts: a device at which one
// changes tells the others, and the latest change wins.

// change notes that something about a contact changed here that the siblings
// must know.
func (w *work) change(a protocol.AccountID, p *peerRow) {
	after := p.changedAt.Add(time.Millisecond) // also when our clock is behind that of a sibling
	p.changedAt, p.elsewhere = w.now, false
	if after.After(w.now) {
		p.changedAt = after
	}
	w.changed = addOnce(w.changed, a)
}

// tellChanges tells the siblings of the contacts that changed.
func (w *work) tellChanges() error {
	for _, a := range w.changed {
		list, err := w.siblings()
		if err != nil {
			return err
		}
		for _, device := range list {
			if _, err := w.tellContact(device, a); err != nil {
				return err
			}
		}
	}
	w.changed = nil
	return nil
}

// tellContact tells a sibling what is known of a contact.
func (w *work) tellContact(device protocol.DeviceID, a protocol.AccountID) (id protocol.MsgID, err error) {
	p, err := w.peer(a)
	if err != nil {
		return id, err
	}
	state, err := w.contactState(a, p)
	if err != nil {
		return id, err
	}
	return w.tell(device, &wire.Content{Body: &wire.Content_ContactState{ContactState: state}})
}

// contactState is what is known of a contact, for another device of ours or a
// backup.
func (w *work) contactState(a protocol.AccountID, p *peerRow) (*wire.ContactState, error) {
	chain, err := get(w.tx, keyChain(a))
	if err != nil {
		return nil, err
	}
	return &wire.ContactState{
		Account: slices.Clone(a[:]), Name: p.name, Display: p.display, Note: p.note,
		Relation: wire.Relation(indexOf(relations, p.relation)), Verified: p.verified,
		SinceMs: uint64(millis(p.since)), ChangedMs: uint64(millis(p.changedAt)),
		Chain: slices.Clone(chain), Recoveries: p.looked,
	}, nil
}

// takeContact takes over what another device of ours, or a backup, knows of a
// contact: its keys if they extend those known here, and the rest if that is
// the later change. Refusals, with nothing changed: ErrBadAnswer,
// ErrNameSwapped, ErrChainFork.
func (w *work) takeContact(c *wire.ContactState) error {
	a, chain, err := w.checkContact(c)
	if err != nil {
		return err
	}
	p, err := w.peer(a)
	if err == ErrNotFound {
		p, err = w.newContact(a), nil
	}
	if err != nil {
		return err
	}
	first := p.head == [16]byte{}
	if err := w.learnContact(p, c.GetName(), chain); err != nil {
		return err
	}
	if looked := min(c.GetRecoveries(), p.recoveries); first || looked > p.looked {
		p.looked = looked
		w.wake(p)
	}
	changed, relation := fromMillis(int64(c.GetChangedMs())), relations[c.GetRelation()]
	if changed.Before(p.changedAt) || changed.Equal(p.changedAt) && indexOf(relations, relation) <= indexOf(relations, p.relation) {
		return nil
	}
	if !w.roomFor(p, relation) {
		return nil
	}
	p.changedAt = changed
	return w.adopt(a, p, c, relation)
}

// contactBatch is what TakeContacts takes in one transaction, in bytes.
const contactBatch = 128 << 10

// ContactBatches cuts a list of contacts into what TakeContacts takes in one
// transaction.
func ContactBatches(list []*wire.ContactState) iter.Seq[[]*wire.ContactState] {
	return func(yield func([]*wire.ContactState) bool) {
		for len(list) > 0 {
			n, size := 0, 0
			for ; n < len(list) && size < contactBatch; n++ {
				size += proto.Size(list[n])
			}
			if !yield(list[:n]) {
				return
			}
			list = list[n:]
		}
	}
}

// checkContact reads a contact state and holds it against what is known. The
// chain is nil if what is known goes further.
func (w *work) checkContact(c *wire.ContactState) (a protocol.AccountID, chain *account.Chain, err error) {
	if a, err = protocol.FromBytes[protocol.AccountID](c.GetAccount()); err != nil {
		return a, nil, fmt.Errorf("%w: contact without an account", ErrBadAnswer)
	}
	if c.GetRelation() < 0 || c.GetRelation() > wire.Relation_BLOCKED || a == w.e.id.Account {
		return a, nil, fmt.Errorf("%w: no relation to a contact", ErrBadAnswer)
	}
	answer, err := w.answer(&wire.Found{Name: c.GetName(), Chain: c.GetChain()})
	if errors.Is(err, ErrChainFork) {
		if known, err := w.knownExtends(a, c.GetChain()); known || err != nil {
			return a, nil, err
		}
	}
	if err != nil {
		return a, nil, err
	}
	if answer.chain.Account() != a {
		return a, nil, fmt.Errorf("%w: chain of another account", ErrBadAnswer)
	}
	return a, answer.chain, nil
}

// knownExtends tells whether the chain known of an account holds old's
// statements, then more.
func (w *work) knownExtends(a protocol.AccountID, old []byte) (bool, error) {
	b, err := get(w.tx, keyChain(a))
	if err != nil || b == nil {
		return false, err
	}
	known, err := account.ParseChain(b)
	if err != nil {
		return false, fmt.Errorf("chain row: %w", store.ErrDamaged)
	}
	before, err := account.ParseChain(old)
	return err == nil && known.Extends(before), nil
}

// newContact makes an account known that a sibling knows. Its older messages
// will fit below.
func (w *work) newContact(a protocol.AccountID) *peerRow {
	return w.addPeer(a, peerRow{known: true, position: basePosition, readTo: basePosition, readWant: basePosition})
}

// learnContact stores the name and the chain that came with a contact. A longer
// chain counts as a look-up: the sibling verified it as we do.
func (w *work) learnContact(p *peerRow, name string, chain *account.Chain) error {
	if chain == nil {
		return nil
	}
	id := chain.Account()
	if err := w.bind(p, id, name); err != nil {
		return err
	}
	known, err := get(w.tx, keyChain(id))
	if err != nil {
		return err
	}
	if len(known) == len(chain.Bytes()) {
		return nil
	}
	if err := w.learnChain(p, chain); err != nil {
		return err
	}
	if p.checked.IsZero() {
		p.checked = w.now
	}
	return nil
}

// roomFor tells whether one more contact may be taken.
func (w *work) roomFor(p *peerRow, r Relation) bool {
	next := peerRow{relation: r}
	switch {
	case next.listed() && !p.listed():
		return w.count().listed < protocol.MaxContacts
	case r == Incoming && p.relation != Incoming:
		return w.count().incoming < maxIncoming
	}
	return true
}

// adopt makes a contact what it is on a sibling.
func (w *work) adopt(a protocol.AccountID, p *peerRow, c *wire.ContactState, r Relation) error {
	was := p.relation
	if c.GetVerified() && !p.verified {
		if err := w.unblockPeer(p); err != nil {
			return err
		}
	}
	p.display, p.verified, p.note, p.elsewhere = cleanFrom(c.GetDisplay()), c.GetVerified(), c.GetNote(), true
	if len(p.note) > protocol.MaxNote || !utf8.ValidString(p.note) {
		p.note = ""
	}
	if was == r {
		return w.event(eventRow{kind: KindContact, account: a})
	}
	if err := w.becomes(a, p, r); err != nil {
		return err
	}
	p.since = fromMillis(int64(c.GetSinceMs()))
	return nil
}

// becomes changes a relation as the sibling did.
func (w *work) becomes(a protocol.AccountID, p *peerRow, r Relation) error {
	switch was := p.relation; {
	case r == Blocked:
		p.before = was
		return w.part(a, p, r)
	case r == Stranger && was != Blocked:
		return w.part(a, p, r)
	case was == Blocked:
		if err := w.goOnAll(p); err != nil {
			return err
		}
		return w.relate(a, p, r, KindContact)
	case r == Accepted && was == Requested:
		if err := w.settleRequest(p); err != nil {
			return err
		}
		return w.relate(a, p, r, KindAccepted)
	case r == Incoming:
		return w.relate(a, p, r, KindRequest)
	}
	return w.relate(a, p, r, KindContact)
}
