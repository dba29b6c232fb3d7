package account

import "github.com/parley-chat/parley/protocol"

// Standing returns the newest certificates of all devices that are certified
// and not revoked, oldest device first, whether they are valid now or not: see
// Devices.
func (c *Chain) Standing() []Cert {
	var certs []Cert
	for _, d := range c.devices {
		if c.live(d) {
			certs = append(certs, d.cert.clone())
		}
	}
	return certs
}

// Ended names all other devices that the chain ever certified, in the same
// order: the revoked ones, or every one when the account ended.
func (c *Chain) Ended() []protocol.DeviceID {
	var ids []protocol.DeviceID
	for _, d := range c.devices {
		if !c.live(d) {
			ids = append(ids, d.id)
		}
	}
	return ids
}
