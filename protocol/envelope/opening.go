// Package envelope opens sessions: RSA-OAEP-4096, X25519 and ML-KEM-768
// together, so that a session stays secret while any one of the three holds.
// It also pads messages, so that their length tells little.
//
// It must not decide whom to trust: the caller checks certificates against the
// account's chain. It must not say why an opening failed: there is one error.
package envelope

import (
	"bytes"
	"crypto/mlkem"
	"crypto/subtle"
	"encoding/binary"
	"errors"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

// ErrOpen is the one error of every opening that is malformed, not for us,
// forged or damaged. It tells nobody which.
var ErrOpen = errors.New("session opening refused")

// First two bytes of what an envelope holds: version and type.
const (
	Version     = 0x01
	TypeMessage = 0x01 // a ratchet message
	TypeOpening = 0x02 // an opening, followed by a ratchet message
)

const (
	flagOneTime = 1 << 0
	flagReset   = 1 << 1

	wrappedSize  = key.RSAPublicSize
	precheckSize = 16
)

// Offsets in an encoded opening (SPEC "Session opening").
const (
	offSession   = 4
	offGen       = 20
	offSender    = 28
	offRecipient = 60
	offSignedID  = 92
	offOneTimeID = 108
	offEK        = 124
	offKEM       = 156
	offRSA       = offKEM + mlkem.CiphertextSize768 // 1244
	offPrecheck  = offRSA + wrappedSize             // 1756
	headerSize   = offPrecheck + precheckSize       // 1772: what is authenticated
	offCert      = headerSize + 2
)

// MaxOpening is the greatest length in bytes of an encoded opening.
const MaxOpening = offCert + protocol.MaxCert

// Opening is the first part of the first envelopes of a session, as read. It
// says who claims to be opening and with which of our prekeys; nothing in it
// is proven until Open succeeds.
type Opening struct {
	Session             protocol.SessionID
	Gen                 uint64 // orders the sessions of two devices; see session.NextGen
	Reset               bool   // the sender lost earlier sessions with us
	HasOneTime          bool
	Sender, Recipient   protocol.DeviceID
	SignedID, OneTimeID protocol.PrekeyID
	EK                  [32]byte // ephemeral X25519 key
	Cert                account.Cert

	kem      [mlkem.CiphertextSize768]byte
	wrapped  [wrappedSize]byte
	precheck [precheckSize]byte
}

// header is the fixed part of the encoding, without the certificate.
func (o Opening) header() []byte {
	h := make([]byte, headerSize, MaxOpening)
	h[0], h[1] = Version, TypeOpening
	if o.HasOneTime {
		h[2] |= flagOneTime
	}
	if o.Reset {
		h[2] |= flagReset
	}
	copy(h[offSession:], o.Session[:])
	binary.BigEndian.PutUint64(h[offGen:], o.Gen)
	copy(h[offSender:], o.Sender[:])
	copy(h[offRecipient:], o.Recipient[:])
	copy(h[offSignedID:], o.SignedID[:])
	copy(h[offOneTimeID:], o.OneTimeID[:])
	copy(h[offEK:], o.EK[:])
	copy(h[offKEM:], o.kem[:])
	copy(h[offRSA:], o.wrapped[:])
	copy(h[offPrecheck:], o.precheck[:])
	return h
}

// Marshal returns the encoded opening. The caller owns it.
func (o Opening) Marshal() []byte {
	cert := o.Cert.Marshal()
	b := binary.BigEndian.AppendUint16(o.header(), uint16(len(cert)))
	return append(b, cert...)
}

// ParseOpening reads the opening at the front of an envelope. Rest is the
// ratchet message behind it, a view into b. It checks the form only.
func ParseOpening(b []byte) (o Opening, rest []byte, err error) {
	if len(b) < offCert || b[0] != Version || b[1] != TypeOpening || b[2]&^(flagOneTime|flagReset) != 0 || b[3] != 0 {
		return Opening{}, nil, ErrOpen
	}
	certSize := int(binary.BigEndian.Uint16(b[headerSize:]))
	if certSize > protocol.MaxCert || len(b) < offCert+certSize {
		return Opening{}, nil, ErrOpen
	}
	cert, err := account.ParseCert(b[offCert : offCert+certSize])
	if err != nil {
		return Opening{}, nil, ErrOpen
	}
	o = Opening{
		Session:    protocol.SessionID(b[offSession:]),
		Gen:        binary.BigEndian.Uint64(b[offGen:]),
		Reset:      b[2]&flagReset != 0,
		HasOneTime: b[2]&flagOneTime != 0,
		Sender:     protocol.DeviceID(b[offSender:]),
		Recipient:  protocol.DeviceID(b[offRecipient:]),
		SignedID:   protocol.PrekeyID(b[offSignedID:]),
		OneTimeID:  protocol.PrekeyID(b[offOneTimeID:]),
		EK:         [32]byte(b[offEK:]),
		Cert:       cert,
		kem:        [mlkem.CiphertextSize768]byte(b[offKEM:]),
		wrapped:    [wrappedSize]byte(b[offRSA:]),
		precheck:   [precheckSize]byte(b[offPrecheck:]),
	}
	if !o.HasOneTime && o.OneTimeID != (protocol.PrekeyID{}) || !key.GoodX25519(o.EK) {
		return Opening{}, nil, ErrOpen
	}
	return o, b[offCert+certSize:], nil
}

// transcript is T: everything both sides must agree on. The session id and the
// precheck come out of it, so they are zero in it.
func (o Opening) transcript(recipient account.Cert, signed, oneTime []byte) [32]byte {
	o.Session = protocol.SessionID{}
	o.precheck = [precheckSize]byte{}
	return key.Hash(labelOpen, o.header(), idcore(o.Cert), idcore(recipient), signed, oneTime)
}

// idcore is what identifies a device and does not change when its certificate
// is renewed.
func idcore(c account.Cert) []byte {
	id := c.DeviceID()
	var b []byte
	for _, x := range [][]byte{c.Account[:], id[:], c.Signing.Bytes(), c.Identity.Bytes(), c.PeerID} {
		b = key.AppendLP(b, x)
	}
	return b
}

// rsaLabel is the OAEP label: it ties the wrapped secret to this opening.
func (o Opening) rsaLabel() []byte {
	return key.Message(labelRSA, o.Sender[:], o.Recipient[:], o.EK[:])
}

func equal(a, b []byte) bool { return subtle.ConstantTimeCompare(a, b) == 1 }

// sameKeys tells that the identity is the one the certificate names.
func (i Identity) sameKeys() bool {
	return bytes.Equal(i.Cert.Identity.Bytes(), i.Identity.Public().Bytes())
}
