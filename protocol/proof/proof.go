// Package proof holds what a machine shows its rendezvous besides the key of
// its connection: that it holds a device's keys and at which start its store
// is (Hello), that it holds the keys of an account (Fetch), and the digest by
// which both see whether they know the same chains (HeadsDigest).
//
// It only computes. Who may do what with a proof is the rendezvous's business.
package proof

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
)

// The purposes of the signatures (SPEC "Hello", "Fetching a chain").
const (
	purposeHello = "hello"
	purposeFetch = "fetch"
)

// Hello is what a device says about its store at the start of a link.
type Hello struct {
	Device     protocol.DeviceID
	StoreID    [16]byte
	Counter    uint64
	Start      [16]byte // random; new whenever Counter is
	Rendezvous []byte   // peer id of whom it is said to
}

func (h Hello) parts() [][]byte {
	return [][]byte{h.Device[:], h.StoreID[:], binary.BigEndian.AppendUint64(nil, h.Counter), h.Start[:], h.Rendezvous}
}

// Sign returns the 64-byte signature with the device's DSK.
func (h Hello) Sign(dsk key.DevicePrivate) ([]byte, error) {
	return dsk.Sign(purposeHello, h.parts()...)
}

// Verify returns nil if sig is the signature of dsk over h, else an error that
// wraps key.ErrSignature.
func (h Hello) Verify(dsk key.DevicePublic, sig []byte) error {
	return dsk.Verify(purposeHello, sig, h.parts()...)
}

// Fetch asks a rendezvous for the chain of one's own account, by its name or
// by its id: exactly one of Name and Account is set.
type Fetch struct {
	Rendezvous []byte // peer id of whom is asked
	Caller     []byte // peer id of who asks
	Name       string
	Account    []byte // 32 bytes
}

func (f Fetch) parts() [][]byte {
	return [][]byte{f.Rendezvous, f.Caller, []byte(f.Name), f.Account}
}

// Owner is a key that an account is owned by: key.AccountPrivate or
// key.RecoveryPrivate.
type Owner interface {
	key.AccountPrivate | key.RecoveryPrivate
	Sign(purpose string, parts ...[]byte) ([]byte, error)
}

// SignFetch returns the 64-byte signature of f.
func SignFetch[K Owner](k K, f Fetch) ([]byte, error) {
	return k.Sign(purposeFetch, f.parts()...)
}

// Verify returns nil if signer, the 32 bytes of a public key, is the account
// key or the recovery key that chain has in force, and sig is its signature
// over f; else an error that wraps key.ErrSignature.
func (f Fetch) Verify(chain *account.Chain, signer, sig []byte) error {
	switch {
	case bytes.Equal(signer, chain.Signer().Bytes()):
		return chain.Signer().Verify(purposeFetch, sig, f.parts()...)
	case bytes.Equal(signer, chain.Recovery().Bytes()):
		return chain.Recovery().Verify(purposeFetch, sig, f.parts()...)
	}
	return fmt.Errorf("verify fetch: signer is no key in force: %w", key.ErrSignature)
}

// HeadSize is how many bytes of the hash of the newest statement tell two
// chains of one account apart.
const HeadSize = 16

// Head says how far the chain of an account goes.
type Head struct {
	Account protocol.AccountID
	Hash    [HeadSize]byte // of Chain.Head
}

// HeadOf is the head of a chain whose newest statement has this hash.
func HeadOf(id protocol.AccountID, hash [32]byte) Head {
	return Head{Account: id, Hash: [HeadSize]byte(hash[:HeadSize])}
}

// HeadsDigest is SHA-256 over the account and the hash of each head, sorted by
// account. It does not change heads, which names each account once.
func HeadsDigest(heads []Head) [32]byte {
	sorted := slices.Clone(heads)
	slices.SortFunc(sorted, func(a, b Head) int { return bytes.Compare(a.Account[:], b.Account[:]) })
	h := sha256.New()
	for _, head := range sorted {
		h.Write(head.Account[:])
		h.Write(head.Hash[:])
	}
	return [32]byte(h.Sum(nil))
}
