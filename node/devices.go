package node

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Devices returns the devices of this account.
func (n *Node) Devices(ctx context.Context) ([]api.Device, error) {
	own, err := n.ownDevices(ctx)
	if err != nil {
		return nil, answer(err)
	}
	online := n.onlineDevices(ctx)
	list := make([]api.Device, 0, len(own))
	for _, d := range own {
		list = append(list, apiDevice(d, online))
	}
	return list, nil
}

func (n *Node) ownDevices(ctx context.Context) ([]engine.OwnDevice, error) {
	return read(ctx, n.kv, func(tx store.Tx) ([]engine.OwnDevice, error) { return n.eng.OwnDevices(tx, n.now()) })
}

// onlineDevices asks the rendezvous which of our devices are connected there;
// nil if it cannot be asked.
func (n *Node) onlineDevices(ctx context.Context) map[protocol.DeviceID]bool {
	resp, err := n.home.call(ctx, &wire.Request{Call: &wire.Request_Where{Where: &wire.Where{Account: n.self.Account[:]}}})
	if err != nil {
		return nil
	}
	online := map[protocol.DeviceID]bool{}
	for _, p := range resp.GetPlaces().GetPlaces() {
		if id, err := protocol.FromBytes[protocol.DeviceID](p.GetDevice()); err == nil {
			online[id] = p.GetOnline()
		}
	}
	return online
}

func apiDevice(d engine.OwnDevice, online map[protocol.DeviceID]bool) api.Device {
	out := api.Device{
		ID: d.ID.String(), Name: d.Name, This: d.This, PeerID: peer.ID(d.PeerID).String(), Created: d.Created, Until: d.NotAfter,
	}
	if online != nil {
		up := online[d.ID] || d.This
		out.Online = &up
	}
	return out
}

// findDevice finds one of our devices by its name, or by its id or the
// beginning of it.
func (n *Node) findDevice(ctx context.Context, name string) (found engine.OwnDevice, err error) {
	own, err := n.ownDevices(ctx)
	if err != nil {
		return found, err
	}
	matches := 0
	for _, d := range own {
		if d.Name == name || len(name) >= 4 && strings.HasPrefix(d.ID.String(), strings.ToLower(name)) {
			found = d
			matches++
		}
	}
	switch matches {
	case 0:
		return found, &api.Error{Code: api.ErrNotFound, Text: fmt.Sprintf("no device of yours is called %q", name), Hint: "parley device list"}
	case 1:
		return found, nil
	}
	return found, &api.Error{Code: api.ErrConflict, Text: fmt.Sprintf("several devices are called %q", name), Hint: "use the id that parley device list shows"}
}

// RenameDevice gives one of our devices another name, which contacts can see.
func (n *Node) RenameDevice(ctx context.Context, device, name string) (api.Device, error) {
	d, err := n.findDevice(ctx, device)
	if err != nil {
		return api.Device{}, answer(err)
	}
	err = n.changeChain(ctx, func(tx store.Tx) ([]byte, error) { return n.eng.Rename(tx, n.now(), d.ID, name) })
	if err != nil {
		return api.Device{}, answer(err)
	}
	d.Name = name
	return apiDevice(d, nil), nil
}

var reasons = map[string]account.Reason{
	"": account.Lost, "lost": account.Lost, "retired": account.Retired, "compromised": account.Compromised,
}

// RevokeDevice ends one of our other devices for good, and replaces the account
// key, which it has.
func (n *Node) RevokeDevice(ctx context.Context, device, reason string) (api.Device, error) {
	why, ok := reasons[reason]
	if !ok {
		return api.Device{}, &api.Error{Code: api.ErrBadInput, Text: "a reason is retired, lost or compromised"}
	}
	d, err := n.findDevice(ctx, device)
	if err != nil {
		return api.Device{}, answer(err)
	}
	if d.This {
		return api.Device{}, &api.Error{Code: api.ErrBadInput, Text: "this is the device you are using", Hint: "revoke it from another one, or destroy its keys: parley keys burn"}
	}
	err = n.changeChain(ctx, func(tx store.Tx) ([]byte, error) { return n.eng.Revoke(tx, n.now(), d.ID, why) })
	if err != nil {
		return api.Device{}, answer(err)
	}
	return apiDevice(d, nil), nil
}

// chainTries is how often a change of our chain is made again because another
// of our devices was first.
const chainTries = 3

// changeChain makes our statement chain longer: plan makes the longer chain
// (nil: nothing to do) and stores the keys that it names; then the rendezvous
// takes it, and then it is in force here. What the rendezvous took while its
// answer was lost comes back with the next look at our own account.
func (n *Node) changeChain(ctx context.Context, plan func(store.Tx) ([]byte, error)) error {
	n.chainMu.Lock()
	defer n.chainMu.Unlock()
	for tries := 1; ; tries++ {
		var chain []byte
		err := n.kv.Update(ctx, func(tx store.Tx) (err error) {
			chain, err = plan(tx)
			return err
		})
		if err != nil || chain == nil {
			return err
		}
		_, err = n.home.call(ctx, updateChain(chain))
		if protocol.CodeOf(err) == protocol.ChainConflict && tries < chainTries {
			if err := n.lookups.fetch(ctx, n.self.Account); err != nil {
				return fmt.Errorf("fetch our own chain: %w", err)
			}
			continue
		}
		if err != nil {
			return fmt.Errorf("publish the change: %w", err)
		}
		return n.takeChain(ctx, chain)
	}
}

// takeChain puts a longer chain of ours in force.
func (n *Node) takeChain(ctx context.Context, chain []byte) error {
	err := n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.SetOwnChain(tx, n.now(), chain) })
	return errors.Join(err, n.refreshPeers(ctx))
}
