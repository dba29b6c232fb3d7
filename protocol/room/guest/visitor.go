package guest

import (
	"bytes"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/pake"
	"github.com/parley-chat/parley/protocol/room"
)

// Self is the guest: an account made for the visit, with one device and without a
// name in its certificate.
type Self struct {
	Room  protocol.RoomID
	Chain *account.Chain
	Key   key.DevicePrivate // of the device
	Name  string            // what the others see; 1 to MaxName bytes, without controls
}

// Visitor is the guest's side. Not for concurrent use.
type Visitor struct {
	key.Redacted
	step visitorStep
	self Self
	run  run

	number uint32
	shareA []byte // of the admitter
	agree  *pake.Unconfirmed
	keys   *pake.Keys
}

// visitorStep is what a Visitor waits for.
type visitorStep uint8

const (
	visitorOver visitorStep = iota
	awaitOffer
	awaitPassword
	awaitConfirm
	awaitWelcome
)

// Knock begins at the guest. It returns the first frame to send.
func Knock(self Self) (v *Visitor, frame []byte, err error) {
	if self.Chain == nil || self.Name == "" || !account.ValidDeviceName(self.Name) {
		return nil, nil, fmt.Errorf("knock at room: no account, or name of %d bytes", len(self.Name))
	}
	v = &Visitor{step: awaitOffer, self: self, run: run{room: self.Room, nonceG: newNonce()}}
	if err = v.run.setGuest(self.Chain.Bytes()); err != nil {
		return nil, nil, fmt.Errorf("knock at room: %w", err)
	}
	if !bytes.Equal(self.Key.Public().Bytes(), v.run.guest.Signing.Bytes()) {
		return nil, nil, fmt.Errorf("knock at room: %w: the key is not the account's", key.ErrInvalid)
	}
	frame = append([]byte{version, frameKnock}, v.run.nonceG[:]...)
	return v, append(frame, v.run.chain.Bytes()...), nil
}

// Offered takes the admitter's first frame and returns the number of the room's
// password. Answer is to be called with what Derive makes of it. The error is a
// *protocol.Error of the admitter, ErrFrame or ErrOver.
func (v *Visitor) Offered(frame []byte) (number uint32, err error) {
	if v.step != awaitOffer {
		return 0, ErrOver
	}
	v.step = visitorOver
	if e := parseRefused(frame); e != nil {
		return 0, e
	}
	r, err := cutFrame(frame, frameOffer)
	if err != nil {
		return 0, err
	}
	copy(v.run.nonceA[:], r.Take(nonceSize))
	v.number = r.Uint32()
	v.shareA = bytes.Clone(r.Take(pake.ShareSize))
	cert := r.Take(r.Len())
	if r.End() != nil || v.number == 0 {
		return 0, ErrFrame
	}
	v.run.admitter, err = account.ParseCert(cert)
	if err != nil || bytes.Equal(v.run.admitter.PeerID, v.run.guest.PeerID) {
		return 0, ErrFrame
	}
	v.step = awaitPassword
	return v.number, nil
}

// Answer returns the frame that shows the admitter that the guest has the password.
// The error is ErrFrame or ErrOver.
func (v *Visitor) Answer(derived [32]byte) (frame []byte, err error) {
	if v.step != awaitPassword {
		return nil, ErrOver
	}
	v.step = visitorOver
	party := v.run.party(pake.Responder, derived)
	share := party.Share()
	if v.agree, err = party.Finish(v.shareA, v.run.adAdmitter()); err != nil {
		return nil, ErrFrame
	}
	sig, err := v.self.Key.Sign(labelProof, v.run.proof(v.shareA, share)...)
	if err != nil {
		return nil, fmt.Errorf("knock at room: %w", err)
	}
	v.step = awaitConfirm
	frame = append([]byte{version, frameAnswer}, share...)
	frame = append(frame, v.agree.Confirmation()...)
	return append(frame, sig...), nil
}

// Confirmed takes the admitter's second frame and returns the last one to send, with
// the name. The error is a *protocol.Error, mostly WrongPassword, which is also the
// answer to an admitter who does not have the password; ErrFrame or ErrOver.
func (v *Visitor) Confirmed(frame []byte) (next []byte, err error) {
	if v.step != awaitConfirm {
		return nil, ErrOver
	}
	v.step = visitorOver
	if e := parseRefused(frame); e != nil {
		return nil, e
	}
	r, err := cutFrame(frame, frameConfirm)
	if err != nil {
		return nil, err
	}
	tag := r.Take(pake.TagSize)
	if r.End() != nil {
		return nil, ErrFrame
	}
	if v.keys, err = v.agree.Confirm(tag); err != nil {
		return nil, wrongPassword()
	}
	v.step, v.agree = awaitWelcome, nil
	return seal(fromGuest(v.keys), frameName, padName(v.self.Name)), nil
}

// Welcomed takes the admitter's last frame. The error is a *protocol.Error: RoomLocked,
// RoomFull, Banned, WrongPassword if it changed meanwhile, or another; ErrFrame or
// ErrOver.
func (v *Visitor) Welcomed(frame []byte) (Welcome, error) {
	if v.step != awaitWelcome {
		return Welcome{}, ErrOver
	}
	v.step = visitorOver
	text, err := open(fromAdmitter(v.keys), frameWelcome, frame)
	if err != nil {
		return Welcome{}, err
	}
	w, err := parseWelcome(text)
	if err != nil {
		return Welcome{}, err
	}
	o, ok := w.Entry.Op.(room.GuestJoin)
	if !ok || w.Entry.Room() != v.self.Room || !bytes.Equal(o.Chain, v.run.chain.Bytes()) {
		return Welcome{}, ErrFrame
	}
	return w, nil
}

// padName hides how long a name is.
func padName(name string) []byte {
	text := make([]byte, 1+MaxName)
	text[0] = byte(len(name))
	copy(text[1:], name)
	return text
}

func parseName(text []byte) (string, error) {
	if len(text) != 1+MaxName || text[0] == 0 || text[0] > MaxName {
		return "", ErrFrame
	}
	name := string(text[1 : 1+text[0]])
	if !account.ValidDeviceName(name) || !bytes.Equal(padName(name), text) {
		return "", ErrFrame
	}
	return name, nil
}
