package account

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

func standing(c *Chain) (ids []protocol.DeviceID) {
	for _, cert := range c.Standing() {
		ids = append(ids, cert.DeviceID())
	}
	return ids
}

// Every device that was ever certified either stands or has ended.
func TestStandingAndEnded(t *testing.T) {
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
	if got := c.Ended(); len(got) != 0 || !slices.Equal(standing(c), ids) {
		t.Errorf("nobody was revoked: %v, %v", got, standing(c))
	}
	if got := c.Devices(start.Add(2 * time.Hour)); len(got) != 0 {
		t.Errorf("valid after they expired: %v", got)
	}
	c, err = c.RevokeDevice(start, aik, ids[1], Lost, start)
	check(t, err)
	if got := c.Ended(); !slices.Equal(got, ids[1:2]) || !slices.Equal(standing(c), []protocol.DeviceID{ids[0], ids[2]}) {
		t.Errorf("after a revocation: %v, %v", got, standing(c))
	}
	c, err = c.Close(start, aik)
	check(t, err)
	if got := c.Ended(); !slices.Equal(got, ids) || len(c.Standing()) != 0 {
		t.Errorf("after the end: %v, %v", got, standing(c))
	}
}

// The account key is exposed from a revocation until the key is replaced,
// whoever signs that.
func TestExposed(t *testing.T) {
	o := newOwner(t)
	laptop, phone := o.addDevice(t, "laptop"), o.addDevice(t, "phone")
	rotated, recovered, rk := key.NewAccount(), key.NewAccount(), key.NewRecovery()
	for _, step := range []struct {
		name string
		next func() (*Chain, error)
		want bool
	}{
		{"revoked", func() (*Chain, error) { return o.chain.RevokeDevice(start, o.aik, laptop.DeviceID(), Lost, start) }, true},
		{"new recovery key", func() (*Chain, error) { return o.chain.RotateRK(start, o.rk, rk) }, true},
		{"rotated", func() (*Chain, error) { return o.chain.RotateAIK(start, o.aik, rotated) }, false},
		{"revoked again", func() (*Chain, error) { return o.chain.RevokeDevice(start, rotated, phone.DeviceID(), Lost, start) }, true},
		{"recovered", func() (*Chain, error) { return o.chain.RecoverAIK(start, rk, recovered) }, false},
	} {
		o.then(t)(step.next())
		if reparse(t, o.chain).Exposed() != step.want {
			t.Errorf("%s: exposed %v", step.name, !step.want)
		}
	}
}
