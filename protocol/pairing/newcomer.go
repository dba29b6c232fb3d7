package pairing

import (
	"bytes"
	"fmt"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/link"
	"github.com/parley-chat/parley/protocol/pake"
)

// Newcomer is the machine that wants to become a device of the account. Not for
// concurrent use.
type Newcomer struct {
	key.Redacted
	step    newcomerStep
	self    Self
	request []byte
	history bool

	party  *pake.Party
	keys   *pake.Keys
	in     sealing
	answer key.Hidden[[]byte] // pieces so far, with the first byte
}

// newcomerStep is what a Newcomer waits for.
type newcomerStep uint8

const (
	newcomerOver newcomerStep = iota
	awaitReply
	awaitAnswer
)

// Enter begins at the newcomer with the code that was entered. Request is
// what it asks to be certified, 1 to MaxRequest bytes; history, whether it asks
// for old messages. It returns the first frame to send.
func Enter(c Code, self Self, request []byte, history bool) (n *Newcomer, frame []byte, err error) {
	if err := checkSelf(self); err != nil {
		return nil, nil, err
	}
	if len(request) == 0 || len(request) > MaxRequest || c.kind == 0 {
		return nil, nil, fmt.Errorf("add device: request of %d bytes, or no code", len(request))
	}
	n = &Newcomer{
		step: awaitReply, self: self, request: bytes.Clone(request), history: history,
		party: pake.New(pake.Initiator, common(c, self.Rendezvous), adNewcomer(self.Peer)),
	}
	return n, n.enter(c.kind), nil
}

func (n *Newcomer) enter(k kind) []byte {
	frame := appendPeer([]byte{version, frameEnter, byte(k)}, n.self.Peer)
	return append(frame, n.party.Share()...)
}

// Reply takes the other device's first frame and returns the frame to send.
// Of ErrWrongCode the frame tells the other device; for the other errors,
// ErrFrame and ErrOver, there is none. The person at this machine may compare
// Fingerprint from now on.
func (n *Newcomer) Reply(frame []byte) (next []byte, err error) {
	if n.step != awaitReply {
		return nil, ErrOver
	}
	n.step = newcomerOver
	keys, confirmation, err := n.confirm(frame)
	if err == ErrWrongCode {
		return []byte{version, frameWrong}, err
	}
	if err != nil {
		return nil, err
	}
	n.step, n.party = awaitAnswer, nil
	n.keys, n.in, n.answer = keys, fromSponsor(keys), key.Hide(new([]byte))
	out := fromNewcomer(keys)
	return out.seal(append([]byte{version, frameRequest}, confirmation...), n.plainRequest()), nil
}

// confirm makes sure that the other device has the code.
func (n *Newcomer) confirm(frame []byte) (k *pake.Keys, confirmation []byte, err error) {
	rest, err := cutFrame(frame, frameReply)
	if err != nil {
		return nil, nil, err
	}
	peer, rest, err := link.CutField(rest, link.MaxPeer)
	if err != nil || len(rest) != pake.ShareSize+pake.TagSize || bytes.Equal(peer, n.self.Peer) {
		return nil, nil, ErrFrame
	}
	u, err := n.party.Finish(rest[:pake.ShareSize], adSponsor(peer))
	if err != nil {
		return nil, nil, ErrFrame
	}
	k, err = u.Confirm(rest[pake.ShareSize:])
	if err != nil {
		return nil, nil, ErrWrongCode
	}
	return k, u.Confirmation(), nil
}

// plainRequest is what the request seals: whether old messages are wanted, request.
func (n *Newcomer) plainRequest() []byte {
	text := []byte{0}
	if n.history {
		text[0] = 1
	}
	return append(text, n.request...)
}

// Fingerprint returns the words that the other device shows too, if it speaks
// with this machine; nil before Reply succeeded.
func (n *Newcomer) Fingerprint() []string {
	if n.keys == nil {
		return nil
	}
	return fingerprint(n.keys, n.request)
}

// Answer takes one frame of the answer. When done, answer is all of it, and the
// caller's. The error is ErrRefused, ErrFrame or ErrOver.
func (n *Newcomer) Answer(frame []byte) (answer []byte, done bool, err error) {
	if n.step != awaitAnswer {
		return nil, false, ErrOver
	}
	answer, done, err = n.takePiece(frame)
	if done || err != nil {
		n.step = newcomerOver
	}
	return answer, done, err
}

func (n *Newcomer) takePiece(frame []byte) (answer []byte, done bool, err error) {
	rest, err := cutFrame(frame, frameAnswer)
	if err != nil {
		return nil, false, err
	}
	text, err := n.in.open(frame, answerHead)
	if err != nil {
		return nil, false, err
	}
	all := n.answer()
	if len(*all)+len(text) > 1+MaxAnswer {
		return nil, false, ErrFrame
	}
	*all = append(*all, text...)
	switch {
	case rest[0] == more && len(text) == piece:
		return nil, false, nil
	case rest[0] != last || len(*all) == 0:
		return nil, false, ErrFrame
	case (*all)[0] == refused && len(*all) == 1:
		return nil, false, ErrRefused
	case (*all)[0] != accepted || len(*all) == 1:
		return nil, false, ErrFrame
	}
	return (*all)[1:], true, nil
}
