package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/store"
)

const maxPeerID = 64 // bytes

func relayKey(peerID []byte) []byte { return store.Key('r', string(peerID)) }

// AddRelay implements store.Relays.
func (s *Store) AddRelay(ctx context.Context, r store.Relay) error {
	if len(r.Peer) == 0 || len(r.Peer) > maxPeerID {
		return protocol.Refuse(protocol.BadRequest, "malformed peer id")
	}
	return s.kv.Update(ctx, func(tx store.Tx) error {
		if _, known, err := get[relayRow](tx, relayKey(r.Peer)); known || err != nil {
			return err
		}
		all, err := relays(tx)
		if err != nil {
			return err
		}
		if len(all) >= protocol.MaxRelays {
			return protocol.Refuse(protocol.TooLarge, "there are %d relays already", len(all))
		}
		return errors.Join(put(tx, relayKey(r.Peer), relayRow(r)), noteRelay(tx, r.Added, audit.Approved, r.Peer))
	})
}

// RemoveRelay implements store.Relays.
func (s *Store) RemoveRelay(ctx context.Context, peerID []byte, now time.Time) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		if _, err := tx.Get(relayKey(peerID)); err != nil {
			return fmt.Errorf("find relay: %w", err)
		}
		return errors.Join(tx.Delete(relayKey(peerID)), noteRelay(tx, now, audit.Removed, peerID))
	})
}

// Relays implements store.Relays.
func (s *Store) Relays(ctx context.Context) (all []store.Relay, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		all, err = relays(tx)
		return err
	})
	return all, err
}

func relays(tx store.Tx) (all []store.Relay, err error) {
	err = scanPrefix(tx, store.Key('r'), func(pair store.Pair) (bool, error) {
		r, err := parse[relayRow](pair.Value)
		all = append(all, store.Relay(r))
		return true, err
	})
	return all, err
}

func noteRelay(tx store.Tx, now time.Time, what audit.Act, peerID []byte) error {
	return note(tx, now, audit.Event{Kind: audit.Relay, What: what, Name: protocol.PeerText(peerID)})
}

// relayRow is an approved relay.
type relayRow store.Relay

func (r *relayRow) encode(w *writer) { w.bytes(r.Peer); w.time(r.Added) }

func (r *relayRow) decode(rd *reader) { r.Peer, r.Added = rd.bytes(), rd.time() }
