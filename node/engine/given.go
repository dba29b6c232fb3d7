package engine

import (
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Contacts' devices that reach this one may ask it for a prekey, instead of the
// rendezvous: that takes nothing off the published stock, and works without a
// rendezvous.

// givenFor is how long the same question gets the same answer.
const givenFor = 10 * time.Minute

// givenRow is the one-time prekey that a device was last given.
type givenRow struct {
	nonce  [16]byte
	prekey protocol.PrekeyID
	at     time.Time
}

func (r *givenRow) encode() []byte {
	e := newRow(40)
	e.raw(r.nonce[:])
	e.raw(r.prekey[:])
	e.time(r.at)
	return e.b
}

func (r *givenRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.nonce[:])
	d.fixed(r.prekey[:])
	r.at = d.time()
	return d.end("given prekey")
}

// GiveBundle answers a contact's device that asks for a prekey: the signed
// prekey, its RSA key, and a one-time prekey of its own. The same nonce gets
// the same for a while. The error is a *protocol.Error: BadRequest, NotContact,
// RateLimited, or Unavailable, when the asker should go to the rendezvous; or
// a fault of the store.
func (e *Engine) GiveBundle(tx store.Tx, now time.Time, to protocol.DeviceID, nonce []byte) (*wire.Bundle, error) {
	if len(nonce) != len(givenRow{}.nonce) {
		return nil, protocol.Refuse(protocol.BadRequest, "a nonce has 16 bytes")
	}
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	if e.stopped.Load() {
		return nil, protocol.Refuse(protocol.Unavailable, "this device is being replaced")
	}
	if err := w.mayAsk(to); err != nil {
		return nil, err
	}
	k, _, err := load[prekeysRow](tx, store.Key(tablePrekeys))
	if err != nil {
		return nil, err
	}
	signed, err := loadPair(tx, keySigned(k.signed))
	if err != nil {
		return nil, err
	}
	if signed == nil || k.held(w.now) != "" || !w.now.Before(signed.Record.Expires) {
		return nil, protocol.Refuse(protocol.Unavailable, "no signed prekey is valid now")
	}
	rsa, err := e.rsaFor(tx, signed.Record.RSAHash)
	if err != nil {
		return nil, fmt.Errorf("RSA key of signed prekey %v: %w", k.signed, err)
	}
	oneTime, err := w.give(&k, to, [16]byte(nonce))
	if err != nil {
		return nil, err
	}
	if _, err := w.end(); err != nil {
		return nil, err
	}
	own := e.id.Device
	return &wire.Bundle{
		Device: own[:], SignedRecord: signed.Record.Marshal(), Rsa: rsa.Public().Bytes(), OneTimeRecord: oneTime.Marshal(),
	}, nil
}

// mayAsk tells whether a device may open a session with this one: it is
// certified by an account that is a contact, or by our own.
func (w *work) mayAsk(device protocol.DeviceID) error {
	stranger := protocol.Refuse(protocol.NotContact, "")
	d, err := w.device(device)
	if err == ErrNotFound {
		return stranger
	}
	if err != nil {
		return err
	}
	p, err := w.peer(d.account)
	if err == ErrNotFound {
		return stranger
	}
	if err != nil {
		return err
	}
	for _, valid := range p.valid(w.now) {
		if valid == device && (p.relation == Accepted || p.relation == Self) && !d.revoked {
			return nil
		}
	}
	return stranger
}

// give returns the one-time prekey for a device, a new one unless it asks for
// the last one again.
func (w *work) give(k *prekeysRow, to protocol.DeviceID, nonce [16]byte) (prekey.Record, error) {
	last, ok, err := load[givenRow](w.tx, keyGiven(to))
	if err != nil {
		return prekey.Record{}, err
	}
	if age := w.now.Sub(last.at); ok && last.nonce == nonce && age >= 0 && age <= givenFor {
		pair, err := loadPair(w.tx, keyOneTime(last.prekey))
		if err != nil {
			return prekey.Record{}, err
		}
		if pair != nil {
			return pair.Record, nil
		}
	}
	if !w.e.limits.given.left(w.now, to) {
		return prekey.Record{}, protocol.Refuse(protocol.RateLimited, "too many prekeys")
	}
	if k.kept >= maxPrivates/2 { // the rest is for those that the rendezvous hands out
		return prekey.Record{}, protocol.Refuse(protocol.Unavailable, "too many prekeys are unused")
	}
	w.e.limits.given.take(w.now, to)
	record, err := w.makeOneTime(k, "for one device")
	if err != nil {
		return record, err
	}
	id := record.ID()
	if err := w.ledger(ledger.OneTime, id[:], ledger.Claimed, "given to device "+short(to)); err != nil {
		return record, err
	}
	if err := w.put(keyGiven(to), &givenRow{nonce: nonce, prekey: id, at: w.now}); err != nil {
		return record, err
	}
	return record, w.put(store.Key(tablePrekeys), k)
}

// WantedOf returns the devices of an account that a session is wanted with and
// that may be asked for a prekey themselves: what is known of the account is
// fresh, so none of them was revoked. Of any other account it returns none, and
// a look-up is needed.
func (e *Engine) WantedOf(tx store.Tx, now time.Time, id protocol.AccountID) (list []protocol.DeviceID, err error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	p, err := w.peer(id)
	if err == ErrNotFound {
		return nil, nil
	}
	if err != nil || !p.fresh(w.now) {
		return nil, err
	}
	for _, device := range p.valid(w.now) {
		d, err := w.device(device)
		if err != nil {
			return nil, err
		}
		wanted, err := w.wantsSession(d)
		if err != nil {
			return nil, err
		}
		if wanted {
			list = append(list, device)
		}
	}
	return list, nil
}

// fresh tells whether the account's record is good enough to open sessions
// without asking the rendezvous.
func (p *peerRow) fresh(now time.Time) bool {
	age := now.Sub(p.checked)
	return !p.changed && age >= 0 && age <= refreshAfter
}

// SetBundles takes bundles that devices of an account gave of themselves, opens
// the sessions that are wanted and seals what waited, as SetAccount does.
// ErrStaleDirectory if what is known of the account is not fresh; then nothing
// changes.
func (e *Engine) SetBundles(tx store.Tx, now time.Time, id protocol.AccountID, bundles []*wire.Bundle) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	p, err := w.peer(id)
	if err != nil {
		return Hint{}, err
	}
	if !p.fresh(w.now) {
		return Hint{}, ErrStaleDirectory
	}
	chain, err := w.knownChain(id)
	if err != nil {
		return Hint{}, err
	}
	return w.useAnswer(p, answer{name: p.name, chain: chain, bundles: bundles, devices: chain.Devices(w.now), known: chain})
}

// knownChain is the chain of an account as it was last looked up.
func (w *work) knownChain(id protocol.AccountID) (*account.Chain, error) {
	b, err := get(w.tx, keyChain(id))
	if err != nil {
		return nil, err
	}
	chain, err := account.ParseChain(b)
	if err != nil {
		return nil, fmt.Errorf("chain row: %w", store.ErrDamaged)
	}
	return chain, nil
}
