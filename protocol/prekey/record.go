// Package prekey holds the public keys a device publishes so that others can
// open sessions with it while it is away, and their private halves.
//
// A record is named by the hash of its bytes: the same id is always the same
// key. The package must not store, publish or count anything.
package prekey

import (
	"crypto/mlkem"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// Kind tells the two kinds of prekeys apart.
type Kind uint8

const (
	// Signed prekeys live for weeks, open any number of sessions, and name the
	// device's RSA key.
	Signed Kind = 1
	// OneTime prekeys open one session each.
	OneTime Kind = 2
)

// Life of a prekey. A private half is kept for as long as an opening made with
// the published half can still arrive, and a day more: Keep >= Expires +
// protocol.MailboxTTL + 24 h. A signed prekey is published from its creation
// until Expires.
const (
	SignedEvery    = 7 * 24 * time.Hour  // rotation
	SignedExpires  = 14 * 24 * time.Hour // after creation nobody may open with it
	SignedKeep     = 29 * 24 * time.Hour // after creation the private half is destroyed
	OneTimeExpires = 30 * 24 * time.Hour
	OneTimeKeep    = 45 * 24 * time.Hour
)

var (
	// ErrMalformed is returned for bytes that are not the canonical encoding
	// of a record or a pair.
	ErrMalformed = errors.New("malformed prekey")
	// ErrExpired is returned for a record past its Expires.
	ErrExpired = errors.New("prekey expired")
)

const (
	labelPrekey = "prekey"

	recordVersion = 1
	oneTimeBody   = 2 + 1 + 8 + 8 + 32 + mlkem.EncapsulationKeySize768
	signedBody    = oneTimeBody + 32
)

// SignedSize and OneTimeSize are the lengths in bytes of encoded records.
const (
	SignedSize  = signedBody + key.SignatureSize
	OneTimeSize = oneTimeBody + key.SignatureSize
)

// Record is a published prekey: two public keys signed together by the
// device's signing key (SPEC "Prekey record"). Times are whole seconds. Only
// NewSigned, NewOneTime and Parse make valid ones. Records are comparable.
type Record struct {
	Kind             Kind
	Created, Expires time.Time
	X25519           [32]byte
	MLKEM            [mlkem.EncapsulationKeySize768]byte
	RSAHash          [32]byte // key.RSAPublic.Hash of the device's RSA key; Signed only

	sig [key.SignatureSize]byte
}

// body is the record without its signature.
func (r Record) body() []byte {
	b := make([]byte, 0, SignedSize)
	b = binary.BigEndian.AppendUint16(b, recordVersion)
	b = append(b, byte(r.Kind))
	b = key.AppendTime(b, r.Created)
	b = key.AppendTime(b, r.Expires)
	b = append(b, r.X25519[:]...)
	b = append(b, r.MLKEM[:]...)
	if r.Kind == Signed {
		b = append(b, r.RSAHash[:]...)
	}
	return b
}

// ID names the record: the first 16 bytes of the SHA-256 of everything but the
// signature.
func (r Record) ID() protocol.PrekeyID {
	sum := sha256.Sum256(r.body())
	return protocol.PrekeyID(sum[:16])
}

// Marshal returns the encoded record: SignedSize or OneTimeSize bytes. The
// caller owns it.
func (r Record) Marshal() []byte { return append(r.body(), r.sig[:]...) }

// Parse reads an encoded record. It checks the form only; see Verify.
func Parse(b []byte) (Record, error) {
	in := key.NewReader(b)
	version := in.Uint16()
	r := Record{Kind: Kind(in.Byte()), Created: in.Time(), Expires: in.Time()}
	copy(r.X25519[:], in.Take(len(r.X25519)))
	copy(r.MLKEM[:], in.Take(len(r.MLKEM)))
	if r.Kind == Signed {
		copy(r.RSAHash[:], in.Take(len(r.RSAHash)))
	}
	copy(r.sig[:], in.Take(len(r.sig)))
	if err := in.End(); err != nil {
		return Record{}, fmt.Errorf("%w: record %v", ErrMalformed, err)
	}
	if version != recordVersion || r.Kind != Signed && r.Kind != OneTime {
		return Record{}, fmt.Errorf("%w: version or kind", ErrMalformed)
	}
	if !key.GoodX25519(r.X25519) {
		return Record{}, fmt.Errorf("%w: X25519 key", ErrMalformed)
	}
	if err := r.checkLife(); err != nil {
		return Record{}, err
	}
	return r, nil
}

// checkLife bounds the life of a record: one that lived longer could be used
// after its private half was destroyed.
func (r Record) checkLife() error {
	longest := OneTimeExpires
	if r.Kind == Signed {
		longest = SignedExpires
	}
	life := r.Expires.Unix() - r.Created.Unix()
	if !key.ValidTime(r.Created) || !key.ValidTime(r.Expires) || life <= 0 || life > int64(longest/time.Second) {
		return fmt.Errorf("%w: life of %d s", ErrMalformed, life)
	}
	return nil
}

// Verify checks that the device with this id and signing key made the record,
// and that the lattice key is well formed. It does not look at the time.
func (r Record) Verify(dev protocol.DeviceID, dsk key.DevicePublic) error {
	if err := dsk.Verify(labelPrekey, r.sig[:], dev[:], r.body()); err != nil {
		return fmt.Errorf("prekey %v: %w", r.ID(), err)
	}
	if _, err := mlkem.NewEncapsulationKey768(r.MLKEM[:]); err != nil {
		return fmt.Errorf("prekey %v: %w: %v", r.ID(), ErrMalformed, err)
	}
	return nil
}

// CheckTime returns ErrExpired if nobody may open a session with the record at
// now any more.
func (r Record) CheckTime(now time.Time) error {
	if now.After(r.Expires) {
		return ErrExpired
	}
	return nil
}

// KeepUntil is when the private half is to be destroyed, used or not.
func (r Record) KeepUntil() time.Time {
	if r.Kind == Signed {
		return r.Created.Add(SignedKeep)
	}
	return r.Created.Add(OneTimeKeep)
}
