package guest

import (
	"bytes"
	"encoding/binary"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/pake"
	"github.com/parley-chat/parley/protocol/room"
)

// Door is what the admitter opens: a room by its log as far as the admitter has it,
// with a password that is open.
type Door struct {
	key.Redacted
	State  *room.State
	Cert   account.Cert         // of the admitter's device
	Secret key.Hidden[[32]byte] // what the password in force was derived to, see room.StateKey.OpenPassword
}

// Admitter is the member's side. Not for concurrent use.
type Admitter struct {
	key.Redacted
	step   admitterStep
	run    run
	state  *room.State
	party  *pake.Party
	shareA []byte
	keys   *pake.Keys
}

// admitterStep is what an Admitter waits for.
type admitterStep uint8

const (
	admitterOver admitterStep = iota
	awaitAnswer
	awaitName
	awaitDecision
)

// Request is who wants to come in, and has shown to know the password and to hold
// the key.
type Request struct {
	Chain  *account.Chain
	Device account.Cert
	Name   string
	Number uint32 // of the password
}

// Join is the operation that lets the guest in, with its name sealed by
// room.StateKey.SealName.
func (r Request) Join(now time.Time, name room.Sealed) room.GuestJoin {
	return room.GuestJoin{Chain: r.Chain.Bytes(), Name: name, Password: r.Number, Expires: key.Seconds(now).Add(room.MaxGuestStay)}
}

// Answer begins at the admitter with the guest's first frame, and returns the frame to
// send. The error wraps ErrFrame, or is a *protocol.Error if the door has no
// password; nothing is sent then.
func Answer(d Door, knock []byte) (a *Admitter, frame []byte, err error) {
	password := d.State.Password()
	if !password.Open {
		return nil, nil, protocol.Refuse(protocol.NobodyAdmits, "the room takes no guests by a password")
	}
	r, err := cutFrame(knock, frameKnock)
	if err != nil {
		return nil, nil, err
	}
	a = &Admitter{step: awaitAnswer, state: d.State, run: run{room: d.State.Room(), admitter: d.Cert, nonceA: newNonce()}}
	copy(a.run.nonceG[:], r.Take(nonceSize))
	chain := r.Take(r.Len())
	if r.End() != nil {
		return nil, nil, ErrFrame
	}
	if err = a.run.setGuest(chain); err != nil {
		return nil, nil, err
	}
	if bytes.Equal(a.run.guest.PeerID, d.Cert.PeerID) {
		return nil, nil, ErrFrame
	}
	a.party = a.run.party(pake.Initiator, *d.Secret())
	a.shareA = a.party.Share()
	frame = append([]byte{version, frameOffer}, a.run.nonceA[:]...)
	frame = binary.BigEndian.AppendUint32(frame, password.Number)
	frame = append(frame, a.shareA...)
	return a, append(frame, d.Cert.Marshal()...), nil
}

// Answered takes the guest's second frame, with its guess, and returns the frame to
// send, also with a *protocol.Error, which tells the guest: RateLimited if limits do
// not let it try, else WrongPassword, whatever is wrong. Without a frame the error is
// ErrFrame or ErrOver. From is where the guest is, in the words of whoever passed the
// frame on; equal for the same place, empty if nobody knows.
func (a *Admitter) Answered(now time.Time, limits *Limits, from string, frame []byte) (next []byte, err error) {
	if a.step != awaitAnswer {
		return nil, ErrOver
	}
	a.step = admitterOver
	r, err := cutFrame(frame, frameAnswer)
	if err != nil {
		return nil, err
	}
	share, tag, sig := r.Take(pake.ShareSize), r.Take(pake.TagSize), r.Take(key.SignatureSize)
	if r.End() != nil {
		return nil, ErrFrame
	}
	// Nobody uses up what another guest may try: its key is checked first.
	if a.run.guest.Signing.Verify(labelProof, sig, a.run.proof(a.shareA, share)...) != nil {
		return nil, ErrFrame
	}
	try, wait := limits.take(now, a.who(from))
	if wait > 0 {
		e := &protocol.Error{Code: protocol.RateLimited, Detail: "too many wrong passwords", RetryAfter: wait}
		return appendRefused([]byte{version, frameRefused}, e), e
	}
	confirmation, ok := a.check(share, tag)
	if !ok {
		e := wrongPassword()
		return appendRefused([]byte{version, frameRefused}, e), e
	}
	limits.giveBack(try)
	a.step = awaitName
	return append([]byte{version, frameConfirm}, confirmation...), nil
}

// who is how the guest is counted. Whoever was in the room before is no stranger.
func (a *Admitter) who(from string) who {
	device := a.run.guest.DeviceID()
	_, _, known := a.state.AccountOf(device)
	return who{device: device, from: from, known: known}
}

// check compares the guest's confirmation, in constant time.
func (a *Admitter) check(share, tag []byte) (confirmation []byte, ok bool) {
	agree, err := a.party.Finish(share, a.run.adGuest())
	if err != nil {
		return nil, false
	}
	if a.keys, err = agree.Confirm(tag); err != nil {
		return nil, false
	}
	return agree.Confirmation(), true
}

// Requested takes the guest's last frame. The error is ErrFrame or ErrOver. The caller
// lets the guest in: it writes Request.Join to the log, or finds there that the guest
// is in already. Then it calls Admit, or Refuse.
func (a *Admitter) Requested(frame []byte) (Request, error) {
	if a.step != awaitName {
		return Request{}, ErrOver
	}
	a.step = admitterOver
	text, err := open(fromGuest(a.keys), frameName, frame)
	if err != nil {
		return Request{}, err
	}
	name, err := parseName(text)
	if err != nil {
		return Request{}, err
	}
	a.step = awaitDecision
	return Request{Chain: a.run.chain, Device: a.run.guest, Name: name, Number: a.state.Password().Number}, nil
}

// Admit returns the frame that lets the guest in. It is to be called when the entry is
// in the log, as whoever orders it has it.
func (a *Admitter) Admit(w Welcome) (frame []byte, err error) {
	text, err := w.marshal()
	if err != nil {
		return nil, err
	}
	return a.decide(text)
}

// Refuse returns the frame that tells the guest why it does not come in, see
// Refusal.
func (a *Admitter) Refuse(e *protocol.Error) (frame []byte, err error) {
	return a.decide(appendRefused([]byte{refused}, e))
}

func (a *Admitter) decide(text []byte) (frame []byte, err error) {
	if a.step != awaitDecision {
		return nil, ErrOver
	}
	a.step = admitterOver
	return seal(fromAdmitter(a.keys), frameWelcome, text), nil
}
