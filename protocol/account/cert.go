// Package account holds what makes a device part of an account: device
// certificates, the signed chain of statements they live in, and the safety
// number two people compare.
//
// It only checks and builds bytes: it must not fetch, store or trust anything
// but the signatures, and it never reads a clock.
package account

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

var (
	// ErrMalformed is returned for bytes that are not the canonical encoding
	// of a valid certificate or chain.
	ErrMalformed = errors.New("malformed")
	// ErrExpired is returned for a certificate past its NotAfter.
	ErrExpired = errors.New("certificate expired")
	// ErrUnknownDevice is returned for a device the account does not certify,
	// or no longer does.
	ErrUnknownDevice = errors.New("device not certified")
	// ErrFull is returned for a statement that would make a chain longer than
	// its signer may. A recovery makes room, as often as protocol.MaxChain
	// allows: four times after the account key filled what it could.
	ErrFull = errors.New("the account takes no more changes by this key")
)

// Labels of what is signed and hashed here (SPEC "Device certificate").
const (
	labelDevice = "device"
	labelCert   = "cert"
)

const (
	certFixed   = 2 + 32 + 32 + 32 + 1 + 2 + 2 + 8 + 8 + 1 + key.SignatureSize // without peer id and name
	certVersion = 1
)

// Cert is a device certificate: the account says which keys a device has.
// Times are whole seconds. Only NewCert and ParseCert make valid ones.
type Cert struct {
	Version            uint16
	Account            protocol.AccountID
	Signing            key.DevicePublic
	Identity           key.IdentityPublic
	PeerID             []byte // libp2p peer ID of an Ed25519 key, 38 bytes
	MinProto, MaxProto uint16
	Created, NotAfter  time.Time
	Name               string // the device's name, at most protocol.MaxDisplay bytes of UTF-8

	sig [key.SignatureSize]byte
}

// NewCert returns c signed by the account's key. It sets Version, and cuts the
// times to seconds.
func NewCert(aik key.AccountPrivate, c Cert) (Cert, error) {
	c.Version = certVersion
	c.PeerID = bytes.Clone(c.PeerID)
	c.Created, c.NotAfter = key.Seconds(c.Created), key.Seconds(c.NotAfter)
	if err := c.check(); err != nil {
		return Cert{}, fmt.Errorf("make certificate: %w", err)
	}
	sig, err := aik.Sign(labelCert, c.body())
	if err != nil {
		return Cert{}, fmt.Errorf("make certificate: %w", err)
	}
	c.sig = [key.SignatureSize]byte(sig)
	return c, nil
}

// check holds for every certificate that can be encoded.
func (c Cert) check() error {
	if c.Version != certVersion {
		return fmt.Errorf("%w: certificate version %d", ErrMalformed, c.Version)
	}
	if _, err := key.ParseDevicePublic(c.Signing.Bytes()); err != nil {
		return fmt.Errorf("%w: certificate: %v", ErrMalformed, err)
	}
	if _, err := key.ParseIdentityPublic(c.Identity.Bytes()); err != nil {
		return fmt.Errorf("%w: certificate: %v", ErrMalformed, err)
	}
	if _, err := key.ParsePeerID(c.PeerID); err != nil {
		return fmt.Errorf("%w: certificate: %v", ErrMalformed, err)
	}
	if c.MinProto == 0 || c.MinProto > c.MaxProto {
		return fmt.Errorf("%w: certificate for protocol versions %d to %d", ErrMalformed, c.MinProto, c.MaxProto)
	}
	if !key.ValidTime(c.Created) || !key.ValidTime(c.NotAfter) || !c.NotAfter.After(c.Created) {
		return fmt.Errorf("%w: times of certificate", ErrMalformed)
	}
	if !validName(c.Name) {
		return fmt.Errorf("%w: device name", ErrMalformed)
	}
	return nil
}

// ValidDeviceName tells whether a certificate may give a device this name.
func ValidDeviceName(name string) bool { return validName(name) }

func validName(name string) bool {
	if len(name) > protocol.MaxDisplay || !utf8.ValidString(name) {
		return false
	}
	for _, r := range name {
		if unicode.Is(invisible, r) {
			return false
		}
	}
	return true
}

// invisible holds what no name may contain: controls, and characters that hide
// or turn text around. It is written out, since the tables of package unicode
// change with releases: two releases would not agree on which chains are valid.
var invisible = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0000, Hi: 0x001f, Stride: 1},
		{Lo: 0x007f, Hi: 0x009f, Stride: 1},
		{Lo: 0x061c, Hi: 0x061c, Stride: 1},
		{Lo: 0x200b, Hi: 0x200f, Stride: 1},
		{Lo: 0x2028, Hi: 0x202e, Stride: 1},
		{Lo: 0x2060, Hi: 0x206f, Stride: 1},
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1},
		{Lo: 0xfff9, Hi: 0xfffb, Stride: 1},
	},
	R32:         []unicode.Range32{{Lo: 0xe0000, Hi: 0xe0fff, Stride: 1}},
	LatinOffset: 2,
}

// Speaks tells that the device is certified to speak a protocol version.
func (c Cert) Speaks(version uint16) bool {
	return c.MinProto <= version && version <= c.MaxProto
}

// DeviceID names the device by its keys (SPEC "Device certificate").
func (c Cert) DeviceID() protocol.DeviceID {
	return key.Hash(labelDevice, c.Account[:], c.Signing.Bytes(), c.Identity.Bytes())
}

// body is the certificate without its signature.
func (c Cert) body() []byte {
	b := make([]byte, 0, certFixed+len(c.PeerID)+len(c.Name))
	b = binary.BigEndian.AppendUint16(b, c.Version)
	b = append(b, c.Account[:]...)
	b = append(b, c.Signing.Bytes()...)
	b = append(b, c.Identity.Bytes()...)
	b = append(b, byte(len(c.PeerID)))
	b = append(b, c.PeerID...)
	b = binary.BigEndian.AppendUint16(b, c.MinProto)
	b = binary.BigEndian.AppendUint16(b, c.MaxProto)
	b = key.AppendTime(b, c.Created)
	b = key.AppendTime(b, c.NotAfter)
	b = append(b, byte(len(c.Name)))
	return append(b, c.Name...)
}

// Marshal returns the encoded certificate, at most protocol.MaxCert bytes. The
// caller owns it.
func (c Cert) Marshal() []byte { return append(c.body(), c.sig[:]...) }

// ParseCert reads an encoded certificate. It checks the form only; see Verify
// and Chain.Check for whether to believe it.
func ParseCert(b []byte) (Cert, error) {
	if len(b) < certFixed || len(b) > protocol.MaxCert {
		return Cert{}, fmt.Errorf("%w: certificate of %d bytes", ErrMalformed, len(b))
	}
	r := key.NewReader(b)
	var c Cert
	c.Version = r.Uint16()
	copy(c.Account[:], r.Take(32))
	signing, err1 := key.ParseDevicePublic(r.Take(32))
	identity, err2 := key.ParseIdentityPublic(r.Take(32))
	c.Signing, c.Identity = signing, identity
	c.PeerID = bytes.Clone(r.Take(int(r.Byte())))
	c.MinProto, c.MaxProto = r.Uint16(), r.Uint16()
	c.Created, c.NotAfter = r.Time(), r.Time()
	c.Name = string(r.Take(int(r.Byte())))
	copy(c.sig[:], r.Take(key.SignatureSize))
	if err := errors.Join(r.End(), err1, err2); err != nil {
		return Cert{}, fmt.Errorf("%w: certificate: %v", ErrMalformed, err)
	}
	if err := c.check(); err != nil {
		return Cert{}, err
	}
	return c, nil
}

// Verify checks that aik signed the certificate and that it is valid at now.
func (c Cert) Verify(aik key.AccountPublic, now time.Time) error {
	if err := c.verifySignature(aik); err != nil {
		return err
	}
	return c.checkTime(now)
}

func (c Cert) verifySignature(aik key.AccountPublic) error {
	if err := aik.Verify(labelCert, c.sig[:], c.body()); err != nil {
		return fmt.Errorf("device certificate: %w", err)
	}
	return nil
}

func (c Cert) checkTime(now time.Time) error {
	if now.After(c.NotAfter) {
		return ErrExpired
	}
	return nil
}

// clone returns c with a PeerID of its own.
func (c Cert) clone() Cert {
	c.PeerID = bytes.Clone(c.PeerID)
	return c
}
