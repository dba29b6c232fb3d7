package store

import (
	"context"
	"time"

	"github.com/parley-chat/parley/protocol"
)

const (
	// GuestMemory is how long Sweep remembers a guest who is in no room any more, at
	// most; at least it is GuestLook less.
	GuestMemory = 7 * 24 * time.Hour
	// GuestLook is how often Sweep looks whether a guest is in a room.
	GuestLook = 24 * time.Hour
)

// Guests keeps the accounts that were made to visit rooms.
//
// Rules: such an account has no name, no place in the log, one device, and a chain that
// never changes, and that it came is not in the audit journal, which is kept for ever;
// Sweep forgets it and what is kept of its device some days after it left its last room.
// Then it may come again.
type Guests interface {
	// RegisterGuest takes in an account with its device. Repeating it changes
	// nothing, but GuestMemory counts from then on. Refusals: AccountExists for an account
	// that has a name; DeviceExists.
	RegisterGuest(ctx context.Context, p GuestParams) error
}

// GuestParams are what the registration of a guest carries.
type GuestParams struct {
	Account   protocol.AccountID
	Chain     []byte
	ChainSeq  uint64
	ChainHead [32]byte
	Device    NewDevice
	Now       time.Time
}
