package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/store"
)

// PrekeyStatus is the health of our keys, as last heard.
type PrekeyStatus struct {
	Published    int // one-time prekeys at the rendezvous, as it last said
	Cap          int
	Kept         int // one-time prekeys whose private halves are here
	Signed       protocol.PrekeyID
	SignedSince  time.Time // zero: none made yet
	SignedUntil  time.Time // when it expires
	SignedLive   bool      // the rendezvous confirmed it
	RSA          [32]byte  // hash of the newest
	RSASince     time.Time
	RSAWanted    bool // a new one is being made
	LastUpload   time.Time
	LastProblem  string
	LastConflict time.Time
	Fallback     bool   // a session was opened without a one-time prekey since the last rotation
	Fallbacks    int    // how many were
	Held         string // why nothing leaves; "": it does
}

// PrekeyStatus returns the health of our keys.
func (e *Engine) PrekeyStatus(tx store.Tx, now time.Time) (PrekeyStatus, error) {
	k, _, err := load[prekeysRow](tx, store.Key(tablePrekeys))
	if err != nil {
		return PrekeyStatus{}, err
	}
	s := PrekeyStatus{
		Published: int(k.published), Cap: int(k.cap), Kept: int(k.kept), Signed: k.signed, SignedSince: k.signedAt,
		SignedLive: k.signed != (protocol.PrekeyID{}) && k.liveAt.Equal(k.signedAt), RSAWanted: k.rsaWanted,
		LastUpload: k.lastUpload, LastProblem: k.problem, LastConflict: k.conflictAt,
		Fallback: k.fallback, Fallbacks: int(k.fallbacks), Held: k.held(now),
	}
	if !k.signedAt.IsZero() {
		s.SignedUntil = k.signedAt.Add(prekey.SignedExpires)
	}
	rsa, err := e.currentRSA(tx)
	if err != nil {
		return s, err
	}
	s.RSA = rsa.Public().Hash()
	r, _, err := load[rsaRow](tx, keyRSA(s.RSA))
	s.RSASince = r.created
	return s, err
}
