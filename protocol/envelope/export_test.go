package envelope

import (
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/prekey"
)

// Offsets the tests damage.
const (
	OffSession  = offSession
	OffEK       = offEK
	OffKEM      = offKEM
	OffRSA      = offRSA
	OffPrecheck = offPrecheck
	OffCert     = offCert
	HeaderSize  = headerSize
)

// OpenCounting is Open that counts the uses of RSA.
func OpenCounting(self Identity, o Opening, signed prekey.Pair, oneTime *prekey.Pair, rsa key.RSAPrivate, calls *int) (Secrets, error) {
	unwrap := func(wrapped, label []byte) ([]byte, error) {
		*calls++
		return rsa.Unwrap(wrapped, label)
	}
	return opener{self, signed, oneTime, rsa.Public(), unwrap}.open(o)
}

// OpenUnwrapping is Open with RSA that gives r, whatever the ciphertext.
func OpenUnwrapping(self Identity, o Opening, signed prekey.Pair, oneTime *prekey.Pair, rsa key.RSAPublic, r []byte) (Secrets, error) {
	return opener{self, signed, oneTime, rsa, func(_, _ []byte) ([]byte, error) { return r, nil }}.open(o)
}

// SealUnchecked is Seal by somebody who does not keep the rules: self may be a
// certificate with another key.
func SealUnchecked(self Identity, b Bundle, change func(*Opening)) (Opening, Secrets, error) {
	o := Opening{Gen: 1, Sender: self.Cert.DeviceID(), Recipient: b.Cert.DeviceID(), SignedID: b.Signed.ID(), Cert: self.Cert}
	if b.OneTime != nil {
		o.HasOneTime, o.OneTimeID = true, b.OneTime.ID()
	}
	change(&o)
	s, err := o.seal(self, b)
	return o, s, err
}

// Transcript is T, and Precheck what the opening carries.
func (o Opening) Transcript(recipient account.Cert, signed, oneTime []byte) [32]byte {
	return o.transcript(recipient, signed, oneTime)
}

func (o Opening) Precheck() []byte { return o.precheck[:] }
