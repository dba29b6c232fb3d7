package engine

import (
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// PrekeysStored takes the answer to an upload. Again tells to ask PrekeyPlan,
// with this answer, once more at once: ids that conflicted are replaced by new
// ones, and a stock that is not ours by a new one. That is done once; if it
// does not help, uploads pause. An answer without counts changes nothing.
func (e *Engine) PrekeysStored(tx store.Tx, now time.Time, sent *wire.UploadPrekeys, got *wire.PrekeyCounts) (again bool, err error) {
	if got == nil {
		return false, nil
	}
	w, err := e.begin(tx, now)
	if err != nil {
		return false, err
	}
	k, stock, err := w.prekeys()
	if err != nil {
		return false, err
	}
	before := k.encode()
	if stock, err = w.confirm(&k, stock, sent, got); err != nil {
		return false, err
	}
	if again, err = w.judge(&k, stock, got); err != nil {
		return false, err
	}
	if err := w.save(store.Key(tablePrekeys), k.encode(), before); err != nil {
		return false, err
	}
	_, err = w.end()
	return again, err
}

// confirm notes what of an upload is published, and drops what conflicted.
func (w *work) confirm(k *prekeysRow, stock []stocked, sent *wire.UploadPrekeys, got *wire.PrekeyCounts) ([]stocked, error) {
	k.published, k.cap, k.lastUpload = got.GetOneTime(), got.GetCap(), w.now
	if sent.GetReset_() {
		k.resetting = false
	}
	if k.signedPending && string(got.GetSignedId()) == string(k.signed[:]) {
		k.signedPending = false
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
		}
		kept = append(kept, s)
	}
	return kept, nil
}

// dropConflict forgets a prekey whose id the rendezvous has bound to another
// key: nobody was ever given ours.
func (w *work) dropConflict(k *prekeysRow, s stocked) error {
	k.kept--
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
	k.problem = protocol.KeyConflict.String()
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

// PrekeyStatus returns the health of our published keys, as last heard.
func (e *Engine) PrekeyStatus(tx store.Tx) (PrekeyStatus, error) {
	k, _, err := load[prekeysRow](tx, store.Key(tablePrekeys))
	return PrekeyStatus{
		Published: int(k.published), Cap: int(k.cap), SignedSince: k.signedAt,
		LastUpload: k.lastUpload, LastProblem: k.problem, Fallback: k.fallback,
	}, err
}

// dropOneTime destroys a one-time prekey: it was used, or is too old.
func (w *work) dropOneTime(id protocol.PrekeyID) error {
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
// a signed prekey is replaced before its time.
func (w *work) usedFallback(id protocol.PrekeyID) error {
	k, _, err := load[prekeysRow](w.tx, store.Key(tablePrekeys))
	if err != nil || k.signed != id || k.fallback {
		return err
	}
	k.fallback = true
	if err := w.at(k.signedAt.Add(fallbackAfter), timerPrekeys, nil); err != nil {
		return err
	}
	return w.put(store.Key(tablePrekeys), &k)
}
