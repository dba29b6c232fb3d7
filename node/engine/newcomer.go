package engine

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

// Newcomer is a device that no account has certified yet: its own private keys,
// which never leave it, and the id of its store.
type Newcomer struct {
	key.Redacted

	Name string // of the device
	Made time.Time

	DSK     key.DevicePrivate
	DIK     key.IdentityPrivate
	Host    key.HostPrivate
	RSA     key.RSAPrivate
	StoreID [16]byte
}

// NewNewcomer makes the keys of a device. It takes up to seconds (RSA), so call
// it outside of a transaction.
func NewNewcomer(now time.Time, deviceName string) (*Newcomer, error) {
	rsa, err := key.NewRSA()
	if err != nil {
		return nil, fmt.Errorf("make device: %w", err)
	}
	return NewNewcomerWith(now, deviceName, rsa)
}

// NewNewcomerWith is NewNewcomer with an RSA key made before, in a moment.
func NewNewcomerWith(now time.Time, deviceName string, rsa key.RSAPrivate) (*Newcomer, error) {
	if !account.ValidDeviceName(deviceName) {
		return nil, fmt.Errorf("make device: %w", ErrBadDeviceName)
	}
	n := &Newcomer{
		Name: deviceName, Made: now.UTC().Truncate(time.Millisecond),
		DSK: key.NewDevice(), DIK: key.NewIdentity(), Host: key.NewHost(), RSA: rsa,
	}
	rand.Read(n.StoreID[:])
	return n, nil
}

// Request is what an account needs to know of the device to certify it.
func (n *Newcomer) Request() DeviceRequest {
	return DeviceRequest{Signing: n.DSK.Public(), Identity: n.DIK.Public(), PeerID: n.Host.Public().PeerID(), Name: n.Name}
}

// DeviceRequest is the public half of a Newcomer.
type DeviceRequest struct {
	Signing  key.DevicePublic
	Identity key.IdentityPublic
	PeerID   []byte
	Name     string
}

const (
	requestVersion = 1
	requestFixed   = 1 + 32 + 32 + 1 // without peer id and name
	peerIDSize     = 38
)

// Marshal returns the encoded request, at most 166 bytes:
// version u8 ‖ signing key 32 ‖ identity key 32 ‖ peer id 38 ‖ length of the
// name u8 ‖ name.
func (r DeviceRequest) Marshal() []byte {
	b := make([]byte, 0, requestFixed+len(r.PeerID)+len(r.Name))
	b = append(b, requestVersion)
	b = append(b, r.Signing.Bytes()...)
	b = append(b, r.Identity.Bytes()...)
	b = append(b, r.PeerID...)
	b = append(b, byte(len(r.Name)))
	return append(b, r.Name...)
}

// ParseDeviceRequest reads what Marshal wrote; ErrBadRequest for anything else.
// What it returns can be certified, and its name can be shown.
func ParseDeviceRequest(b []byte) (DeviceRequest, error) {
	if len(b) > requestFixed+peerIDSize+protocol.MaxDisplay {
		return DeviceRequest{}, fmt.Errorf("%w: %d bytes", ErrBadRequest, len(b))
	}
	in := key.NewReader(b)
	version := in.Byte()
	signing, err1 := key.ParseDevicePublic(in.Take(32))
	identity, err2 := key.ParseIdentityPublic(in.Take(32))
	peer := bytes.Clone(in.Take(peerIDSize))
	_, err3 := key.ParsePeerID(peer)
	name := string(in.Take(int(in.Byte())))
	for _, err := range []error{in.End(), err1, err2, err3} {
		if err != nil {
			return DeviceRequest{}, fmt.Errorf("%w: %v", ErrBadRequest, err)
		}
	}
	if version != requestVersion || !account.ValidDeviceName(name) {
		return DeviceRequest{}, fmt.Errorf("%w: version or name", ErrBadRequest)
	}
	return DeviceRequest{Signing: signing, Identity: identity, PeerID: peer, Name: name}, nil
}

// Device is the id that the device has in an account.
func (r DeviceRequest) Device(a protocol.AccountID) protocol.DeviceID {
	return deviceID(a, r.Signing, r.Identity)
}

// cert is the certificate for the device, without a signature.
func (r DeviceRequest) cert(now time.Time, a protocol.AccountID) account.Cert {
	return account.Cert{
		Account: a, Signing: r.Signing, Identity: r.Identity, PeerID: r.PeerID,
		MinProto: protocol.Version, MaxProto: protocol.Version,
		Created: now, NotAfter: now.Add(certLife), Name: r.Name,
	}
}

func (n *Newcomer) encode() []byte {
	e := newRow(1 << 10)
	e.string(n.Name)
	e.time(n.Made)
	e.raw(n.StoreID[:])
	for _, k := range [][]byte{n.DSK.Bytes(), n.DIK.Bytes(), n.Host.Bytes(), n.RSA.Bytes()} {
		e.bytes(k)
	}
	return e.b
}

func decodeNewcomer(b []byte) (*Newcomer, error) {
	d := readRow(b)
	n := &Newcomer{Name: d.string(), Made: d.time()}
	d.fixed(n.StoreID[:])
	var errs [4]error
	n.DSK, errs[0] = key.ParseDevice(d.bytes())
	n.DIK, errs[1] = key.ParseIdentity(d.bytes())
	n.Host, errs[2] = key.ParseHost(d.bytes())
	n.RSA, errs[3] = key.ParseRSA(d.bytes())
	for _, err := range errs {
		d.bad = d.bad || err != nil
	}
	return n, d.end("new device")
}
