package envelope

import (
	"crypto/ecdh"
	"crypto/mlkem"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/prekey"
)

// Identity is the local device. Cert.Identity must be the public half of
// Identity.
type Identity struct {
	Cert     account.Cert
	Identity key.IdentityPrivate
}

// Bundle is what one needs to open a session with a device.
type Bundle struct {
	Cert    account.Cert // checked by the caller against the account's chain
	Signed  prekey.Record
	RSA     key.RSAPublic
	OneTime *prekey.Record // nil: none was left
}

// Verify checks that the certified device signed the prekeys, that they are of
// the right kinds, not expired at now, and that the signed one names the RSA
// key. It does not check the certificate.
func (b Bundle) Verify(now time.Time) error {
	if !b.Cert.Speaks(protocol.Version) {
		return protocol.Refuse(protocol.UnsupportedVersion, "device speaks %d to %d", b.Cert.MinProto, b.Cert.MaxProto)
	}
	if err := b.verifyRecord(b.Signed, prekey.Signed, now); err != nil {
		return fmt.Errorf("signed prekey: %w", err)
	}
	if b.Signed.RSAHash != b.RSA.Hash() {
		return fmt.Errorf("RSA key is not the one the signed prekey names: %w", key.ErrInvalid)
	}
	if b.OneTime == nil {
		return nil
	}
	if err := b.verifyRecord(*b.OneTime, prekey.OneTime, now); err != nil {
		return fmt.Errorf("one-time prekey: %w", err)
	}
	return nil
}

func (b Bundle) verifyRecord(r prekey.Record, kind prekey.Kind, now time.Time) error {
	if r.Kind != kind {
		return fmt.Errorf("%w: kind %d", prekey.ErrMalformed, r.Kind)
	}
	if err := r.CheckTime(now); err != nil {
		return err
	}
	return r.Verify(b.Cert.DeviceID(), b.Cert.Signing)
}

// Seal makes an opening towards the device of b, which the caller has
// verified. Gen orders the sessions of the two devices; reset says that
// earlier ones are lost. It costs about 0.6 ms.
func Seal(self Identity, b Bundle, gen uint64, reset bool) (opening []byte, s Secrets, err error) {
	o := Opening{Gen: gen, Reset: reset, Sender: self.Cert.DeviceID(), Recipient: b.Cert.DeviceID(),
		SignedID: b.Signed.ID(), Cert: self.Cert}
	if b.OneTime != nil {
		o.HasOneTime, o.OneTimeID = true, b.OneTime.ID()
	}
	if !self.sameKeys() || o.Sender == o.Recipient {
		return nil, Secrets{}, fmt.Errorf("seal opening: %w: certificate of another key, or to ourselves", key.ErrInvalid)
	}
	if s, err = o.seal(self, b); err != nil {
		return nil, Secrets{}, fmt.Errorf("seal opening: %w", err)
	}
	return o.Marshal(), s, nil
}

// seal fills in everything in o that is not a name.
func (o *Opening) seal(self Identity, b Bundle) (Secrets, error) {
	dh, err := o.agree(self, b)
	if err != nil {
		return Secrets{}, err
	}
	shared, err := o.encapsulate(b)
	if err != nil {
		return Secrets{}, err
	}
	var r [32]byte
	rand.Read(r[:]) // crashes the program rather than fail
	defer clear(r[:])
	wrapped, err := b.RSA.Wrap(r[:], o.rsaLabel())
	if err != nil {
		return Secrets{}, err
	}
	o.wrapped = [wrappedSize]byte(wrapped)

	var oneTime []byte
	if b.OneTime != nil {
		oneTime = b.OneTime.Marshal()
	}
	k, err := newSchedule(o.transcript(b.Cert, b.Signed.Marshal(), oneTime), dh, shared)
	if err != nil {
		return Secrets{}, err
	}
	s, err := k.secrets(r[:])
	o.precheck, o.Session = k.precheck, s.Session
	return s, err
}

// agree makes the ephemeral key and returns DH1 ‖ DH2 ‖ DH3 ‖ [DH4].
func (o *Opening) agree(self Identity, b Bundle) ([]byte, error) {
	ephemeral, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	o.EK = [32]byte(ephemeral.PublicKey().Bytes())
	out, err := self.Identity.DH(b.Signed.X25519[:])
	if err != nil {
		return nil, err
	}
	peers := [][]byte{b.Cert.Identity.Bytes(), b.Signed.X25519[:]}
	if b.OneTime != nil {
		peers = append(peers, b.OneTime.X25519[:])
	}
	for _, peer := range peers {
		pub, err := ecdh.X25519().NewPublicKey(peer)
		if err != nil {
			return nil, err
		}
		dh, err := ephemeral.ECDH(pub)
		if err != nil {
			return nil, err
		}
		out = append(out, dh...)
	}
	return out, nil
}

// encapsulate makes an ML-KEM secret for the one-time prekey, or the signed
// one if there is none.
func (o *Opening) encapsulate(b Bundle) ([]byte, error) {
	ek := b.Signed.MLKEM
	if b.OneTime != nil {
		ek = b.OneTime.MLKEM
	}
	k, err := mlkem.NewEncapsulationKey768(ek[:])
	if err != nil {
		return nil, err
	}
	shared, kem := k.Encapsulate()
	o.kem = [mlkem.CiphertextSize768]byte(kem)
	return shared, nil
}
