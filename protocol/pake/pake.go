// Package pake is CPace: two machines that share a password, even a short one,
// agree on a strong key. Somebody between them, or posing as one of them,
// learns nothing about the password but whether one guess is right.
//
// It follows draft-irtf-cfrg-cpace-21, suite CPACE-RISTR255-SHA512 in the
// initiator-responder setting (sections 7, 8.1, 8.3), with the explicit key
// confirmation of section 10.4 (HMAC-SHA-512) and the session identifier of
// section 10.6. One Party is good for one run: how many runs a password may
// have is for the caller to limit, and so is what travels how.
package pake

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"slices"

	"github.com/gtank/ristretto255"

	"github.com/parley-chat/parley/protocol/key"
)

const (
	// ShareSize is the length in bytes of what each side sends first.
	ShareSize = 32
	// TagSize is the length in bytes of a confirmation.
	TagSize = sha512.Size
)

var (
	// ErrShare is returned for a share that no honest other side sends.
	ErrShare = errors.New("invalid share")
	// ErrConfirm is returned for a confirmation that is not the other side's:
	// it has another password or was told other things.
	ErrConfirm = errors.New("key not confirmed")
	// ErrUsed is returned by a Party that was used before, or never made.
	ErrUsed = errors.New("password exchange is over")
)

// Role tells the sides apart.
type Role uint8

const (
	Initiator Role = 1 // A of the draft, whose share travels first
	Responder Role = 2 // B
)

// Common is what both sides must have alike. Password is the secret; the
// caller keeps it.
type Common struct {
	key.Redacted
	Password []byte // PRS
	Channel  []byte // CI, channel identifier; not secret
	Session  []byte // sid; empty: the run itself makes one, Keys.Session
}

// Party is one side of a run.
type Party struct {
	key.Redacted
	role   Role
	sid    []byte
	ad     []byte
	share  [ShareSize]byte
	scalar key.Hidden[ristretto255.Scalar]
}

// New begins a run. Ad is what this side says about itself; it travels in the
// open and both sides end up with the same view of it, or with no key.
func New(role Role, in Common, ad []byte) *Party {
	var b [32]byte
	rand.Read(b[:]) // crashes the program rather than fail
	defer clear(b[:])
	return newParty(role, in, ad, sampleScalar(b))
}

// sampleScalar makes a scalar of 32 random bytes (G.sample_scalar, section
// 8.3): 252 bits, which is always below the order of the group.
func sampleScalar(b [32]byte) *ristretto255.Scalar {
	b[31] &= 0x0f
	s, err := ristretto255.NewScalar().SetCanonicalBytes(b[:])
	if err != nil {
		panic(err) // below 2^252
	}
	return s
}

func newParty(role Role, in Common, ad []byte, y *ristretto255.Scalar) *Party {
	p := &Party{role: role, sid: slices.Clone(in.Session), ad: slices.Clone(ad), scalar: key.Hide(y)}
	g := generator(in.Password, in.Channel, in.Session)
	copy(p.share[:], ristretto255.NewIdentityElement().ScalarMult(y, g).Bytes())
	return p
}

// Share returns what to send, with the ad, to the other side.
func (p *Party) Share() []byte { return slices.Clone(p.share[:]) }

// Finish ends the exchange with what the other side sent. A wrong password
// shows only when the other's confirmation is checked. The error is ErrShare
// or ErrUsed; either way the Party is used up.
func (p *Party) Finish(share, ad []byte) (*Unconfirmed, error) {
	if p.scalar == nil {
		return nil, ErrUsed
	}
	y := p.scalar()
	p.scalar = nil
	defer y.Zero()
	if len(share) != ShareSize || [ShareSize]byte(share) == p.share { // our own share came back
		return nil, ErrShare
	}
	k, err := multiply(y, share)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	mine, theirs := lvCat(p.share[:], p.ad), lvCat(share, ad)
	transcript := slices.Concat(mine, theirs)
	if p.role == Responder {
		transcript = slices.Concat(theirs, mine)
	}
	return confirmable(p.sid, k, transcript, mine, theirs), nil
}

// multiply is G.scalar_mult_vfy: it fails for bytes that are no element and
// for the neutral element, as input and as result.
func multiply(y *ristretto255.Scalar, share []byte) ([]byte, error) {
	e, err := ristretto255.NewIdentityElement().SetCanonicalBytes(share)
	if err != nil {
		return nil, ErrShare
	}
	e.ScalarMult(y, e)
	if e.Equal(ristretto255.NewIdentityElement()) == 1 {
		return nil, ErrShare
	}
	return e.Bytes(), nil
}

// Unconfirmed is a key of which nobody knows yet whether the other side has it.
type Unconfirmed struct {
	key.Redacted
	keys         *Keys
	mine, theirs [TagSize]byte
}

func confirmable(sid, k, transcript, mine, theirs []byte) *Unconfirmed {
	h := sha512.New()
	h.Write(lvCat([]byte(dsiISK), sid, k))
	h.Write(transcript)
	isk := [sha512.Size]byte(h.Sum(nil))
	macKey := sha512.Sum512(slices.Concat([]byte(dsiMac), sid, isk[:]))
	defer clear(macKey[:])
	return &Unconfirmed{
		keys:   &Keys{isk: key.Hide(&isk), session: sha512.Sum512(slices.Concat([]byte(dsiSession), transcript))},
		mine:   tag(macKey, mine),
		theirs: tag(macKey, theirs),
	}
}

// tag is the confirmation of the side that sent message, lv_cat(Y, AD).
func tag(macKey [sha512.Size]byte, message []byte) (t [TagSize]byte) {
	mac := hmac.New(sha512.New, macKey[:])
	mac.Write(message)
	mac.Sum(t[:0])
	return t
}

// Confirmation shows the other side that this one has the key; TagSize bytes.
func (u *Unconfirmed) Confirmation() []byte { return slices.Clone(u.mine[:]) }

// Confirm returns the keys if confirmation is the other side's, else
// ErrConfirm. It takes the same time whichever bytes are wrong.
func (u *Unconfirmed) Confirm(confirmation []byte) (*Keys, error) {
	if !hmac.Equal(confirmation, u.theirs[:]) {
		return nil, ErrConfirm
	}
	return u.keys, nil
}

// Keys is what a run leaves both sides with, and nobody else.
type Keys struct {
	key.Redacted
	isk     key.Hidden[[sha512.Size]byte]
	session [sha512.Size]byte
}

// Session names the run: 64 bytes, public, the same on both sides and never
// the same twice.
func (k *Keys) Session() []byte { return slices.Clone(k.session[:]) }

// Derive returns a key for one purpose: HKDF-SHA-256 of ISK, bound to the run
// and the purpose. The caller owns it.
func (k *Keys) Derive(purpose string) (secret [32]byte) {
	out, err := hkdf.Key(sha256.New, k.isk()[:], k.session[:], key.Label(purpose), len(secret))
	if err != nil {
		panic(err) // 32 bytes are never too many
	}
	defer clear(out)
	return [32]byte(out)
}
