package account

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

func TestEnded(t *testing.T) {
	aik := key.NewAccount()
	c, err := Create(start, aik, key.NewRecovery().Public())
	check(t, err)
	var ids []protocol.DeviceID
	for range 3 {
		cert, err := NewCert(aik, Cert{
			Account: c.Account(), Signing: key.NewDevice().Public(), Identity: key.NewIdentity().Public(),
			PeerID: key.NewHost().Public().PeerID(), MinProto: 1, MaxProto: 1,
			Created: start, NotAfter: start.Add(time.Hour), Name: "laptop",
		})
		check(t, err)
		c, err = c.AddDevice(start, aik, cert)
		check(t, err)
		ids = append(ids, cert.DeviceID())
	}
	if got := c.Ended(); len(got) != 0 {
		t.Errorf("nobody was revoked: %v", got)
	}
	c, err = c.RevokeDevice(start, aik, ids[1], Lost, start)
	check(t, err)
	if got := c.Ended(); !slices.Equal(got, ids[1:2]) {
		t.Errorf("after a revocation: %v", got)
	}
	c, err = c.Close(start, aik)
	check(t, err)
	if got := c.Ended(); !slices.Equal(got, ids) {
		t.Errorf("after the end: %v", got)
	}
}
