// Package pairing is how an account gets another device: a device of the
// account, the sponsor, shows a code; the new machine, the newcomer, enters it;
// and the two agree by it on keys that the rendezvous, which passes their
// frames on, does not have. Then the newcomer says what it is, a person at the
// sponsor says yes or no, and what makes the newcomer part of the account
// travels back.
//
// Reading a code only ever asks to be added: no code that a stranger shows
// brings the stranger's machine into the account of who reads it.
//
// The two sides are state machines that take frames and give frames. They do
// no I/O, know no clock, and must not look into what they carry. Each is good
// for one attempt: after any error it is over. The caller ends the slot then,
// and after the time that the rendezvous gave (SPEC "Adding a device").
package pairing

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/link"
	"github.com/parley-chat/parley/protocol/pake"
	"github.com/parley-chat/parley/protocol/words"
)

// Limits, in bytes.
const (
	MaxRequest = 1 << 10   // what the newcomer says about itself
	MaxAnswer  = 900 << 10 // what it gets
	MaxFrame   = 60 << 10  // one frame
)

// FingerprintWords is how many words both people see: 88 bits.
const FingerprintWords = 8

var (
	// ErrWrongCode is returned when the two sides do not have the same code,
	// or were not brought together by the same rendezvous. Neither learns more.
	ErrWrongCode = errors.New("wrong code")
	// ErrRefused is returned to the newcomer when the person said no.
	ErrRefused = errors.New("the other device refused")
	// ErrFrame is returned for a frame that is malformed, changed, out of turn
	// or was sent before.
	ErrFrame = errors.New("unexpected data while adding a device")
	// ErrOver is returned by a side that is finished or failed before.
	ErrOver = errors.New("adding the device is over")
)

// Self is what a machine knows before it meets the other.
type Self struct {
	Peer       []byte // own libp2p peer id, at most 64 bytes
	Rendezvous []byte // peer id of the rendezvous it is connected to
}

// The first two bytes of a frame are version and type.
const (
	version = 1

	frameEnter   = 1 // newcomer: kind of code, own peer id, share
	frameReply   = 2 // sponsor: own peer id, share, confirmation
	frameRequest = 3 // newcomer: confirmation, sealed request
	frameAnswer  = 4 // sponsor: a piece of the sealed answer
	frameWrong   = 5 // newcomer: the code is wrong

	headerSize = 2
	gcmTag     = 16
	answerHead = headerSize + 1                 // and whether it is the last
	piece      = MaxFrame - answerHead - gcmTag // of the answer, in each frame but the last
)

// First byte of the answer.
const (
	accepted = 1
	refused  = 2
)

// whatIsLast is the third byte of an answer's frame.
const (
	more = 0
	last = 1
)

// common is what both sides must agree about for the code to fit.
func common(c Code, rendezvous []byte) pake.Common {
	return pake.Common{Password: c.password(), Channel: key.Message("pair", []byte(c.Slot), rendezvous)}
}

// adNewcomer and adSponsor are what the sides say about themselves: role and peer id.
func adNewcomer(peer []byte) []byte { return key.Message("pair newcomer", peer) }
func adSponsor(peer []byte) []byte  { return key.Message("pair sponsor", peer) }

// checkSelf keeps a side from making frames that the other refuses.
func checkSelf(s Self) error {
	if len(s.Peer) == 0 || len(s.Peer) > link.MaxPeer || len(s.Rendezvous) == 0 {
		return fmt.Errorf("add device: peer ids of %d and %d bytes", len(s.Peer), len(s.Rendezvous))
	}
	return nil
}

// cutFrame checks the first two bytes of a frame and returns the rest.
func cutFrame(frame []byte, frameType byte) (rest []byte, err error) {
	if len(frame) < headerSize || len(frame) > MaxFrame || frame[0] != version || frame[1] != frameType {
		return nil, ErrFrame
	}
	return frame[headerSize:], nil
}

// appendPeer writes a peer id behind its length in one byte.
func appendPeer(b, peer []byte) []byte { return append(append(b, byte(len(peer))), peer...) }

// sealing is one direction of the channel that the code opened: AES-256-GCM
// with the number of the frame as nonce. Its key is used in this run only.
type sealing struct {
	key key.Hidden[[32]byte]
	n   uint64
}

func newSealing(k *pake.Keys, purpose string) sealing {
	secret := k.Derive(purpose)
	return sealing{key: key.Hide(&secret)}
}

// The two directions.
func fromNewcomer(k *pake.Keys) sealing { return newSealing(k, "pair from newcomer") }
func fromSponsor(k *pake.Keys) sealing  { return newSealing(k, "pair from sponsor") }

// seal appends the sealed text to header, which it authenticates.
func (s *sealing) seal(header, text []byte) []byte {
	aead, nonce := s.next()
	return aead.Seal(header, nonce, text, header)
}

// open returns the text that was sealed in the frame after its header.
func (s *sealing) open(frame []byte, header int) ([]byte, error) {
	if len(frame) < header {
		return nil, ErrFrame
	}
	aead, nonce := s.next()
	text, err := aead.Open(nil, nonce, frame[header:], frame[:header])
	if err != nil {
		return nil, ErrFrame
	}
	return text, nil
}

func (s *sealing) next() (cipher.AEAD, []byte) {
	block, err := aes.NewCipher(s.key()[:])
	if err != nil {
		panic(err) // 32 bytes are always an AES key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // block is always AES
	}
	nonce := binary.BigEndian.AppendUint64(make([]byte, 4), s.n)
	s.n++
	return aead, nonce
}

// fingerprint is what both screens show: words for this device in this run.
func fingerprint(k *pake.Keys, request []byte) []string {
	sum := key.Hash("pair words", k.Session(), request)
	return words.Spell(sum[:], FingerprintWords)
}
