package store

import (
	"context"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// GuestMemory is how long Sweep remembers a guest who is in no room any more, at most;
// at least it is a day less.
const GuestMemory = 7 * 24 * time.Hour

// Guests keeps the accounts that were made to visit rooms.
//
// Rules: such an account has no name, no place in the log, nothing in the audit
// journal, one device, and a chain that never changes; Sweep forgets it and what is
// kept of its device some days after it left its last room. Then it may come again.
type Guests interface {
	// RegisterGuest takes in an account with its device. Repeating it changes
	// nothing, but it is remembered from then on. Refusals: AccountExists for an account that has a
	// name; DeviceExists.
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
