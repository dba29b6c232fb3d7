package envelope

import (
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/prekey"
)

// Open derives the session of an opening made for this device, with the
// prekeys the opening names: oneTime is nil if it names none. The caller has
// checked o.Cert against the sender's chain.
//
// The work is ordered by cost: ids, then X25519 and ML-KEM (0.2 ms), then the
// precheck, which only a holder of the sender's identity key can pass, then RSA
// (5 ms). Every failure is ErrOpen; the prekeys must then be kept.
func Open(self Identity, o Opening, signed prekey.Pair, oneTime *prekey.Pair, rsa key.RSAPrivate) (Secrets, error) {
	return opener{self, signed, oneTime, rsa.Public(), rsa.Unwrap}.open(o)
}

// opener is the responder. unwrap is RSA, a field so that a test can count.
type opener struct {
	self    Identity
	signed  prekey.Pair
	oneTime *prekey.Pair
	rsa     key.RSAPublic
	unwrap  func(wrapped, label []byte) ([]byte, error)
}

func (p opener) open(o Opening) (Secrets, error) {
	if !p.addressed(o) || !p.namesOurKeys(o) {
		return Secrets{}, ErrOpen
	}
	k, err := p.schedule(o)
	if err != nil || !equal(k.precheck[:], o.precheck[:]) {
		return Secrets{}, ErrOpen
	}
	r, err := p.unwrap(o.wrapped[:], o.rsaLabel())
	if err != nil || len(r) != 32 {
		return Secrets{}, ErrOpen
	}
	s, err := k.secrets(r)
	clear(r)
	if err != nil || !equal(s.Session[:], o.Session[:]) {
		return Secrets{}, ErrOpen
	}
	return s, nil
}

// addressed tells that the opening goes from another device, which speaks this
// version, to this one.
func (p opener) addressed(o Opening) bool {
	us := p.self.Cert.DeviceID()
	return p.self.sameKeys() && o.Recipient == us && o.Sender != us && o.Sender == o.Cert.DeviceID() && o.Cert.Speaks(protocol.Version)
}

// namesOurKeys tells that the opening was made with the keys we were given,
// each of its kind, and the RSA key is the one the signed prekey names.
func (p opener) namesOurKeys(o Opening) bool {
	r := p.signed.Record
	if r.Kind != prekey.Signed || r.ID() != o.SignedID || r.RSAHash != p.rsa.Hash() {
		return false
	}
	if p.oneTime == nil || !o.HasOneTime {
		return p.oneTime == nil && !o.HasOneTime
	}
	r = p.oneTime.Record
	return r.Kind == prekey.OneTime && r.ID() == o.OneTimeID
}

// schedule does the agreement with X25519 and ML-KEM.
func (p opener) schedule(o Opening) (schedule, error) {
	last, oneTime := p.signed, []byte(nil)
	if p.oneTime != nil {
		last, oneTime = *p.oneTime, p.oneTime.Record.Marshal()
	}
	dh, err := p.responderDH(o)
	if err != nil {
		return schedule{}, err
	}
	shared, err := last.Decapsulate(o.kem[:])
	if err != nil {
		return schedule{}, err
	}
	return newSchedule(o.transcript(p.self.Cert, p.signed.Record.Marshal(), oneTime), dh, shared)
}

// responderDH returns DH1 ‖ DH2 ‖ DH3 ‖ [DH4].
func (p opener) responderDH(o Opening) ([]byte, error) {
	dh1, err := p.signed.DH(o.Cert.Identity.Bytes())
	if err != nil {
		return nil, err
	}
	dh2, err := p.self.Identity.DH(o.EK[:])
	if err != nil {
		return nil, err
	}
	dh3, err := p.signed.DH(o.EK[:])
	if err != nil {
		return nil, err
	}
	out := append(append(dh1, dh2...), dh3...)
	if p.oneTime == nil {
		return out, nil
	}
	dh4, err := p.oneTime.DH(o.EK[:])
	return append(out, dh4...), err
}
