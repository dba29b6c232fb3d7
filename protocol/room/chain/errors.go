package chain

import "errors"

// Why a chain or a message was not made, taken or opened: every error of a Sender, a
// Receiver or a Distribution is one of these. They are for the local device only.
var (
	ErrMalformed = errors.New("not of this sender in this room") // or it contradicts its chain
	ErrReplay    = errors.New("message already opened")          // or given up, or its key is gone
	ErrNoChain   = errors.New("the sender's key for this message has not come yet")
	ErrDecrypt   = errors.New("message does not decrypt") // its device sealed it with another key than its chain's
	ErrTooLarge  = errors.New("message too large")        // it would be over protocol.MaxEnvelope
	ErrEnded     = errors.New("a new chain is due")       // the own one is over: start the next
)
