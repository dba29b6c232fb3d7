package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/parley-chat/parley/protocol/key"
)

// MaxEvent is the size of an encoded event in bytes: some texts and MaxKeys ids.
const MaxEvent = 2 << 10

// purposeEvent is what the issuer's identity key signs events for.
const purposeEvent = "key event"

// ErrBadEvent is returned for bytes that are no event signed by the issuer.
var ErrBadEvent = errors.New("not an event of this issuer")

// Event says that the key set of an issuer has changed, and what it is now. It
// is signed with the issuer's identity, which verifiers know beforehand, and
// not with a key of the set: those come and go.
type Event struct {
	Issuer string
	Number uint64            // Set.Number
	Hash   [sha256.Size]byte // Set.Hash
	IDs    []string          // all keys that are left: others are refused from now on
}

// EventOf tells of the set.
func EventOf(s *Set) Event {
	return Event{Issuer: s.Issuer, Number: s.Number, Hash: s.Hash(), IDs: s.IDs()}
}

// Sign encodes the event; sign returns the Ed25519 signature of the issuer's
// identity over its argument.
//
//	lp(issuer) number:8 hash:32 count:1 count × thumbprint:32 signature:64
//
// The signature is over key.Message("key event", all before it).
func (e Event) Sign(sign func([]byte) ([]byte, error)) ([]byte, error) {
	if len(e.IDs) > MaxKeys {
		return nil, fmt.Errorf("sign event: %d keys, at most %d", len(e.IDs), MaxKeys)
	}
	b := key.AppendLP(nil, []byte(e.Issuer))
	b = binary.BigEndian.AppendUint64(b, e.Number)
	b = append(b, e.Hash[:]...)
	b = append(b, byte(len(e.IDs)))
	for _, id := range e.IDs {
		raw, err := text64.DecodeString(id)
		if err != nil || len(raw) != sha256.Size {
			return nil, fmt.Errorf("sign event: %q is no key id", id)
		}
		b = append(b, raw...)
	}
	sig, err := sign(eventMessage(b))
	if err != nil {
		return nil, fmt.Errorf("sign event: %w", err)
	}
	return append(b, sig...), nil
}

// eventMessage is what the signature of an event is over.
func eventMessage(body []byte) []byte { return key.Message(purposeEvent, body) }

// ParseEvent reads an event and checks that issuer's identity signed it.
func ParseEvent(b []byte, issuer string, identity ed25519.PublicKey) (Event, error) {
	body := len(b) - ed25519.SignatureSize
	if len(b) > MaxEvent || body < 0 || len(identity) != ed25519.PublicKeySize {
		return Event{}, fmt.Errorf("%w: %d bytes", ErrBadEvent, len(b))
	}
	if !ed25519.Verify(identity, eventMessage(b[:body]), b[body:]) {
		return Event{}, fmt.Errorf("%w: wrong signature", ErrBadEvent)
	}
	r := key.NewReader(b[:body])
	e := Event{Issuer: string(r.LP()), Number: r.Uint64(), Hash: [sha256.Size]byte(r.Take(sha256.Size))}
	for range r.Byte() {
		e.IDs = append(e.IDs, text64.EncodeToString(r.Take(sha256.Size)))
	}
	if r.End() != nil || e.Issuer != issuer || len(e.IDs) > MaxKeys {
		return Event{}, fmt.Errorf("%w: malformed, or of %q", ErrBadEvent, e.Issuer)
	}
	return e, nil
}
