package account

import "github.com/parley-chat/parley/protocol"

// Ended names the devices that the chain certified once and does no more, in
// order of first appearance: the revoked ones, or all when the account ended.
// A device whose certificate only expired is not among them.
func (c *Chain) Ended() []protocol.DeviceID {
	var ids []protocol.DeviceID
	for _, d := range c.devices {
		if !c.live(d) {
			ids = append(ids, d.id)
		}
	}
	return ids
}
