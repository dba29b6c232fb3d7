package session

import (
	"crypto/ecdh"
	"crypto/rand"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/key"
)

// Encrypt pads and seals msg. Env is the whole envelope: the opening stands in
// front until the peer has answered. The caller stores next, and env for
// resending, before env leaves. The caller owns env; msg is not kept.
func (s State) Encrypt(now time.Time, msg []byte) (next State, env []byte, err error) {
	if s.s == nil || s.s().phase == phaseFirst {
		return s, nil, ErrNotReady
	}
	if len(msg) > protocol.MaxEnvelope {
		return s, nil, ErrTooLarge
	}
	n := *s.s()
	n.dropExpired(now)
	if n.phase == phaseAnswer {
		if err := n.startChain(now); err != nil {
			return s, nil, ErrNotReady
		}
	}
	if n.sendN >= maxN-1 {
		return s, nil, ErrNotReady
	}
	h := header{flags: n.sendFlags, role: n.role(), session: n.id, pub: n.pub, pn: n.sendPN, n: n.sendN, blocks: n.sendBlock}
	var messageKey [32]byte
	messageKey, n.sendChain = kdfchain.Step(n.sendChain)
	n.sendN++
	n.sinceMix++
	if env = n.seal(messageKey, h, envelope.Pad(msg)); len(env) > protocol.MaxEnvelope {
		return s, nil, ErrTooLarge
	}
	return State{s: key.Hide(&n)}, env, nil
}

// seal returns [opening] ‖ header ‖ nonce ‖ ciphertext ‖ tag.
func (s *state) seal(messageKey [32]byte, h header, padded []byte) []byte {
	size := len(s.opening) + headerSize + len(h.blocks) + kdfchain.NonceSize + len(padded) + kdfchain.TagSize
	env := append(make([]byte, 0, size), s.opening...)
	env = h.append(env)
	return kdfchain.AEAD(messageKey).Seal(env, nil, padded, s.aad(env[len(s.opening):]))
}

// aad is what a message authenticates besides its text: the whole session
// opening, by way of AD, and every byte of the header.
func (s *state) aad(rawHeader []byte) []byte {
	b := make([]byte, 0, len(s.ad)+len(rawHeader))
	return append(append(b, s.ad[:]...), rawHeader...)
}

func (s *state) role() byte {
	if s.initiator {
		return roleInitiator
	}
	return roleResponder
}

// startChain makes a new ratchet key and with it our next sending chain.
func (s *state) startChain(now time.Time) error {
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	s.priv, s.pub = [32]byte(k.Bytes()), [32]byte(k.PublicKey().Bytes())
	peer, err := ecdh.X25519().NewPublicKey(s.peerPub[:])
	if err != nil {
		return err
	}
	secret, err := k.ECDH(peer)
	if err != nil {
		return err
	}
	shared, err := s.answerAndOffer(now)
	if err != nil {
		return err
	}
	h := header{pub: s.pub, flags: s.sendFlags, blocks: s.sendBlock}
	if s.root, s.sendChain, err = rootStep(s.root, secret, shared, h); err != nil {
		return err
	}
	s.sendPN, s.sendN = s.sendN, 0
	s.phase = phaseSend
	return nil
}

// Decrypt opens a ratchet message: an envelope without its opening. Every
// message opens once, in any order. The caller stores next together with msg
// before acknowledging. The caller owns msg; ratchetMsg is not kept.
//
// The error is ErrReplay for a message opened before, ErrSkip if too many are
// missing before this one, ErrMalformed for no message of this session, and
// ErrDecrypt for anything else. The state then stays as it is.
func (s State) Decrypt(now time.Time, ratchetMsg []byte) (next State, msg []byte, err error) {
	if s.s == nil {
		return s, nil, ErrNotReady
	}
	h, rawHeader, sealed, err := parseMessage(ratchetMsg)
	if err != nil {
		return s, nil, err
	}
	n := *s.s()
	if h.session != n.id || h.role == n.role() || h.pub == n.pub {
		return s, nil, ErrMalformed
	}
	n.dropExpired(now)
	messageKey, err := n.messageKey(now, h)
	if err != nil {
		return s, nil, err
	}
	padded, err := kdfchain.AEAD(messageKey).Open(nil, nil, sealed, n.aad(rawHeader))
	if err != nil {
		return s, nil, ErrDecrypt
	}
	if msg, err = envelope.Unpad(padded); err != nil {
		return s, nil, ErrDecrypt
	}
	n.sinceMix++
	n.confirmed, n.opening = true, nil
	return State{s: key.Hide(&n)}, msg, nil
}

// messageKey advances s to the message with header h and returns its key.
func (s *state) messageKey(now time.Time, h header) ([32]byte, error) {
	serial, known := s.findChain(h.pub)
	if !known {
		if err := s.acceptChain(now, h); err != nil {
			return [32]byte{}, err
		}
		serial = s.recvSerial
	}
	if serial != s.recvSerial || h.n < s.recvN {
		if mk, ok := s.takeSkipped(serial, h.n); ok {
			return mk, nil
		}
		return [32]byte{}, ErrReplay
	}
	if h.n-s.recvN > protocol.MaxSkip {
		return [32]byte{}, ErrSkip
	}
	s.skipTo(now, h.n)
	mk, chain := kdfchain.Step(s.recvChain)
	s.recvChain = chain
	s.recvN++
	return mk, nil
}

// acceptChain makes the peer's next chain. The peer can have started it only
// after it opened a message of our newest one.
func (s *state) acceptChain(now time.Time, h header) error {
	if s.phase == phaseAnswer || h.pn < s.recvN {
		return ErrDecrypt
	}
	if s.recvSerial == 0 && h.pn != 0 { // there was no chain before
		return ErrDecrypt
	}
	if h.pn-s.recvN+h.n > protocol.MaxSkip { // both below 2^31
		return ErrSkip
	}
	secret, err := dh(s.priv, h.pub)
	if err != nil {
		return ErrDecrypt
	}
	shared, err := s.takeBlocks(now, h)
	if err != nil {
		return ErrDecrypt
	}
	s.skipTo(now, h.pn) // what is still missing in the chain before
	if s.root, s.recvChain, err = rootStep(s.root, secret, shared, h); err != nil {
		return ErrDecrypt
	}
	s.addChain(h.pub)
	s.peerPub, s.recvN = h.pub, 0
	s.priv, s.sendChain = [32]byte{}, [32]byte{} // not needed again: the peer has moved on
	s.sendFlags, s.sendBlock = 0, nil
	s.phase = phaseAnswer
	return nil
}
