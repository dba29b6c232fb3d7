// Package directory is the log of a rendezvous: which account a name belongs
// to, and how far each account's statement chain goes. It is a Merkle tree
// (RFC 6962, by golang.org/x/mod/sumdb/tlog) that only grows. The rendezvous
// signs its head; whoever keeps the last head can have it shown that the next
// one continues it, so that the rendezvous can neither take anything back nor
// show two people different keys without both signatures being proof of it.
//
// The package is the formats and their checks: entries (Leaf), signed heads
// (Head, Signer, Log), proofs, what one who asks remembers (View), what one who
// reads all remembers (Fold), and what convicts a rendezvous (Evidence). It
// stores nothing and reads no clock.
package directory

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// MaxSize bounds the entries of a log, MaxProof the hashes of a proof.
const (
	MaxSize  = 1 << 48
	MaxProof = 64
)

var (
	// ErrMalformed is returned for bytes that are no head, entry, proof or
	// evidence.
	ErrMalformed = errors.New("malformed")
	// ErrBadSignature is returned for a head that this log did not sign.
	ErrBadSignature = errors.New("not signed by this log")
	// ErrFork is wrapped by a *Convicted with two heads that no one log can have.
	ErrFork = errors.New("the log was forked")
	// ErrContradiction is wrapped by a *Convicted with two entries that give one
	// name to two accounts, or set an account's chain back.
	ErrContradiction = errors.New("the log contradicts itself")
	// ErrShrunk is returned for a head smaller than the one held.
	ErrShrunk = errors.New("the log shrank")
	// ErrStale is returned for a head whose time is more than MaxAge from now.
	ErrStale = errors.New("the head of the log is out of date")
	// ErrUnproven is returned where a proof does not show what it should.
	ErrUnproven = errors.New("no valid proof")
)

// Log is who signs a log: a rendezvous, by the key that is its libp2p identity.
// The zero Log has signed nothing.
type Log struct {
	origin   string
	host     key.HostPublic
	verifier note.Verifier
}

// NewLog returns the log of the rendezvous with this libp2p peer id. An error
// wraps key.ErrInvalid.
func NewLog(peerID []byte) (Log, error) {
	host, err := key.ParsePeerID(peerID)
	if err != nil {
		return Log{}, fmt.Errorf("log of a rendezvous: %w", err)
	}
	return logOf(host)
}

func logOf(host key.HostPublic) (Log, error) {
	l := Log{origin: "parley/" + protocol.PeerText(host.PeerID()), host: host}
	v, err := note.NewVerifier(l.Key())
	if err != nil {
		return Log{}, fmt.Errorf("log of a rendezvous: %w", err)
	}
	l.verifier = v
	return l, nil
}

// Origin is the name of the log: "parley/" and the peer id as text.
func (l Log) Origin() string { return l.origin }

// Host is the key of the rendezvous.
func (l Log) Host() key.HostPublic { return l.host }

// Key returns the verifier key of the log in the form of signed notes
// (c2sp.org/signed-note): any program for such logs can check its heads.
func (l Log) Key() string {
	text, _ := note.NewEd25519VerifierKey(l.origin, l.host.Bytes()) // fails for other sizes than 32 only
	return text
}

// parseKey reads what Key returned.
func parseKey(text string) (Log, error) {
	parts := strings.SplitN(text, "+", 3) // origin, hash, base64
	b, err := base64.StdEncoding.DecodeString(parts[len(parts)-1])
	if err != nil || len(b) == 0 {
		return Log{}, fmt.Errorf("%w key of a log", ErrMalformed)
	}
	host, err := key.ParseHostPublic(b[1:])
	if err != nil {
		return Log{}, fmt.Errorf("%w key of a log: %w", ErrMalformed, err)
	}
	l, err := logOf(host)
	if err != nil || l.Key() != text {
		return Log{}, fmt.Errorf("%w key of a log", ErrMalformed)
	}
	return l, nil
}

// Proof is the hashes of a proof, in the order of RFC 6962.
type Proof []tlog.Hash

// Bytes returns the hashes one after the other, 32 bytes each.
func (p Proof) Bytes() []byte {
	b := make([]byte, 0, len(p)*tlog.HashSize)
	for _, h := range p {
		b = append(b, h[:]...)
	}
	return b
}

// ParseProof reads what Bytes returned: at most MaxProof hashes. An error wraps
// ErrMalformed.
func ParseProof(b []byte) (Proof, error) {
	if len(b)%tlog.HashSize != 0 || len(b) > MaxProof*tlog.HashSize {
		return nil, fmt.Errorf("%w proof of %d bytes", ErrMalformed, len(b))
	}
	var p Proof
	for part := range slices.Chunk(b, tlog.HashSize) {
		p = append(p, tlog.Hash(part))
	}
	return p, nil
}
