package engine

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/store"
)

const (
	rotateJitter  = 12 * time.Hour // so that not all devices rotate at once
	fallbackAfter = 24 * time.Hour // least age at which a signed prekey is replaced because it served as the last resort,
	floodAfter    = time.Hour      // or because it did so floodUses times
	floodUses     = 8
	rsaEvery      = 365 * 24 * time.Hour
	rsaJitter     = 30 * 24 * time.Hour
	rsaRetry      = 10 * time.Minute // an RSA key that is wanted is asked for again after this
)

// Rotation is what RotateKeys replaces.
type Rotation string

const (
	RotateSigned   Rotation = "signed"   // the signed prekey
	RotateRSA      Rotation = "rsa"      // the RSA key, and the signed prekey that names it
	RotateSessions Rotation = "sessions" // every session, with the next message to the device
	RotateAll      Rotation = "all"
)

// RotateKeys replaces keys before their time. What was sealed to the old ones
// still opens: they are destroyed when nothing can come for them any more.
// ErrNotFound for a rotation that does not exist.
func (e *Engine) RotateKeys(tx store.Tx, now time.Time, what Rotation) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	k, _, err := load[prekeysRow](tx, store.Key(tablePrekeys))
	if err != nil {
		return Hint{}, err
	}
	all := what == RotateAll
	switch what {
	case RotateSigned, RotateRSA, RotateSessions, RotateAll:
	default:
		return Hint{}, fmt.Errorf("rotation of %q: %w", string(what), ErrNotFound)
	}
	if all || what == RotateSigned {
		k.rotateAt, w.hint.Prekeys = time.Time{}, true
	}
	if all || what == RotateRSA {
		k.rsaWanted = true
		if err := w.wantRSA(); err != nil {
			return Hint{}, err
		}
	}
	if all || what == RotateSessions {
		w.count().renewBefore = w.now.Truncate(time.Second)
	}
	if err := w.put(store.Key(tablePrekeys), &k); err != nil {
		return Hint{}, err
	}
	return w.end()
}

// due tells why a new signed prekey is to be made; "" if none is.
func (k *prekeysRow) due(now time.Time) string {
	age := now.Sub(k.signedAt)
	switch {
	case k.signed == (protocol.PrekeyID{}):
		return "first"
	case k.rotateAt.IsZero():
		return "on demand"
	case age < -clockBack:
		return "made by a clock that was ahead"
	case !now.Before(k.rotateAt):
		return "age"
	case k.fallbacks >= floodUses && age >= floodAfter:
		return "served too often without one-time prekeys"
	case k.fallback && age >= fallbackAfter:
		return "served without a one-time prekey"
	}
	return ""
}

// makeSigned makes a signed prekey, which names the newest RSA key.
func (w *work) makeSigned(k *prekeysRow, reason string) error {
	rsa, err := w.e.currentRSA(w.tx)
	if err != nil {
		return err
	}
	created, err := w.signedDate(k)
	if err != nil {
		return err
	}
	id, hash := w.e.id, rsa.Public().Hash()
	pair, err := prekey.NewSigned(created, w.now.Add(prekey.SignedExpires), id.Device, id.DSK, hash)
	if err != nil {
		return fmt.Errorf("make signed prekey: %w", err)
	}
	if k.signed != (protocol.PrekeyID{}) {
		if err := w.ledger(ledger.Signed, k.signed[:], ledger.Replaced, reason); err != nil {
			return err
		}
	}
	k.signed, k.signedPending, k.fallback, k.fallbacks = pair.Record.ID(), true, false, 0
	k.signedAt, k.signedUsed = w.now, false
	k.rotateAt = w.now.Add(prekey.SignedEvery - rotateJitter + rand.N(2*rotateJitter))
	if err := w.at(k.rotateAt, timerPrekeys, nil); err != nil {
		return err
	}
	if err := w.keepRSA(k, hash, pair.Record.KeepUntil()); err != nil {
		return err
	}
	if err := w.ledger(ledger.Signed, k.signed[:], ledger.Created, reason); err != nil {
		return err
	}
	return w.put(keySigned(k.signed), &pairRow{keepUntil: pair.Record.KeepUntil(), pair: pair.Marshal()})
}

// maxDated is how far in the future the rendezvous takes a prekey.
const maxDated = 24 * time.Hour

// signedDate is the date of a new signed prekey. The rendezvous hands out the
// newest by date, so it is after that of the one before, also within the same
// second and after the clock moved back; one too far ahead was never taken.
func (w *work) signedDate(k *prekeysRow) (time.Time, error) {
	before, err := loadPair(w.tx, keySigned(k.signed))
	if err != nil || before == nil || before.Record.Created.After(w.now.Add(maxDated)) {
		return w.now, err
	}
	return maxOf(w.now, before.Record.Created.Add(time.Second)), nil
}

// keepRSA notes for how long an RSA key is needed that a signed prekey names,
// and plans its rotation.
func (w *work) keepRSA(k *prekeysRow, hash [32]byte, until time.Time) error {
	r, ok, err := load[rsaRow](w.tx, keyRSA(hash))
	if err != nil || !ok {
		return err
	}
	r.keepUntil = until
	if err := w.put(keyRSA(hash), &r); err != nil {
		return err
	}
	if !k.rsaRotateAt.IsZero() && waits(w.now, k.rsaRotateAt, rsaEvery+rsaJitter) {
		return nil
	}
	k.rsaRotateAt = maxOf(w.now, r.created.Add(rsaEvery-rsaJitter+rand.N(2*rsaJitter)))
	return w.at(k.rsaRotateAt, timerRSA, nil)
}

func maxOf(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// wantRSA asks for an RSA key, and again until one comes. To make one takes up
// to seconds, which is too long for a transaction.
func (w *work) wantRSA() error {
	w.hint.NewRSA = true
	return w.at(w.now.Add(rsaRetry), timerRSA, nil)
}

func (w *work) rsaDue() error {
	k, _, err := load[prekeysRow](w.tx, store.Key(tablePrekeys))
	if err != nil || !k.rsaWanted && (k.rsaRotateAt.IsZero() || w.now.Before(k.rsaRotateAt)) {
		return err
	}
	return w.wantRSA()
}

// AddRSA takes the RSA key that Hint.NewRSA asked for. The next signed prekey
// names it, and is made at once. One that nobody asked for is dropped.
func (e *Engine) AddRSA(tx store.Tx, now time.Time, rsa key.RSAPrivate) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	k, _, err := load[prekeysRow](tx, store.Key(tablePrekeys))
	if err != nil || !k.rsaWanted && (k.rsaRotateAt.IsZero() || w.now.Before(k.rsaRotateAt)) {
		return Hint{}, err
	}
	reason := "age"
	if k.rsaWanted {
		reason = "on demand"
	}
	if err := w.replaceRSA(rsa, reason); err != nil {
		return Hint{}, err
	}
	k.rsaWanted = false
	k.rsaRotateAt = w.now.Add(rsaEvery - rsaJitter + rand.N(2*rsaJitter))
	k.rotateAt, w.hint.Prekeys = time.Time{}, true
	if err := w.at(k.rsaRotateAt, timerRSA, nil); err != nil {
		return Hint{}, err
	}
	if err := w.put(store.Key(tablePrekeys), &k); err != nil {
		return Hint{}, err
	}
	return w.end()
}

// replaceRSA stores an RSA key as the newest, whatever the clock said when the
// others were made.
func (w *work) replaceRSA(rsa key.RSAPrivate, reason string) error {
	old, err := w.e.currentRSA(w.tx)
	if err != nil {
		return err
	}
	was := old.Public().Hash()
	r, _, err := load[rsaRow](w.tx, keyRSA(was))
	if err != nil {
		return err
	}
	if err := w.ledger(ledger.RSA, was[:], ledger.Replaced, reason); err != nil {
		return err
	}
	return w.setRSA(rsa, maxOf(w.now, r.created.Add(time.Millisecond)))
}

// sweepRSA destroys RSA keys of which no signed prekey can be used any more.
func (w *work) sweepRSA() error {
	current, err := w.e.currentRSA(w.tx)
	if err != nil {
		return err
	}
	return all(w.tx, []byte{tableRSA}, func(pair store.Pair) (bool, error) {
		r, err := decodeRow[rsaRow](pair.Value)
		if err != nil {
			return false, err
		}
		hash := [32]byte(pair.Key[1:])
		if hash == current.Public().Hash() || r.keepUntil.IsZero() || !w.now.After(r.keepUntil) {
			return true, nil
		}
		w.e.rsas.forget(hash)
		if err := w.ledger(ledger.RSA, hash[:], ledger.Destroyed, "expired"); err != nil {
			return false, err
		}
		return true, w.delete(pair.Key)
	})
}

// Why nothing leaves this device.
const (
	HeldOld   = "your keys are too old: waiting for the rendezvous to take new ones"
	HeldClock = "your clock moved back: waiting for the rendezvous to take new keys"
)

// held tells why nothing may leave: the signed prekey that the rendezvous gives
// to others has expired, or was made by a clock that was ahead, and its
// successor is not published. What others seal to it may be lost; so we do not
// speak first, and the user hears of it. "" if all is well.
func (k *prekeysRow) held(now time.Time) string {
	age := now.Sub(k.liveAt)
	switch {
	case k.liveAt.IsZero():
		return ""
	case age > prekey.SignedExpires:
		return HeldOld
	case age < -clockBack:
		return HeldClock
	}
	return ""
}

// Held returns why nothing leaves this device, HeldOld or HeldClock; "" if it
// does. What is composed meanwhile waits.
func (e *Engine) Held(tx store.Tx, now time.Time) (string, error) {
	k, _, err := load[prekeysRow](tx, store.Key(tablePrekeys))
	return k.held(now), err
}
