package message

// Cause says why a message was not passed on. The comments say what a validator
// on the room's topic answers: Reject blames who passed it on, Ignore does not.
type Cause uint8

const (
	Malformed Cause = 1 // not a message of this room. Reject
	Future    Cause = 2 // of an epoch the log does not know yet: fetch the log, check once more. Ignore
	Past      Cause = 3 // of an epoch that is over. Ignore
	NotSender Cause = 4 // its device may not send, or may not any more. Ignore
	Forged    Cause = 5 // not signed by its device. Reject
)

// Error is the type of every error about a message.
type Error struct{ Cause Cause }

var (
	ErrMalformed = &Error{Malformed}
	ErrFuture    = &Error{Future}
	ErrPast      = &Error{Past}
	ErrNotSender = &Error{NotSender}
	ErrForged    = &Error{Forged}
)

var causeText = map[Cause]string{
	Malformed: "not a message of this room",
	Future:    "message of an epoch that is not known yet",
	Past:      "message of an epoch that is over",
	NotSender: "the device may not send in this room",
	Forged:    "message not signed by its device",
}

func (c Cause) String() string { return causeText[c] }

func (e *Error) Error() string { return e.Cause.String() }
