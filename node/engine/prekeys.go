package engine

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	rotateJitter  = 12 * time.Hour // so that not all devices rotate at once
	fallbackAfter = 24 * time.Hour // least age at which a signed prekey is replaced because it served as the last resort
	resetEvery    = 24 * time.Hour // least time between two replacements of the whole stock
	conflictWait  = 10 * time.Minute
	refusedWait   = time.Minute
	countsAge     = time.Minute // counts are at most so old
	maxPrivates   = 4096        // one-time prekeys kept, claimed ones included
)

// PrekeyPlan returns what to upload now, nil for nothing. Have is what the
// rendezvous last said it has; nil when it is not known, then only what an
// earlier upload left unconfirmed is returned. Keys are stored before they are
// returned, and the same ones are returned until PrekeysStored confirms them.
func (e *Engine) PrekeyPlan(tx store.Tx, now time.Time, have *wire.PrekeyCounts) (*wire.UploadPrekeys, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return nil, err
	}
	k, stock, err := w.prekeys()
	if err != nil || waits(w.now, k.notBefore, resetEvery) {
		return nil, err
	}
	before := k.encode()
	up := &wire.UploadPrekeys{}
	room := protocol.PrekeyStock
	if have != nil {
		if err := w.planSigned(&k, have); err != nil {
			return nil, err
		}
		if stock, err = w.planOneTime(&k, stock, have); err != nil {
			return nil, err
		}
		if !k.resetting {
			room = limitOf(have) - int(have.GetOneTime())
		}
	}
	if err := w.fill(up, &k, stock, room); err != nil {
		return nil, err
	}
	if err := w.save(store.Key(tablePrekeys), k.encode(), before); err != nil {
		return nil, err
	}
	if _, err := w.end(); err != nil || len(up.SignedRecord)+len(up.OneTimeRecords) == 0 && !up.Reset_ {
		return nil, err
	}
	return up, nil
}

// stocked is one row of the stock: a one-time prekey that may be published.
type stocked struct {
	number  uint64
	id      protocol.PrekeyID
	pending bool // not confirmed by the rendezvous
}

// prekeys reads the state of our keys and the stock, oldest upload first.
func (w *work) prekeys() (k prekeysRow, stock []stocked, err error) {
	if k, _, err = load[prekeysRow](w.tx, store.Key(tablePrekeys)); err != nil {
		return k, nil, err
	}
	err = all(w.tx, []byte{tableStock}, func(pair store.Pair) (bool, error) {
		s := stocked{number: keyNumber(pair.Key)}
		d := readRow(pair.Value)
		d.fixed(s.id[:])
		d.bool(&s.pending)
		stock = append(stock, s)
		return true, d.end("stock")
	})
	return k, stock, err
}

func (w *work) setStocked(s stocked) error {
	e := newRow(17)
	e.raw(s.id[:])
	e.bool(s.pending)
	return w.set(keyStock(s.number), e.b)
}

// planSigned makes a signed prekey when the newest is due for rotation, and
// wants it published when the rendezvous does not have it. One that was made
// in the future, by a clock that has gone back since, is replaced too.
func (w *work) planSigned(k *prekeysRow, have *wire.PrekeyCounts) error {
	age := w.now.Sub(k.signedAt)
	due := !w.now.Before(k.rotateAt) || age < -time.Hour || k.fallback && age >= fallbackAfter
	if k.signed != (protocol.PrekeyID{}) && !due {
		missing := string(have.GetSignedId()) != string(k.signed[:]) && w.now.Sub(k.lastUpload) >= countsAge
		k.signedPending = k.signedPending || missing
		return nil
	}
	id := w.e.id
	rsa, err := w.e.currentRSA(w.tx)
	if err != nil {
		return err
	}
	pair, err := prekey.NewSigned(w.now, w.now.Add(prekey.SignedExpires), id.Device, id.DSK, rsa.Public().Hash())
	if err != nil {
		return fmt.Errorf("make signed prekey: %w", err)
	}
	k.signed, k.signedPending, k.fallback = pair.Record.ID(), true, false
	k.signedAt = w.now
	k.rotateAt = w.now.Add(prekey.SignedEvery - rotateJitter + rand.N(2*rotateJitter))
	if err := w.at(k.rotateAt, timerPrekeys, nil); err != nil {
		return err
	}
	return w.put(keySigned(k.signed), &pairRow{keepUntil: pair.Record.KeepUntil(), pair: pair.Marshal()})
}

// planOneTime brings the stock into line with what the rendezvous has: it
// forgets what was claimed, replaces everything if the rendezvous has another
// stock than ours, and makes new prekeys when few are left.
func (w *work) planOneTime(k *prekeysRow, stock []stocked, have *wire.PrekeyCounts) ([]stocked, error) {
	left := int(have.GetOneTime())
	if start, end, ok := window(stock, left, have.GetDigest()); ok {
		if err := w.dropStock(stock[:start]); err != nil {
			return nil, err
		}
		if err := w.setPending(stock[start:end], false); err != nil {
			return nil, err
		}
		if w.now.Sub(k.lastUpload) >= countsAge { // it confirmed more, and lost that since, as when it is set back
			if err := w.setPending(stock[end:], true); err != nil {
				return nil, err
			}
		}
		left += len(stock) - end // what it got, or will get, since it said so
		stock = stock[start:]
	} else if k.resetting || w.now.Sub(k.resetAt) < resetEvery {
		for _, s := range stock {
			if s.pending {
				left++
			}
		}
	} else {
		if err := w.resetStock(k, stock); err != nil {
			return nil, err
		}
		left, stock = 0, nil
	}
	if left >= protocol.PrekeyRefill {
		return stock, nil
	}
	return w.refill(k, stock, min(limitOf(have)-left, maxPrivates-int(k.kept)))
}

// limitOf is how many one-time prekeys the rendezvous takes.
func limitOf(have *wire.PrekeyCounts) int {
	if have.GetCap() == 0 {
		return protocol.PrekeyStock
	}
	return min(int(have.GetCap()), protocol.PrekeyStock)
}

func (w *work) setPending(stock []stocked, pending bool) error {
	for i := range stock {
		if stock[i].pending == pending {
			continue
		}
		stock[i].pending = pending
		if err := w.setStocked(stock[i]); err != nil {
			return err
		}
	}
	return nil
}

// resetStock plans to replace the whole published stock: the rendezvous has
// another than ours, as after a store was lost or set back. The private halves
// stay: somebody may have claimed them.
func (w *work) resetStock(k *prekeysRow, stock []stocked) error {
	k.resetting, k.resetAt = true, w.now
	if err := w.dropStock(stock); err != nil {
		return err
	}
	return w.notice(NoticePrekeyReset, protocol.AccountID{}, "the rendezvous had other one-time keys of this device; they are replaced")
}

func (w *work) dropStock(stock []stocked) error {
	for _, s := range stock {
		if err := w.delete(keyStock(s.number)); err != nil {
			return err
		}
	}
	return nil
}

// refill makes n one-time prekeys.
func (w *work) refill(k *prekeysRow, stock []stocked, n int) ([]stocked, error) {
	id := w.e.id
	for range n {
		pair, err := prekey.NewOneTime(w.now, w.now.Add(prekey.OneTimeExpires), id.Device, id.DSK)
		if err != nil {
			return nil, fmt.Errorf("make one-time prekey: %w", err)
		}
		k.uploads++
		k.kept++
		s := stocked{number: k.uploads, id: pair.Record.ID(), pending: true}
		if err := w.put(keyOneTime(s.id), &pairRow{keepUntil: pair.Record.KeepUntil(), pair: pair.Marshal()}); err != nil {
			return nil, err
		}
		if err := w.setStocked(s); err != nil {
			return nil, err
		}
		stock = append(stock, s)
	}
	return stock, nil
}

// window finds where in the stock the left prekeys lie that the rendezvous has,
// by the digest it gave: normally they are the newest; ahead of those come some
// that are claimed, behind them some that it did not have when it spoke. Where
// the digest tells nothing, as few as possible of those that are not confirmed
// are taken to be there. Not ok means that it has others than ours.
func window(stock []stocked, left int, digest []byte) (start, end int, ok bool) {
	if left == 0 || len(digest) == 0 {
		end = slices.IndexFunc(stock, func(s stocked) bool { return s.pending })
		if end < 0 {
			end = len(stock)
		}
		end = max(end, min(left, len(stock)))
		ok = left <= len(stock)
		if left == 0 && len(digest) > 0 {
			ok = string(digest) == string(stockDigest(nil))
		}
		return max(0, end-left), end, ok
	}
	for end = len(stock); end >= left; end-- {
		if string(stockDigest(stock[end-left:end])) == string(digest) {
			return end - left, end, true
		}
	}
	return 0, 0, false
}

// stockDigest is SHA-256 over the sorted ids.
func stockDigest(stock []stocked) []byte {
	ids := make([]string, len(stock))
	for i, s := range stock {
		ids[i] = string(s.id[:])
	}
	slices.Sort(ids)
	h := sha256.New()
	for _, id := range ids {
		h.Write([]byte(id))
	}
	return h.Sum(nil)
}

// fill puts what is not confirmed into an upload, at most room one-time
// prekeys, which is what the rendezvous has room for. Of a one-time prekey that
// was used meanwhile nothing is left to publish: it was there after all.
func (w *work) fill(up *wire.UploadPrekeys, k *prekeysRow, stock []stocked, room int) error {
	up.Reset_ = k.resetting
	if k.signedPending {
		pair, err := loadPair(w.tx, keySigned(k.signed))
		if err != nil {
			return err
		}
		if pair == nil {
			return fmt.Errorf("signed prekey %v is not there: %w", k.signed, store.ErrDamaged)
		}
		rsa, err := w.e.rsaFor(w.tx, pair.Record.RSAHash)
		if err != nil {
			return fmt.Errorf("RSA key of signed prekey %v: %w", k.signed, err)
		}
		up.SignedRecord, up.Rsa = pair.Record.Marshal(), rsa.Public().Bytes()
	}
	for _, s := range stock {
		if !s.pending || len(up.OneTimeRecords) >= room {
			continue
		}
		r, ok, err := load[pairRow](w.tx, keyOneTime(s.id))
		if err != nil {
			return err
		}
		if !ok {
			if err := w.delete(keyStock(s.number)); err != nil {
				return err
			}
			continue
		}
		up.OneTimeRecords = append(up.OneTimeRecords, r.pair[:min(len(r.pair), prekey.OneTimeSize)])
	}
	return nil
}
