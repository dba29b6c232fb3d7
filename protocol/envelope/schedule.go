package envelope

import (
	"crypto/hkdf"
	"crypto/sha256"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

const (
	labelOpen     = "open"
	labelRSA      = "open rsa"
	labelPrecheck = "precheck"
	labelSession  = "session"
)

// Secrets is what both sides hold after an opening.
type Secrets struct {
	key.Redacted
	Root    key.Hidden[[32]byte] // first root key of the ratchet
	AD      [32]byte             // bound into every message of the session
	Session protocol.SessionID
}

// schedule is the key schedule of an opening up to the point where the secret
// inside the RSA ciphertext is needed.
type schedule struct {
	t        [32]byte
	prk1     []byte
	precheck [precheckSize]byte
}

// newSchedule derives PRK1 and the precheck. A stranger cannot: DH1 needs the
// initiator's identity key or the private half of the signed prekey.
func newSchedule(t [32]byte, dh, shared []byte) (schedule, error) {
	ikm := slices.Repeat([]byte{0xff}, 32) // keeps these inputs apart from any other use of the curve (X3DH)
	ikm = slices.Concat(ikm, dh, shared)
	defer clear(ikm)
	prk1, err := hkdf.Extract(sha256.New, ikm, make([]byte, 32))
	if err != nil {
		return schedule{}, err
	}
	check, err := hkdf.Expand(sha256.New, prk1, key.Label(labelPrecheck)+string(t[:]), precheckSize)
	if err != nil {
		return schedule{}, err
	}
	return schedule{t: t, prk1: prk1, precheck: [precheckSize]byte(check)}, nil
}

// secrets mixes in the secret r of the RSA leg and derives the session.
func (k schedule) secrets(r []byte) (Secrets, error) {
	prk2, err := hkdf.Extract(sha256.New, r, k.prk1)
	if err != nil {
		return Secrets{}, err
	}
	out, err := hkdf.Expand(sha256.New, prk2, key.Label(labelSession)+string(k.t[:]), 32+32+16)
	if err != nil {
		return Secrets{}, err
	}
	defer clear(out)
	root := [32]byte(out)
	return Secrets{Root: key.Hide(&root), AD: [32]byte(out[32:]), Session: protocol.SessionID(out[64:])}, nil
}
