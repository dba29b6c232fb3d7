package session

// Cause says why a message was not opened or not made. It is for the local
// device only: what a peer learns is at most that the message was not opened.
type Cause uint8

const (
	Malformed     Cause = 1 // not a ratchet message of this session
	Replayed      Cause = 2 // opened before, or its key expired
	TooFarAhead   Cause = 3 // over protocol.MaxSkip messages ahead
	Undecryptable Cause = 4 // forged, damaged, or one side lost its state
	TooLarge      Cause = 5 // the envelope would be over protocol.MaxEnvelope
	NotReady      Cause = 6 // zero state, responder before the first message, or 2^31 messages in a row
)

// Error is the type of every error of a State.
type Error struct{ Cause Cause }

var (
	ErrMalformed = &Error{Malformed}
	ErrReplay    = &Error{Replayed}
	ErrSkip      = &Error{TooFarAhead}
	ErrDecrypt   = &Error{Undecryptable}
	ErrTooLarge  = &Error{TooLarge}
	ErrNotReady  = &Error{NotReady}
)

var causeText = map[Cause]string{
	Malformed:     "not a message of this session",
	Replayed:      "message already opened",
	TooFarAhead:   "too many messages are missing before this one",
	Undecryptable: "message does not decrypt",
	TooLarge:      "message too large",
	NotReady:      "session not ready",
}

func (c Cause) String() string { return causeText[c] }

func (e *Error) Error() string { return e.Cause.String() }
