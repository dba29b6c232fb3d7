package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/store"
)

// maxWelcomeKeys bounds the keys of texts that welcomes leave in the store: an admitter
// gives all that the log names, before the log is here.
const maxWelcomeKeys = guest.MaxKeys + 64

// TakeWelcome notes that the guest was let in by a password with this number, and what
// was derived from it. The room is known from then on (RoomPlan follows it) and
// counts as joined when the log that the rendezvous shows goes through the welcome's
// entry; a log that does not is ErrRoomLog, here or in TakeRoom. Taking one again changes
// nothing that the guest has of the room.
func (e *Engine) TakeWelcome(tx store.Tx, now time.Time, welcome guest.Welcome, number uint32, secret [32]byte) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		g, err := loadGuest(tx)
		if err != nil {
			return err
		}
		r, err := w.roomOrNew(g.room)
		if err != nil {
			return err
		}
		if err := w.expectEntry(r, welcome); err != nil {
			return err
		}
		if err := w.takeWelcomeKeys(r, welcome.Keys); err != nil {
			return err
		}
		w.hintRoom(g.room)
		g.reason, g.number, g.secret = protocol.OK, number, secret[:]
		return w.put(keyGuest(), &g)
	})
}

func (w *work) takeWelcomeKeys(r *openRoom, keys []room.StateKey) error {
	have := map[room.KeyID]bool{}
	err := all(w.tx, store.Key(tableRoomKey, r.id[:]), func(pair store.Pair) (bool, error) {
		have[room.KeyID(pair.Key[33:])] = true
		return true, nil
	})
	if err != nil {
		return err
	}
	for _, k := range keys {
		if have[k.ID()] || len(have) >= maxWelcomeKeys {
			continue
		}
		have[k.ID()] = true
		if err := w.put(keyRoomKey(r.id, k.ID()), &roomKeyRow{key: k.Bytes()}); err != nil {
			return err
		}
	}
	return nil
}

// expectEntry takes only a log from now on that goes through the welcome's entry.
func (w *work) expectEntry(r *openRoom, welcome guest.Welcome) error {
	if welcome.Entry.Room() != r.id {
		return guest.ErrOtherRoom
	}
	if r.state != nil && r.state.Seq() >= welcome.Entry.Seq {
		if err := welcome.Check(r.state); err != nil {
			return fmt.Errorf("%w: %w", ErrRoomLog, err)
		}
		if _, in := w.me(r); in {
			return w.settleStage(r, in, nil)
		}
	}
	r.row.stage, r.row.toldSeq, r.row.toldHead = RoomTold, welcome.Entry.Seq, welcome.Entry.Hash()
	return nil
}

// GuestRefused notes what the admitter, or the rendezvous, answered to the guest instead
// of what it wanted: to a knock, to RegisterGuest, to its hello, to ReadRoom or PutRoom.
// What to do about it says DoAsGuest.
func (e *Engine) GuestRefused(tx store.Tx, now time.Time, refusal *protocol.Error) (Hint, error) {
	return e.do(tx, now, func(w *work) error {
		g, err := loadGuest(tx)
		if err != nil {
			return err
		}
		does, _ := DoAsGuest(refusal.Code)
		switch {
		case refusal.Code == protocol.Banned, refusal.Code == protocol.WrongPassword:
			return w.guestIsOut(&g, refusal.Code)
		case does == GuestKnocksAnew:
			return w.guestIsOut(&g, protocol.TicketExpired)
		}
		return nil
	})
}

// guestIsOut notes why the guest is not in the room any more, or not let in. If the room was
// known to have it, the user is told.
func (w *work) guestIsOut(g *guestRow, reason protocol.Code) error {
	g.reason = reason
	if reason != protocol.TicketExpired {
		g.forget()
	}
	if err := w.put(keyGuest(), g); err != nil {
		return err
	}
	r, err := w.room(g.room)
	if err == ErrNoRoom {
		return nil
	}
	if err != nil {
		return err
	}
	err = w.setEntries(r, nil)
	if reason == protocol.OK || reason == protocol.Banned { // else what it wanted to say waits until it is in again
		err = errors.Join(err, w.failRoomQueue(r))
	}
	if err != nil || r.row.stage == RoomOut {
		return err
	}
	r.row.stage = RoomOut
	return w.roomEvent(r, outCauses[reason], "")
}

// outCauses are the causes of the events that tell a guest that it is out.
var outCauses = map[protocol.Code]string{
	protocol.OK: RoomWasLeft, protocol.TicketExpired: RoomGuestExpired, protocol.WrongPassword: RoomGuestAsked, protocol.Banned: RoomWasRemoved,
}

// whyOut finds among new entries why a guest is not in the room any more.
func whyOut(entries []room.Entry, me protocol.AccountID) (reason protocol.Code) {
	for _, entry := range entries {
		switch op := entry.Op.(type) {
		case room.GuestExpire:
			if op.Account == me {
				reason = protocol.TicketExpired
			}
		case room.SetPassword:
			if op.AskAgain {
				reason = protocol.WrongPassword
			}
		case room.Leave:
			if entry.Account == me {
				reason = protocol.OK
			}
		}
	}
	return reason
}

// guestGoes is what settleStage does for a guest that is out.
func (w *work) guestGoes(r *openRoom, entries []room.Entry) error {
	g, err := loadGuest(w.tx)
	if err != nil {
		return err
	}
	reason := whyOut(entries, w.e.id.Account)
	if r.state.Barred(w.e.id.Account) {
		reason = protocol.Banned
	}
	return w.guestIsOut(&g, reason)
}

// comesAgain tells whether this is the store of a guest of the room that knocks to come in
// again.
func (w *work) comesAgain(id protocol.RoomID) (bool, error) {
	if !w.e.isGuest() || w.e.id.Guest != id {
		return false, nil
	}
	g, err := loadGuest(w.tx)
	return g.reason == protocol.TicketExpired || g.reason == protocol.WrongPassword, err
}

// GuestDoes is what a guest's program does by itself about a refusal.
type GuestDoes string

const (
	GuestAsks       GuestDoes = "ask"   // the user for the password, then it knocks
	GuestKnocksAnew GuestDoes = "knock" // with the password that is kept, or else it asks
	GuestWaits      GuestDoes = "wait"  // for RetryAfter, or backing off, and tries the same again
	GuestEnds       GuestDoes = "end"   // nothing helps that the program could do
)

// DoAsGuest returns what a guest's program does about a refusal, and a sentence for its
// user.
func DoAsGuest(code protocol.Code) (GuestDoes, string) {
	switch code {
	case protocol.WrongPassword:
		return GuestAsks, "that is not the room's password, or not any more"
	case protocol.TicketExpired, protocol.UnknownRoom, protocol.NotMember, protocol.UnknownDevice, protocol.UnknownAccount:
		return GuestKnocksAnew, "you were away for long; coming in again"
	case protocol.StaleEpoch, protocol.RoomMoved, protocol.HelloFirst:
		return GuestWaits, "something changed in the room; trying again"
	case protocol.RoomLocked:
		return GuestWaits, "the room is locked: nobody comes in until a moderator opens it"
	case protocol.RoomFull:
		return GuestWaits, "the room is full; waiting for a place"
	case protocol.NobodyAdmits:
		return GuestWaits, "nobody is there who could let you in; waiting"
	case protocol.RateLimited:
		return GuestWaits, "too many tries; waiting"
	case protocol.Banned:
		return GuestEnds, "you were removed from the room; somebody there can let you in again"
	case protocol.UnsupportedVersion:
		return GuestEnds, "the room needs a newer Parley: please update"
	case protocol.DeviceCloned, protocol.StoreRolledBack:
		return GuestEnds, "this folder is a copy, or was set back; go on with the other one, or come in as a new guest"
	case protocol.Replaced:
		return GuestEnds, "you are in the room from another window"
	case protocol.Revoked:
		return GuestEnds, "this guest's key was given up"
	case protocol.BadRequest:
		return GuestEnds, "the other side did not understand; this is a bug"
	}
	return GuestWaits, "the room cannot be reached now; trying again"
}
