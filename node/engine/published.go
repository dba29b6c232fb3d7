package engine

import (
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// PrekeysStored takes the answer to an upload. Again tells to ask PrekeyPlan,
// with this answer, once more at once: ids that conflicted are replaced by new
// ones, and a stock that is not ours by a new one. That is done once; if it
// does not help, uploads pause. An answer without counts changes nothing. The
// hint names what was held back until now.
func (e *Engine) PrekeysStored(tx store.Tx, now time.Time, sent *wire.UploadPrekeys, got *wire.PrekeyCounts) (again bool, h Hint, err error) {
	if got == nil {
		return false, h, nil
	}
	w, err := e.begin(tx, now)
	if err != nil {
		return false, h, err
	}
	k, stock, err := w.prekeys()
	if err != nil {
		return false, h, err
	}
	before, held := k.encode(), k.held(w.now)
	if stock, err = w.confirm(&k, stock, sent, got); err != nil {
		return false, h, err
	}
	if again, err = w.judge(&k, stock, got); err != nil {
		return false, h, err
	}
	if err := w.save(store.Key(tablePrekeys), k.encode(), before); err != nil {
		return false, h, err
	}
	if held != "" && k.held(w.now) == "" {
		if w.hint.Outbox, err = e.QueuedDevices(tx); err != nil {
			return false, h, err
		}
	}
	h, err = w.end()
	return again, h, err
}

// confirm notes what of an upload is published, and drops what conflicted.
func (w *work) confirm(k *prekeysRow, stock []stocked, sent *wire.UploadPrekeys, got *wire.PrekeyCounts) ([]stocked, error) {
	k.published, k.cap, k.lastUpload = got.GetOneTime(), got.GetCap(), w.now
	if sent.GetReset_() {
		k.resetting = false
	}
	if k.signedPending && string(got.GetSignedId()) == string(k.signed[:]) {
		if err := w.signedPublished(k); err != nil {
			return nil, err
		}
	}
	uploaded := make(map[protocol.PrekeyID]bool, len(sent.GetOneTimeRecords()))
	for _, b := range sent.GetOneTimeRecords() {
		if r, err := prekey.Parse(b); err == nil {
			uploaded[r.ID()] = true
		}
	}
	kept := stock[:0]
	for _, s := range stock {
		switch {
		case !uploaded[s.id]:
		case slices.ContainsFunc(got.GetConflicts(), func(id []byte) bool { return string(id) == string(s.id[:]) }):
			if err := w.dropConflict(k, s); err != nil {
				return nil, err
			}
			continue
		case s.pending:
			s.pending = false
			if err := w.setStocked(s); err != nil {
				return nil, err
			}
			if err := w.ledger(ledger.OneTime, s.id[:], ledger.Published, ""); err != nil {
				return nil, err
			}
		}
		kept = append(kept, s)
	}
	return kept, nil
}

// signedPublished notes that the rendezvous has the newest signed prekey, and
// with it the RSA key that it names.
func (w *work) signedPublished(k *prekeysRow) error {
	k.signedPending, k.liveAt = false, k.signedAt
	if err := w.ledger(ledger.Signed, k.signed[:], ledger.Published, ""); err != nil {
		return err
	}
	pair, err := loadPair(w.tx, keySigned(k.signed))
	if err != nil || pair == nil || pair.Record.RSAHash == k.rsaLive {
		return err
	}
	k.rsaLive = pair.Record.RSAHash
	return w.ledger(ledger.RSA, k.rsaLive[:], ledger.Published, "")
}

// dropConflict forgets a prekey whose id the rendezvous has bound to another
// key: nobody was ever given ours.
func (w *work) dropConflict(k *prekeysRow, s stocked) error {
	k.kept--
	if err := w.ledger(ledger.OneTime, s.id[:], ledger.Destroyed, "its id is bound to another key"); err != nil {
		return err
	}
	if err := w.delete(keyOneTime(s.id)); err != nil {
		return err
	}
	return w.delete(keyStock(s.number))
}

// judge decides whether the answer asks for one more upload.
func (w *work) judge(k *prekeysRow, stock []stocked, got *wire.PrekeyCounts) (again bool, err error) {
	if slices.ContainsFunc(got.GetConflicts(), func(id []byte) bool { return string(id) == string(k.signed[:]) }) {
		k.rotateAt = time.Time{} // the signed one conflicts: make another
	}
	if len(got.GetConflicts()) > 0 {
		return w.conflicted(k)
	}
	k.conflicts, k.problem = 0, ""
	_, end, ok := window(stock, int(got.GetOneTime()), got.GetDigest())
	if !ok {
		return !k.resetting && w.now.Sub(k.resetAt) >= resetEvery, nil
	}
	return false, w.setPending(stock[end:], true) // not taken: the stock was full
}

// conflicted tells the user once, allows one more upload, and then none for
// longer and longer.
func (w *work) conflicted(k *prekeysRow) (again bool, err error) {
	k.problem, k.conflictAt = protocol.KeyConflict.String(), w.now
	k.conflicts = min(k.conflicts+1, 100)
	if k.conflicts > 1 {
		k.notBefore = w.now.Add(min(conflictWait<<min(k.conflicts-2, 8), resetEvery))
		return false, nil
	}
	return true, w.notice(NoticePrekeyConflict, protocol.AccountID{}, "the rendezvous has other keys under ids of this device; new ones are made")
}

// PrekeysRefused notes that an upload was refused as a whole. It is planned
// again when the rendezvous allows it.
func (e *Engine) PrekeysRefused(tx store.Tx, now time.Time, refusal *protocol.Error) error {
	w, err := e.begin(tx, now)
	if err != nil {
		return err
	}
	k, _, err := load[prekeysRow](tx, store.Key(tablePrekeys))
	if err != nil {
		return err
	}
	k.problem = refusal.Code.String()
	k.notBefore = w.now.Add(min(max(refusal.RetryAfter, refusedWait), resetEvery))
	return w.put(store.Key(tablePrekeys), &k)
}

// dropOneTime destroys a one-time prekey.
func (w *work) dropOneTime(id protocol.PrekeyID, reason string) error {
	if err := w.ledger(ledger.OneTime, id[:], ledger.Destroyed, reason); err != nil {
		return err
	}
	k, _, err := load[prekeysRow](w.tx, store.Key(tablePrekeys))
	if err != nil {
		return err
	}
	k.kept = max(k.kept, 1) - 1
	if err := w.put(store.Key(tablePrekeys), &k); err != nil {
		return err
	}
	return w.delete(keyOneTime(id))
}

// usedFallback notes that a session was opened without a one-time prekey: such
// a signed prekey is replaced before its time, at once if it happens often.
func (w *work) usedFallback(id protocol.PrekeyID) error {
	k, _, err := load[prekeysRow](w.tx, store.Key(tablePrekeys))
	if err != nil || k.signed != id {
		return err
	}
	after := fallbackAfter
	if k.fallbacks++; k.fallbacks == floodUses {
		after = floodAfter
	}
	if !k.fallback || k.fallbacks == floodUses {
		if err := w.at(maxOf(w.now, k.signedAt.Add(after)), timerPrekeys, nil); err != nil {
			return err
		}
	}
	k.fallback = true
	return w.put(store.Key(tablePrekeys), &k)
}

// usedPrekeys notes the first use of the keys that a session of somebody else
// began with.
func (w *work) usedPrekeys(d *deviceRow, op envelope.Opening, id protocol.SessionID) error {
	if err := w.usedSession(d, id); err != nil {
		return err
	}
	if op.HasOneTime {
		if err := w.ledger(ledger.OneTime, op.OneTimeID[:], ledger.Used, ""); err != nil {
			return err
		}
	}
	k, _, err := load[prekeysRow](w.tx, store.Key(tablePrekeys))
	if err != nil || k.signed != op.SignedID || k.signedUsed {
		return err
	}
	k.signedUsed = true
	if err := w.put(store.Key(tablePrekeys), &k); err != nil {
		return err
	}
	return w.ledger(ledger.Signed, op.SignedID[:], ledger.Used, "")
}
