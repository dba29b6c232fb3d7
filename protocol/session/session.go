// Package session is the conversation of two devices: a Double Ratchet with
// AES-256-GCM and an ML-KEM-768 step now and then, the choice among several
// sessions with one device, and when to repair.
//
// A State is a value. Encrypt and Decrypt return the next one, which the
// caller stores before anything leaves the device or is acknowledged; after an
// error the old one is unchanged and still good. The package must not do I/O,
// read a clock or keep anything between calls.
package session

import (
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/prekey"
)

// maxAhead is how far a session's generation may lie in the future.
const maxAhead = 24 * time.Hour

// State is one session with one device. It holds secrets: it prints as
// "redacted" and is to be sealed before it is stored. The zero value is
// unusable.
type State struct {
	key.Redacted
	s key.Hidden[state] // never written to once it is in a State
}

// phase says whose turn it is to start a chain.
type phase uint8

const (
	phaseFirst  phase = 1 // responder before the first message: can only receive
	phaseAnswer phase = 2 // the peer's chain is newest: the next message sent starts ours
	phaseSend   phase = 3 // our chain is newest: the peer's next chain may come
)

// state is what State holds. Slices in it are shared between states and never
// written to. Times are seconds since 1970.
type state struct {
	id        protocol.SessionID
	peer      protocol.DeviceID
	gen       uint64
	initiator bool
	confirmed bool // a message of the peer was opened
	noOneTime bool
	reset     bool
	created   int64
	ad        [32]byte
	opening   []byte // prefixed to messages until confirmed; initiator only

	phase phase
	root  [32]byte

	priv      [32]byte // our ratchet key; zero in phaseAnswer
	pub       [32]byte
	sendChain [32]byte // zero unless phaseSend
	sendN     uint32   // messages sent in our newest chain
	sendPN    uint32   // and in the one before
	sendFlags byte     // of our newest chain, with its blocks
	sendBlock []byte

	peerPub    [32]byte // zero in phaseFirst
	recvChain  [32]byte
	recvN      uint32
	recvSerial uint32  // number of the peer's newest chain, from 1; 0: none yet
	chains     []chain // those remembered, oldest first; the last is the newest
	skipped    []skippedKey

	offer     []byte // ML-KEM seed whose key we offered; nil: none outstanding
	peerOffer []byte // ML-KEM key the peer offered; nil: none unanswered
	mixed     int64  // time of the newest PQ mix
	sinceMix  uint32 // messages since
}

// Initiate opens a session with the device of b, whose certificate the caller
// has checked. Gen comes from NextGen; reset says that earlier sessions with
// the device are lost. It costs about 0.8 ms.
func Initiate(now time.Time, self envelope.Identity, b envelope.Bundle, gen uint64, reset bool) (State, error) {
	if err := b.Verify(now); err != nil {
		return State{}, fmt.Errorf("initiate session: %w", err)
	}
	opening, secrets, err := envelope.Seal(self, b, gen, reset)
	if err != nil {
		return State{}, fmt.Errorf("initiate session: %w", err)
	}
	return State{s: key.Hide(&state{
		id: secrets.Session, peer: b.Cert.DeviceID(), gen: gen, initiator: true, noOneTime: b.OneTime == nil, reset: reset,
		created: now.Unix(), ad: secrets.AD, opening: opening,
		phase: phaseAnswer, root: *secrets.Root(), peerPub: b.Signed.X25519, mixed: now.Unix(),
	})}, nil
}

// Accept makes the session of an opening made for this device; the sender's
// certificate was checked by the caller. The result is to be stored only after
// Decrypt has opened the message behind the opening; then the one-time pair is
// destroyed, or (signed prekey id, o.EK) remembered until the signed one is, so
// that the opening is not accepted again. Every failure is envelope.ErrOpen.
// It costs about 5 ms, 0.2 ms if it fails before RSA.
func Accept(now time.Time, self envelope.Identity, o envelope.Opening, signed prekey.Pair, oneTime *prekey.Pair, rsa key.RSAPrivate) (State, error) {
	if o.Gen > uint64(now.Add(maxAhead).Unix()) || expired(now, &signed) || expired(now, oneTime) {
		return State{}, envelope.ErrOpen
	}
	secrets, err := envelope.Open(self, o, signed, oneTime, rsa)
	if err != nil {
		return State{}, envelope.ErrOpen
	}
	return State{s: key.Hide(&state{
		id: secrets.Session, peer: o.Sender, gen: o.Gen, noOneTime: !o.HasOneTime, reset: o.Reset,
		created: now.Unix(), ad: secrets.AD,
		phase: phaseFirst, root: *secrets.Root(), priv: [32]byte(signed.X25519()), pub: signed.Record.X25519, mixed: now.Unix(),
	})}, nil
}

func expired(now time.Time, p *prekey.Pair) bool {
	return p != nil && now.After(p.Record.KeepUntil())
}

// NextGen is the generation of a session opened now: above the highest known
// with the device, and not below the time in seconds.
func NextGen(now time.Time, highest uint64) uint64 {
	return max(highest+1, uint64(max(0, now.Unix())))
}

// ID names the session; the zero state has the zero id.
func (s State) ID() protocol.SessionID { return s.get().id }

// Peer is the other device.
func (s State) Peer() protocol.DeviceID { return s.get().peer }

// Gen orders the sessions with one device.
func (s State) Gen() uint64 { return s.get().gen }

// Confirmed tells that a message of the peer was opened in this session.
func (s State) Confirmed() bool { return s.get().confirmed }

// Initiator tells that this device opened the session.
func (s State) Initiator() bool { return s.get().initiator }

// Reset tells that the session was opened because earlier ones were lost.
func (s State) Reset() bool { return s.get().reset }

// NoOneTime tells that no one-time prekey was left for the opening: its first
// messages have forward secrecy only once the signed prekey is destroyed.
func (s State) NoOneTime() bool { return s.get().noOneTime }

// Created is when this device opened or accepted the session.
func (s State) Created() time.Time { return time.Unix(s.get().created, 0).UTC() }

// Info is what Choose needs to know of the session.
func (s State) Info() Info {
	return Info{ID: s.ID(), Gen: s.Gen(), Confirmed: s.Confirmed(), Initiator: s.Initiator(), Reset: s.Reset(), Created: s.Created()}
}

func (s State) get() *state {
	if s.s == nil {
		return &state{}
	}
	return s.s()
}
