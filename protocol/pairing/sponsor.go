package pairing

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/link"
	"github.com/parley-chat/parley/protocol/pake"
)

// Sponsor is the device of the account that shows the code. Not for concurrent use.
type Sponsor struct {
	key.Redacted
	step  sponsorStep
	self  Self
	codes []Code

	peer  []byte // of the newcomer
	agree *pake.Unconfirmed
	out   sealing
}

// sponsorStep is what a Sponsor waits for.
type sponsorStep uint8

const (
	sponsorOver sponsorStep = iota
	awaitEnter
	awaitRequest
	awaitDecision
)

// Request is what the person at the old device decides about.
type Request struct {
	Device       []byte   // the newcomer's request, as it gave it
	WantsHistory bool     // it asks for old messages too
	Peer         []byte   // libp2p peer id that the newcomer has at the rendezvous, by its own word
	Fingerprint  []string // FingerprintWords words, which the newcomer shows too
}

// Offer begins at the sponsor with the codes it shows: one of each form,
// for the same slot. Only one of them is tried, once.
func Offer(self Self, codes ...Code) (*Sponsor, error) {
	if err := checkSelf(self); err != nil {
		return nil, err
	}
	if len(codes) == 0 {
		return nil, errors.New("add device: no code")
	}
	for _, c := range codes {
		if c.kind == 0 || c.Slot != codes[0].Slot {
			return nil, errors.New("add device: a code of no slot or of another")
		}
	}
	return &Sponsor{step: awaitEnter, self: self, codes: codes}, nil
}

// Entered takes the newcomer's first frame and returns the frame to send.
// The codes are used up, whatever comes of it. The error is ErrFrame,
// ErrWrongCode if the code is of a form that was not offered, or ErrOver.
func (o *Sponsor) Entered(frame []byte) (next []byte, err error) {
	if o.step != awaitEnter {
		return nil, ErrOver
	}
	o.step = sponsorOver
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
	party := pake.New(pake.Responder, common(c, o.self.Rendezvous), adSponsor(o.self.Peer))
	o.agree, err = party.Finish(share, adNewcomer(peer))
	if err != nil {
		return nil, ErrFrame
	}
	o.step, o.peer, o.codes = awaitRequest, peer, nil
	next = appendPeer([]byte{version, frameReply}, o.self.Peer)
	next = append(next, party.Share()...)
	return append(next, o.agree.Confirmation()...), nil
}

func (o *Sponsor) code(k kind) (Code, bool) {
	for _, c := range o.codes {
		if c.kind == k {
			return c, true
		}
	}
	return Code{}, false
}

// Requested takes the newcomer's second frame. The error is ErrWrongCode,
// ErrFrame or ErrOver.
func (o *Sponsor) Requested(frame []byte) (Request, error) {
	if o.step != awaitRequest {
		return Request{}, ErrOver
	}
	o.step = sponsorOver
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
	in := fromNewcomer(keys)
	text, err := in.open(frame, headerSize+pake.TagSize)
	if err != nil || len(text) < 2 || len(text) > 1+MaxRequest || text[0] > 1 {
		return Request{}, ErrFrame
	}
	o.step, o.out, o.agree = awaitDecision, fromSponsor(keys), nil
	return Request{Device: text[1:], WantsHistory: text[0] == 1, Peer: o.peer, Fingerprint: fingerprint(keys, text[1:])}, nil
}

// Accept returns the frames that carry answer, 1 to MaxAnswer bytes, to the
// newcomer, in the order to send them. It is to be called when a person said
// yes, having seen the fingerprint.
func (o *Sponsor) Accept(answer []byte) (frames [][]byte, err error) {
	if len(answer) == 0 || len(answer) > MaxAnswer {
		return nil, fmt.Errorf("add device: answer of %d bytes", len(answer))
	}
	return o.decide(append([]byte{accepted}, answer...))
}

// Refuse returns the frame that tells the newcomer that the person said no.
func (o *Sponsor) Refuse() (frame []byte, err error) {
	frames, err := o.decide([]byte{refused})
	if err != nil {
		return nil, err
	}
	return frames[0], nil
}

func (o *Sponsor) decide(text []byte) (frames [][]byte, err error) {
	if o.step != awaitDecision {
		return nil, ErrOver
	}
	o.step = sponsorOver
	defer clear(text)
	for len(text) > piece {
		frames = append(frames, o.out.seal([]byte{version, frameAnswer, more}, text[:piece]))
		text = text[piece:]
	}
	return append(frames, o.out.seal([]byte{version, frameAnswer, last}, text)), nil
}
