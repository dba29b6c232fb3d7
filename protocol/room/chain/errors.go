package chain

// Cause says why a chain or a message was not made, taken or opened. It is for
// the local device only.
type Cause uint8

const (
	Malformed     Cause = 1 // not of this room and device, or it contradicts its chain
	Replayed      Cause = 2 // opened before, given up, or its key is gone
	NoChain       Cause = 3 // its chain did not come yet: keep the message and try again when one comes
	Undecryptable Cause = 4 // its device sealed it with another key than its chain's
	TooLarge      Cause = 5 // the message would be over protocol.MaxEnvelope
	Ended         Cause = 6 // the own chain is over: start the next
)

// Error is the type of every error of a Sender, a Receiver or a Distribution.
type Error struct{ Cause Cause }

var (
	ErrMalformed = &Error{Malformed}
	ErrReplay    = &Error{Replayed}
	ErrNoChain   = &Error{NoChain}
	ErrDecrypt   = &Error{Undecryptable}
	ErrTooLarge  = &Error{TooLarge}
	ErrEnded     = &Error{Ended}
)

var causeText = map[Cause]string{
	Malformed:     "not of this sender in this room",
	Replayed:      "message already opened",
	NoChain:       "the sender's key for this message has not come yet",
	Undecryptable: "message does not decrypt",
	TooLarge:      "message too large",
	Ended:         "a new chain is due",
}

func (c Cause) String() string { return causeText[c] }

func (e *Error) Error() string { return e.Cause.String() }
