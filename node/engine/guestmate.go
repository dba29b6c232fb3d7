package engine

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
)

// errNoMate is no alarm: the log of the room may not have been read so far yet, or the guest
// left meanwhile.
var errNoMate = errors.New("an account without a name, that is a guest of no room known here")

// guestAnswer verifies what the rendezvous answers about a guest, which has no name and is in
// no directory: its chain must be the one that the log of a room has which we are in. It
// changes nothing.
func (w *work) guestAnswer(f *wire.Found) (answer, error) {
	chain, err := account.ParseChain(f.GetChain())
	if err != nil {
		return answer{}, fmt.Errorf("%w: %v", ErrBadAnswer, err)
	}
	known, err := w.guestChain(chain.Account())
	if err != nil {
		return answer{}, err
	}
	if known == nil {
		return answer{}, w.nameless(chain.Account())
	}
	if !bytes.Equal(known.Bytes(), chain.Bytes()) {
		return answer{}, fmt.Errorf("%w: the log of the room has another chain of the guest", ErrBadAnswer)
	}
	return answer{chain: chain, bundles: f.GetBundles(), devices: w.devicesOf(chain), known: known}, nil
}

// nameless tells what an answer without a name means that is about no guest: an account that
// had a name has one, and without a room nobody knows guests.
func (w *work) nameless(a protocol.AccountID) error {
	p, err := w.peer(a)
	if err != nil && err != ErrNotFound {
		return err
	}
	ids, roomsErr := roomIDs(w.tx)
	if roomsErr != nil {
		return roomsErr
	}
	if err == nil && p.name != "" || len(ids) == 0 {
		return fmt.Errorf("%w: no name", ErrBadAnswer)
	}
	return errNoMate
}

// guestChain is the chain of a guest, as rooms of ours have it, or our own if we are one; nil
// if the account is none.
func (w *work) guestChain(a protocol.AccountID) (*account.Chain, error) {
	if a == w.e.id.Account && w.e.isGuest() {
		return w.e.OwnChain(w.tx)
	}
	ids, err := roomIDs(w.tx)
	if err != nil {
		return nil, err
	}
	for _, id := range ids {
		r, err := w.room(id)
		if err != nil {
			return nil, err
		}
		if r.state == nil || r.row.stage != RoomJoined {
			continue
		}
		if m, in := r.state.Member(a); in && m.Role == room.RoleGuest {
			return m.Chain, nil
		}
	}
	return nil, nil
}
