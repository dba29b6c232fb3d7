package engine

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/link"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/roomlink"
	"github.com/parley-chat/parley/store"
)

// A link lets in whoever has it, also while nobody of the room is online: its key,
// of which the log has the public half, signs in the device that joins.

// Errors of links into rooms.
var (
	ErrGuestLink = errors.New("this link is for guests, who come with the room's password and without an account")
	ErrOtherHome = errors.New("this room is at another rendezvous than your account")
	ErrNoLink    = errors.New("no such link into this room")
	ErrNoAddress = errors.New("no address of the room's rendezvous is known that fits a link")
)

// roomLinkRow is a link that this device made, or by which it joins.
type roomLinkRow struct {
	joins   bool
	founder protocol.AccountID // as the link says
	seed    []byte
}

func (r *roomLinkRow) encode() []byte {
	e := newRow(72)
	e.bool(r.joins)
	e.raw(r.founder[:])
	e.bytes(r.seed)
	return e.b
}

func (r *roomLinkRow) decode(b []byte) error {
	d := readRow(b)
	d.bool(&r.joins)
	d.fixed(r.founder[:])
	r.seed = d.bytes()
	return d.end("link into a room")
}

func keyRoomLink(id protocol.RoomID, k key.LinkPublic) []byte {
	return store.Key(tableRoomLink, id[:], k.Bytes())
}

// RoomLink is a link into a room.
type RoomLink struct {
	room.OpenLink
	Link    roomlink.Link // zero, unless this device made it
	Pending bool          // the log does not have it yet: nobody comes in by it
}

// MakeRoomLink makes a link by which as many accounts as uses says may join until
// expires. It is good once the log has it, and is kept here to be shown again.
// Errors are those of WriteRoom, and ErrNoAddress.
func (e *Engine) MakeRoomLink(tx store.Tx, now time.Time, id protocol.RoomID, uses uint16, expires time.Time) (made RoomLink, h Hint, err error) {
	k := key.NewLink()
	h, err = e.inRoom(tx, now, id, func(w *work, r *openRoom) error {
		o := room.Link{Key: k.Public(), Expires: key.Seconds(expires), Uses: uses}
		if made.Link, err = w.linkText(r, roomlink.Link{Key: k}); err != nil {
			return err
		}
		made.OpenLink = room.OpenLink{Key: o.Key, By: e.id.Account, Expires: o.Expires, Uses: o.Uses}
		made.Pending = true
		row := &roomLinkRow{founder: made.Link.Founder, seed: k.Bytes()}
		return errors.Join(w.write(r, o), w.put(keyRoomLink(id, o.Key), row))
	})
	return made, h, err
}

// GuestLink returns the link for guests into a room that is open to them. ErrNoRoom,
// ErrNotInRoom, ErrNoDoor for a closed one, ErrNoAddress.
func (e *Engine) GuestLink(tx store.Tx, now time.Time, id protocol.RoomID) (roomlink.Link, error) {
	w, r, err := e.beginRoom(tx, now, id)
	if err != nil {
		return roomlink.Link{}, err
	}
	if r.state == nil {
		return roomlink.Link{}, ErrNotInRoom
	}
	password := r.state.Password()
	if !password.Open {
		return roomlink.Link{}, ErrNoDoor
	}
	return w.linkText(r, roomlink.Link{Password: password.Number})
}

// linkAddrs are the addresses that have a place in a link into a room: the first that are
// short enough.
func linkAddrs(addrs []string) (list []string) {
	for _, a := range addrs {
		if len(list) < roomlink.MaxAddrs && len(a) <= link.MaxAddr {
			list = append(list, a)
		}
	}
	return list
}

// linkText fills in where a link leads to, and checks that it can be given to people.
func (w *work) linkText(r *openRoom, l roomlink.Link) (roomlink.Link, error) {
	b, err := w.tx.Get(keyRoomItem(tableRoomLog, r.id, 0))
	if err != nil {
		return roomlink.Link{}, err
	}
	first, err := room.ParseEntry(b)
	if err != nil {
		return roomlink.Link{}, fmt.Errorf("first entry of a room: %w: %v", store.ErrDamaged, err)
	}
	home, err := w.homeOf(r)
	if err != nil {
		return roomlink.Link{}, err
	}
	l.Room, l.Founder, l.Home = r.id, first.Account, link.Place{Peer: home.Peer, Addrs: linkAddrs(home.Addrs)}
	if _, err := roomlink.Parse(l.String()); err != nil {
		return roomlink.Link{}, ErrNoAddress
	}
	return l, nil
}

// RoomLinks returns the links into a room that have uses left, and those that wait to
// get into its log. ErrNoRoom, ErrNotInRoom.
func (e *Engine) RoomLinks(tx store.Tx, now time.Time, id protocol.RoomID) (list []RoomLink, err error) {
	w, r, err := e.beginRoom(tx, now, id)
	if err != nil {
		return nil, err
	}
	if _, in := w.me(r); !in {
		return nil, ErrNotInRoom
	}
	for _, open := range r.state.Links() {
		list = append(list, RoomLink{OpenLink: open})
	}
	waiting, err := w.entriesToAppend(r)
	if err != nil {
		return nil, err
	}
	for _, entry := range waiting {
		switch o := entry.Op.(type) {
		case room.Link:
			list = append(list, RoomLink{room.OpenLink{Key: o.Key, By: entry.Account, Expires: o.Expires, Uses: o.Uses}, roomlink.Link{}, true})
		case room.Unlink:
			list = slices.DeleteFunc(list, func(l RoomLink) bool { return l.Key == o.Key })
		}
	}
	for i := range list {
		k, _, have, err := w.linkKey(r, list[i].Key)
		if err == nil && have {
			list[i].Link, err = w.linkText(r, roomlink.Link{Key: k})
		}
		if err != nil {
			return nil, err
		}
	}
	return list, nil
}

// linkKey returns the private half of a link, if it is here.
func (w *work) linkKey(r *openRoom, public key.LinkPublic) (k key.LinkPrivate, row roomLinkRow, ok bool, err error) {
	if public.IsZero() {
		return k, row, false, nil
	}
	if row, ok, err = load[roomLinkRow](w.tx, keyRoomLink(r.id, public)); err != nil || !ok {
		return k, row, false, err
	}
	if k, err = key.ParseLink(row.seed); err != nil {
		return k, row, false, fmt.Errorf("link into a room: %w", store.ErrDamaged)
	}
	return k, row, true, nil
}

// JoinRoomByLink joins a room by a link: as soon as its log is here, which shows
// whether the link holds. What becomes of it an event says. For a room that this
// account is in it does nothing. ErrGuestLink, ErrOtherHome, ErrManyRooms.
func (e *Engine) JoinRoomByLink(tx store.Tx, now time.Time, l roomlink.Link) (Hint, error) {
	if l.ForGuests() {
		return Hint{}, ErrGuestLink
	}
	home, err := ownHome(tx)
	if err != nil {
		return Hint{}, err
	}
	if !slices.Equal(home.Peer, l.Home.Peer) {
		return Hint{}, ErrOtherHome
	}
	return e.do(tx, now, func(w *work) error {
		r, err := w.roomOrNew(l.Room)
		if err != nil || r.row.stage == RoomJoined {
			return err
		}
		if r.row.stage == RoomOut {
			r.row.stage = RoomTold
		}
		r.row.joining = false
		if err := w.dropLinks(r); err != nil { // another than this one
			return err
		}
		r.row.joining = true
		row := &roomLinkRow{joins: true, founder: l.Founder, seed: l.Key.Bytes()}
		if err := w.put(keyRoomLink(l.Room, l.Key.Public()), row); err != nil {
			return err
		}
		w.hintRoom(l.Room)
		return w.pursue(r)
	})
}

// joinsBy returns the link by which this account wants to join; not ok if it was
// invited by name, or is in.
func (w *work) joinsBy(r *openRoom) (k key.LinkPrivate, row roomLinkRow, ok bool, err error) {
	if !r.row.joining || r.row.stage == RoomJoined || r.state != nil && r.state.Invited(w.e.id.Account) {
		return k, row, false, nil
	}
	err = w.eachLink(r, func(_ []byte, have roomLinkRow) error {
		if !have.joins {
			return nil
		}
		row, ok = have, true
		k, err = key.ParseLink(have.seed)
		return err
	})
	return k, row, ok, err
}

func (w *work) eachLink(r *openRoom, fn func(key []byte, row roomLinkRow) error) error {
	return all(w.tx, store.Key(tableRoomLink, r.id[:]), func(pair store.Pair) (bool, error) {
		row, err := decodeRow[roomLinkRow](pair.Value)
		if err == nil {
			err = fn(pair.Key, row)
		}
		return true, err
	})
}

// signedIn fills in a join by a link. It is not ready while the log is not here as
// far as the link's entry.
func (w *work) signedIn(r *openRoom, join room.Join) (done room.Join, ready bool, err error) {
	k, _, byLink, err := w.joinsBy(r)
	if err != nil || !byLink {
		return join, err == nil, err
	}
	if _, known := r.state.Link(k.Public()); !known {
		return join, false, nil
	}
	done, err = join.SignIn(k, r.id, w.e.id.Account, w.e.id.Device)
	return done, err == nil, err
}

// entryProof is what lets this device read the log of a room that it wants to join by
// a link.
func (w *work) entryProof(r *openRoom) (public, proof []byte, err error) {
	k, _, byLink, err := w.joinsBy(r)
	if err != nil || !byLink {
		return nil, nil, err
	}
	join, err := room.Join{}.SignIn(k, r.id, w.e.id.Account, w.e.id.Device)
	return join.Link.Bytes(), join.Proof[:], err
}

// checkFounder holds the beginning of a log against the link by which it is read.
func (w *work) checkFounder(r *openRoom, first room.Entry) error {
	_, row, byLink, err := w.joinsBy(r)
	if err == nil && byLink && first.Account != row.founder {
		return fmt.Errorf("%w: not of the account that the link names", ErrRoomLog)
	}
	return err
}

// giveUpJoining ends the wish to join, and says why.
func (w *work) giveUpJoining(r *openRoom, why string) error {
	r.row.joining = false
	if r.row.stage == RoomTold {
		r.row.stage = RoomOut
	}
	return errors.Join(w.dropLinks(r), w.roomEvent(r, RoomNotDone, why))
}

// dropLinks destroys the keys of links that are good for nothing any more.
func (w *work) dropLinks(r *openRoom) error {
	waiting, err := w.entriesToAppend(r)
	if err != nil {
		return err
	}
	return w.eachLink(r, func(k []byte, row roomLinkRow) error {
		if row.joins {
			if r.row.joining {
				return nil
			}
			return w.delete(k)
		}
		private, err := key.ParseLink(row.seed)
		if err != nil {
			return fmt.Errorf("link into a room: %w", store.ErrDamaged)
		}
		adds := func(entry room.Entry) bool {
			o, is := entry.Op.(room.Link)
			return is && o.Key == private.Public()
		}
		if _, open := r.state.Link(private.Public()); open || slices.ContainsFunc(waiting, adds) {
			return nil
		}
		return w.delete(k)
	})
}

// welcomeByLink gives who came in by a link of this device the keys of the room's
// texts: nobody else knows that it has none.
func (w *work) welcomeByLink(r *openRoom, a protocol.AccountID, by key.LinkPublic) error {
	_, row, have, err := w.linkKey(r, by)
	if err != nil || !have || row.joins {
		return err
	}
	m, in := r.state.Member(a)
	if !in {
		return nil
	}
	for _, device := range m.Devices() {
		if err := w.giveTexts(r, device); err != nil {
			return err
		}
	}
	return nil
}

// giveTexts gives a device all keys of a room's texts that are here.
func (w *work) giveTexts(r *openRoom, to room.Device) error {
	d, err := w.mateDevice(r, to)
	if err != nil || d == nil {
		return err
	}
	names := r.state.Keys()
	if len(names) == 0 {
		return nil
	}
	return w.postNames(r, to, d, keysFor(r, to), names)
}
