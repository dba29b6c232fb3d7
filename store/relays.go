package store

import (
	"context"
	"time"
)

// Relays are the relays that run alone and that the operator has approved.
//
// Rule: at most protocol.MaxRelays.
type Relays interface {
	// AddRelay approves a relay. One that is approved already stays as it is.
	// Refusals: BadRequest (a malformed peer id), TooLarge (there are
	// protocol.MaxRelays).
	AddRelay(ctx context.Context, r Relay) error

	// RemoveRelay takes the approval back; ErrNotFound if there is none.
	RemoveRelay(ctx context.Context, peerID []byte, now time.Time) error

	// Relays lists the approved ones, by peer id.
	Relays(ctx context.Context) ([]Relay, error)
}

// Relay is an approved relay.
type Relay struct {
	Peer  []byte // libp2p peer id, 1 to 64 bytes
	Added time.Time
}
