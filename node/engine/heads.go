package engine

import (
	"crypto/sha256"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Head is how far the statement chain of an account goes.
type Head struct {
	Account protocol.AccountID
	Head    [16]byte // of the hash of the newest statement
}

// Heads returns how far the chains go that are known here of the accounts on
// the allow list and of our own, sorted by account, and the digest by which the
// rendezvous tells whether it knows the same.
func (e *Engine) Heads(tx store.Tx) (heads []Head, digest [32]byte, err error) {
	h := sha256.New()
	err = eachPeer(tx, func(id protocol.AccountID, p *peerRow) error {
		if p.listed() || p.relation == Self {
			heads = append(heads, Head{id, p.head})
			h.Write(id[:])
			h.Write(p.head[:])
		}
		return nil
	})
	copy(digest[:], h.Sum(nil))
	return heads, digest, err
}

// ChainReturned notes that the rendezvous had lost statements of this account, and
// has them again from here.
func (e *Engine) ChainReturned(tx store.Tx, now time.Time) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	text := "the rendezvous had lost the newest changes of your account, as after a restored backup; this device gave them back"
	if err := w.notice(NoticeChainReturned, e.id.Account, text); err != nil {
		return Hint{}, err
	}
	return w.end()
}

// Behind compares the rendezvous's heads with those known here. Accounts that
// differ count as changed: nothing is sent to them until they were looked up
// again. Heads of accounts that Heads does not return are ignored.
func (e *Engine) Behind(tx store.Tx, now time.Time, heads []Head) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	for _, head := range heads {
		p, err := w.peer(head.Account)
		if err == ErrNotFound {
			continue
		}
		if err != nil {
			return Hint{}, err
		}
		if p.head == head.Head || !p.listed() && p.relation != Self {
			continue
		}
		if err := w.wantRefresh(head.Account); err != nil {
			return Hint{}, err
		}
	}
	return w.end()
}
