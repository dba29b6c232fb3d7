package engine

import (
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/store"
)

// A guest is an account made for the visit of one room, with a store of its own. It has
// no name, no contacts and no other device, and its chain never changes: who is in
// the room believes it because the room's log has it.

var (
	// ErrGuest is returned for what a guest cannot do: it is in one room, and knows
	// nobody outside of it.
	ErrGuest = errors.New("guests of a room cannot do this")
	// ErrNotGuest is returned for what only the store of a guest can do.
	ErrNotGuest = errors.New("this is not a guest's store")
	// ErrNoDoor is returned by Door where this device lets nobody in: the room takes no
	// guests, this account may not admit, or the password has not come here yet.
	ErrNoDoor = errors.New("this device cannot let guests into the room now")
)

// GuestStage is what a guest's program does next.
type GuestStage string

const (
	GuestKnocks GuestStage = "knocks" // it is not in: see Guest.Reason
	GuestIn     GuestStage = "in"     // let in: to be registered, if Identity.Registered does not say that it is, and run
	GuestOut    GuestStage = "out"    // removed or banned: with this key it does not come in again
)

func (s GuestStage) String() string { return string(s) }

// Guest is how the guest whose store this is stands.
type Guest struct {
	Room  protocol.RoomID
	Name  string // what the others see
	Stage GuestStage

	// Reason says why a guest that was in is not any more: TicketExpired, it knocks again
	// by itself; WrongPassword, another one is needed; Banned; OK, it left, or never was
	// in.
	Reason protocol.Code
	Number uint32 // of the password that is kept, see GuestSecret; 0: none
}

// GuestFounder is a guest's account that begins.
type GuestFounder struct {
	key.Redacted

	Newcomer *Newcomer
	Chain    *account.Chain
	Room     protocol.RoomID
	Name     string
	Home     Home
}

// guestLife is how long the certificate of a guest lasts: longer than any visit, since
// nobody can renew it.
const guestLife = 10 * certLife

// NewGuest makes the account of a guest for one room. Name is what the others see: 1 to
// guest.MaxName bytes, ErrBadDeviceName for any other. Home is the room's rendezvous. It
// takes up to seconds (RSA), so call it outside of a transaction.
func NewGuest(now time.Time, in protocol.RoomID, name string, home Home) (*GuestFounder, error) {
	rsa, err := key.NewRSA()
	if err != nil {
		return nil, fmt.Errorf("make guest: %w", err)
	}
	return NewGuestWith(now, in, name, home, rsa)
}

// NewGuestWith is NewGuest with an RSA key made before, in a moment.
func NewGuestWith(now time.Time, in protocol.RoomID, name string, home Home, rsa key.RSAPrivate) (*GuestFounder, error) {
	if name == "" || !account.ValidDeviceName(name) {
		return nil, fmt.Errorf("make guest: %w", ErrBadDeviceName)
	}
	n, err := NewNewcomerWith(now, "", rsa)
	if err != nil {
		return nil, err
	}
	aik := key.NewAccount() // not kept: nothing is ever added to the chain
	chain, err := account.Create(now, aik, key.NewRecovery().Public())
	if err != nil {
		return nil, fmt.Errorf("make guest: %w", err)
	}
	cert := n.Request().cert(now, chain.Account())
	cert.NotAfter = now.Add(guestLife)
	if cert, err = account.NewCert(aik, cert); err != nil {
		return nil, fmt.Errorf("make guest: %w", err)
	}
	if chain, err = chain.AddDevice(now, aik, cert); err != nil {
		return nil, fmt.Errorf("make guest: %w", err)
	}
	return &GuestFounder{Newcomer: n, Chain: chain, Room: in, Name: name, Home: home}, nil
}

// InitGuest stores the identity of a guest in a new store; ErrExists if the store holds
// one. It is to be committed before the guest knocks: after a crash it knocks again
// with the same keys, and is the same guest. Load then works as for any account;
// MarkRegistered is for RegisterGuest.
func InitGuest(tx store.Tx, f *GuestFounder) error {
	cert, ok := f.Chain.Device(f.Newcomer.Request().Device(f.Chain.Account()))
	if !ok {
		return fmt.Errorf("%w: the chain does not certify it", ErrBadMembership)
	}
	id := &Identity{Display: f.Name, Home: f.Home, Created: f.Newcomer.Made, Account: f.Chain.Account(), Guest: f.Room}
	id.become(f.Newcomer, cert)
	w, err := initStore(tx, f.Newcomer.Made, id)
	if err != nil {
		return err
	}
	err = errors.Join(w.keepDevice(f.Newcomer), w.keepOwnChain(f.Chain), w.put(keyGuest(), &guestRow{room: f.Room}))
	if err != nil {
		return err
	}
	_, err = w.end()
	return err
}

// guestRow is how the guest stands whose store this is.
type guestRow struct {
	room   protocol.RoomID
	reason protocol.Code // why it is not in the room any more; OK: it is, or left, or never was
	number uint32        // of the password that secret was derived from; 0: none is kept
	secret []byte
}

func keyGuest() []byte { return store.Key(tableGuest) }

func (r *guestRow) encode() []byte {
	e := newRow(80)
	e.raw(r.room[:])
	e.u32(uint32(r.reason))
	e.u32(r.number)
	e.bytes(r.secret)
	return e.b
}

func (r *guestRow) decode(b []byte) error {
	d := readRow(b)
	d.fixed(r.room[:])
	r.reason, r.number, r.secret = protocol.Code(d.u32()), d.u32(), d.bytes()
	d.bad = d.bad || r.number != 0 && len(r.secret) != 32
	return d.end("guest")
}

// forget destroys what was derived from the password.
func (r *guestRow) forget() { r.number, r.secret = 0, nil }

func loadGuest(tx store.Tx) (guestRow, error) {
	r, ok, err := load[guestRow](tx, keyGuest())
	if err == nil && !ok {
		err = ErrNotGuest
	}
	return r, err
}

// isGuest tells that this account is a guest, of whatever room.
func (e *Engine) isGuest() bool { return e.id.Guest != protocol.RoomID{} }

// Guest returns how the guest stands; ErrNotGuest in the store of any other account.
func (e *Engine) Guest(tx store.Tx) (Guest, error) {
	r, err := loadGuest(tx)
	if err != nil {
		return Guest{}, err
	}
	g := Guest{Room: r.room, Name: e.id.Display, Stage: GuestKnocks, Reason: r.reason, Number: r.number}
	in, ok, err := load[roomRow](tx, keyRoom(r.room))
	switch {
	case err != nil:
		return g, err
	case r.reason == protocol.Banned:
		g.Stage = GuestOut
	case ok && in.stage != RoomOut:
		g.Stage = GuestIn
	}
	return g, nil
}

// GuestSelf returns what guest.Knock needs; ErrNotGuest.
func (e *Engine) GuestSelf(tx store.Tx) (guest.Self, error) {
	r, err := loadGuest(tx)
	if err != nil {
		return guest.Self{}, err
	}
	own, err := e.OwnChain(tx)
	return guest.Self{Room: r.room, Chain: own, Key: e.id.DSK, Name: e.id.Display}, err
}

// GuestSecret returns what was derived from the password that let the guest in, if it
// is the one with this number: then the user is not asked.
func (e *Engine) GuestSecret(tx store.Tx, number uint32) (secret key.Hidden[[32]byte], ok bool, err error) {
	r, err := loadGuest(tx)
	if err != nil || r.number == 0 || r.number != number {
		return nil, false, err
	}
	derived := [32]byte(r.secret)
	return key.Hide(&derived), true, nil
}
