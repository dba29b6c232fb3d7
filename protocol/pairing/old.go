package pairing

import (
	"bytes"
	"fmt"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/link"
	"github.com/parley-chat/parley/protocol/pake"
)

// Old is the device of the account that shows the code. Not for concurrent use.
type Old struct {
	key.Redacted
	step  oldStep
	self  Self
	codes []Code

	peer  []byte // of the new machine
	agree *pake.Unconfirmed
	out   sealing
}

// oldStep is what an Old waits for.
type oldStep uint8

const (
	oldOver oldStep = iota
	oldEntered
	oldRequest
	oldDecision
)

// Request is what the person at the old device decides about.
type Request struct {
	Device       []byte   // the new machine's request, as it gave it
	WantsHistory bool     // it asks for old messages too
	Peer         []byte   // libp2p peer id that the new machine has at the rendezvous, by its own word
	Fingerprint  []string // FingerprintWords words, which the new machine shows too
}

// Offer begins at the old device with the codes it shows: one of each form,
// for the same slot. Only one of them is tried, once.
func Offer(self Self, codes ...Code) (*Old, error) {
	if err := checkSelf(self); err != nil {
		return nil, err
	}
	for _, c := range codes {
		if c.kind == 0 || c.Slot != codes[0].Slot {
			return nil, fmt.Errorf("add device: codes for several slots")
		}
	}
	return &Old{step: oldEntered, self: self, codes: codes}, nil
}

// Entered takes the new machine's first frame and returns the frame to send.
// The codes are used up, whatever comes of it. The error is ErrFrame,
// ErrWrongCode if the code is of a form that was not offered, or ErrOver.
func (o *Old) Entered(frame []byte) (next []byte, err error) {
	if o.step != oldEntered {
		return nil, ErrOver
	}
	o.step = oldOver
	rest, err := cutFrame(frame, frameEnter)
	if err != nil || len(rest) == 0 {
		return nil, ErrFrame
	}
	peer, share, err := link.CutField(rest[1:], link.MaxPeer)
	if err != nil || len(share) != pake.ShareSize || bytes.Equal(peer, o.self.Peer) {
		return nil, ErrFrame
	}
	c, ok := o.code(kind(rest[0]))
	if !ok {
		return nil, ErrWrongCode
	}
	party := pake.New(pake.Responder, common(c, o.self.Rendezvous), adOld(o.self.Peer))
	o.agree, err = party.Finish(share, adNew(peer))
	if err != nil {
		return nil, ErrFrame
	}
	o.step, o.peer, o.codes = oldRequest, peer, nil
	next = appendPeer([]byte{version, frameReply}, o.self.Peer)
	next = append(next, party.Share()...)
	return append(next, o.agree.Confirmation()...), nil
}

func (o *Old) code(k kind) (Code, bool) {
	for _, c := range o.codes {
		if c.kind == k {
			return c, true
		}
	}
	return Code{}, false
}

// Requested takes the new machine's second frame. The error is ErrWrongCode,
// ErrFrame or ErrOver.
func (o *Old) Requested(frame []byte) (Request, error) {
	if o.step != oldRequest {
		return Request{}, ErrOver
	}
	o.step = oldOver
	if bytes.Equal(frame, []byte{version, frameWrong}) {
		return Request{}, ErrWrongCode
	}
	rest, err := cutFrame(frame, frameRequest)
	if err != nil || len(rest) < pake.TagSize {
		return Request{}, ErrFrame
	}
	keys, err := o.agree.Confirm(rest[:pake.TagSize])
	if err != nil {
		return Request{}, ErrWrongCode
	}
	in := fromNew(keys)
	text, err := in.open(frame, headerSize+pake.TagSize)
	if err != nil || len(text) < 2 || len(text) > 1+MaxRequest || text[0] > 1 {
		return Request{}, ErrFrame
	}
	o.step, o.out, o.agree = oldDecision, fromOld(keys), nil
	return Request{Device: text[1:], WantsHistory: text[0] == 1, Peer: o.peer, Fingerprint: fingerprint(keys, text[1:])}, nil
}

// Accept returns the frames that carry answer, 1 to MaxAnswer bytes, to the new
// machine, in the order to send them. It is to be called when a person said
// yes, having seen the fingerprint.
func (o *Old) Accept(answer []byte) (frames [][]byte, err error) {
	if len(answer) == 0 || len(answer) > MaxAnswer {
		return nil, fmt.Errorf("add device: answer of %d bytes", len(answer))
	}
	return o.decide(append([]byte{accepted}, answer...))
}

// Refuse returns the frame that tells the new machine that the person said no.
func (o *Old) Refuse() (frame []byte, err error) {
	frames, err := o.decide([]byte{refused})
	if err != nil {
		return nil, err
	}
	return frames[0], nil
}

func (o *Old) decide(text []byte) (frames [][]byte, err error) {
	if o.step != oldDecision {
		return nil, ErrOver
	}
	o.step = oldOver
	defer clear(text)
	for len(text) > piece {
		frames = append(frames, o.out.seal([]byte{version, frameAnswer, more}, text[:piece]))
		text = text[piece:]
	}
	return append(frames, o.out.seal([]byte{version, frameAnswer, last}, text)), nil
}
