package session

import (
	"crypto/mlkem"
	"errors"
	"time"
)

// A chain offers a fresh ML-KEM key when mixMessages and mixAfter have both
// passed since the newest PQ mix, or mixAtLatest has.
const (
	mixMessages = 50
	mixAfter    = 10 * time.Minute
	mixAtLatest = 24 * time.Hour
)

var errBlock = errors.New("unexpected or invalid ML-KEM block")

// answerAndOffer fills the blocks of the chain about to start: a ciphertext if
// the peer offered a key, and a key of our own if one is due. It returns the
// secret to mix in, nil if there is none. Every message of the chain carries
// the blocks, so they cannot be lost.
func (s *state) answerAndOffer(now time.Time) (shared []byte, err error) {
	var ct []byte
	s.sendFlags, s.sendBlock = 0, nil
	if s.peerOffer != nil {
		ek, err := mlkem.NewEncapsulationKey768(s.peerOffer)
		if err != nil {
			return nil, err
		}
		shared, ct = ek.Encapsulate()
		s.sendFlags |= flagCT
		s.peerOffer = nil
		s.noteMix(now)
	}
	if s.offerDue(now) {
		dk, err := mlkem.GenerateKey768()
		if err != nil {
			return nil, err
		}
		s.offer = dk.Bytes()
		s.sendFlags |= flagEK
		s.sendBlock = dk.EncapsulationKey().Bytes()
	}
	s.sendBlock = append(s.sendBlock, ct...)
	return shared, nil
}

// takeBlocks does the receiver's part for the chain of h: it opens the
// ciphertext with the key we offered, which is destroyed, and keeps the key
// the peer offers.
func (s *state) takeBlocks(now time.Time, h header) (shared []byte, err error) {
	ct := h.ct()
	if (ct == nil) != (s.offer == nil) {
		return nil, errBlock // who started this chain has seen our offer
	}
	if ct != nil {
		dk, err := mlkem.NewDecapsulationKey768(s.offer)
		if err != nil {
			return nil, err
		}
		if shared, err = dk.Decapsulate(ct); err != nil {
			return nil, err
		}
		s.offer = nil
		s.noteMix(now)
	}
	if ek := h.ek(); ek != nil {
		if _, err := mlkem.NewEncapsulationKey768(ek); err != nil || s.peerOffer != nil {
			return nil, errBlock
		}
		s.peerOffer = append([]byte(nil), ek...)
	}
	return shared, nil
}

func (s *state) noteMix(now time.Time) {
	s.mixed, s.sinceMix = now.Unix(), 0
}

func (s *state) offerDue(now time.Time) bool {
	if s.offer != nil {
		return false
	}
	passed := now.Sub(time.Unix(s.mixed, 0))
	wentBack := passed < 0 // a clock that was wrong must not end PQ steps
	return wentBack || passed >= mixAtLatest || passed >= mixAfter && s.sinceMix >= mixMessages
}
