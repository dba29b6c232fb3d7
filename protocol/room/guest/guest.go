// Package guest is how somebody without an account comes into a room: the guest,
// who has a fresh key and was told the room's password, and a device of a member
// who may let guests in, the admitter, find out by CPace that both have the same
// password. Then the guest says its name, the admitter writes the guest into the
// room's log, and gives it the entry and the keys of the room's texts.
//
// Whoever passes the frames on, mostly the rendezvous, learns nothing by which a
// password could be tried; posing as one of the two, it has one guess with each
// attempt of the other. The package must not be used by a rendezvous.
//
// The two sides are state machines that take frames and give frames. They do no
// I/O and know no clock. Each is good for one attempt: after any error it is over
// (SPEC "Guests").
package guest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/pake"
	"github.com/parley-chat/parley/protocol/room"
)

// Limits, in bytes.
const (
	MaxFrame = 60 << 10 // one frame
	MaxChain = 1 << 10  // statement chain of a guest: genesis and one device
	MaxName  = protocol.MaxDisplay
)

// MaxKeys is the most state keys that a guest is given: one for each name, and
// that of the room's.
const MaxKeys = room.MaxMembers + 1

var (
	// ErrFrame is returned for a frame that is malformed, changed, out of turn or
	// was sent before.
	ErrFrame = errors.New("unexpected data while a guest comes in")
	// ErrOver is returned by a side that is finished or failed before.
	ErrOver = errors.New("the guest's attempt is over")
	// ErrOtherRoom is returned by Welcome.Check for a log that is not the one
	// which the guest was let into.
	ErrOtherRoom = errors.New("the log is not that of the room which let the guest in")
)

// The first two bytes of a frame are version and type.
const (
	version = 1

	frameKnock   = 1 // guest: nonce, chain
	frameOffer   = 2 // admitter: nonce, number of the password, share, certificate
	frameAnswer  = 3 // guest: share, confirmation, signature
	frameConfirm = 4 // admitter: confirmation
	frameRefused = 5 // admitter: code, seconds to wait
	frameName    = 6 // guest: sealed name
	frameWelcome = 7 // admitter: sealed entry and keys, or a sealed refusal

	headerSize = 2
	nonceSize  = 16
	gcmTag     = 16
)

// First byte of what the last frame seals.
const (
	accepted = 1
	refused  = 2
)

// run is what both sides know of one attempt before they share a key.
type run struct {
	room           protocol.RoomID
	chain          *account.Chain // of the guest
	guest          account.Cert   // in it
	admitter       account.Cert
	nonceG, nonceA [nonceSize]byte
}

// session is the identifier of the run for CPace: half of it is random whoever the
// other is.
func (r *run) session() []byte { return append(r.nonceG[:], r.nonceA[:]...) }

// channel says who talks to whom about what.
func (r *run) channel() []byte {
	return key.Message("guest channel", r.room[:], r.guest.PeerID, r.admitter.PeerID)
}

// party begins CPace with what was derived from the password.
func (r *run) party(role pake.Role, derived [32]byte) *pake.Party {
	ad := r.adAdmitter()
	if role == pake.Responder {
		ad = r.adGuest()
	}
	return pake.New(role, pake.Common{Password: derived[:], Channel: r.channel(), Session: r.session()}, ad)
}

// adAdmitter and adGuest are what the sides say about themselves.
func (r *run) adAdmitter() []byte { return key.Message("guest admitter", r.admitter.Marshal()) }
func (r *run) adGuest() []byte    { return key.Message("guest visitor", r.chain.Bytes()) }

const labelProof = "guest proof"

// proof is what the guest signs: that its key takes part, here and now.
func (r *run) proof(shareA, shareG []byte) [][]byte {
	return [][]byte{r.session(), r.channel(), shareA, shareG}
}

func newNonce() (n [nonceSize]byte) {
	rand.Read(n[:]) // crashes the program rather than fail
	return n
}

// setGuest takes the account of the guest, which was made for a visit.
func (r *run) setGuest(chain []byte) (err error) {
	if len(chain) > MaxChain {
		return fmt.Errorf("%w: chain of %d bytes", ErrFrame, len(chain))
	}
	if r.chain, err = account.ParseChain(chain); err != nil {
		return fmt.Errorf("%w: %v", ErrFrame, err)
	}
	certs := r.chain.Standing()
	if r.chain.Seq() != 1 || len(certs) != 1 || certs[0].Name != "" {
		return fmt.Errorf("%w: a guest's account has one device, without a name", ErrFrame)
	}
	r.guest = certs[0]
	return nil
}

// cutFrame checks the first two bytes of a frame and returns a reader of the rest.
func cutFrame(frame []byte, frameType byte) (*key.Reader, error) {
	if len(frame) < headerSize || len(frame) > MaxFrame || frame[0] != version || frame[1] != frameType {
		return nil, ErrFrame
	}
	return key.NewReader(frame[headerSize:]), nil
}

// The two directions: each key seals one frame, so the nonce is always the same.
func fromGuest(k *pake.Keys) cipher.AEAD    { return newSealing(k, "guest from visitor") }
func fromAdmitter(k *pake.Keys) cipher.AEAD { return newSealing(k, "guest from admitter") }

func newSealing(k *pake.Keys, purpose string) cipher.AEAD {
	secret := k.Derive(purpose)
	defer clear(secret[:])
	block, err := aes.NewCipher(secret[:])
	if err != nil {
		panic(err) // 32 bytes are always an AES key
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err) // block is always AES
	}
	return aead
}

var onlyNonce = make([]byte, 12)

// seal makes a frame of a type around text.
func seal(aead cipher.AEAD, frameType byte, text []byte) []byte {
	header := []byte{version, frameType}
	return aead.Seal(header, onlyNonce, text, header)
}

// open returns what a frame of a type seals.
func open(aead cipher.AEAD, frameType byte, frame []byte) ([]byte, error) {
	if _, err := cutFrame(frame, frameType); err != nil {
		return nil, err
	}
	text, err := aead.Open(nil, onlyNonce, frame[headerSize:], frame[:headerSize])
	if err != nil {
		return nil, ErrFrame
	}
	return text, nil
}
