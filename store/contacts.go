package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"slices"

	"github.com/parley-chat/parley/protocol"
)

// Contacts are the allow lists.
//
// Rule: a list is replaced as a whole, by its owner only.
type Contacts interface {
	// SetContacts replaces the owner's list; order and repeats do not matter.
	// TooLarge above protocol.MaxContacts.
	SetContacts(ctx context.Context, owner protocol.AccountID, accounts []protocol.AccountID) error

	// ContactsDigest returns ContactsDigest of the owner's list, so that a node
	// need not send a list that is already here.
	ContactsDigest(ctx context.Context, owner protocol.AccountID) ([32]byte, error)

	// Allows tells whether other is on owner's list.
	Allows(ctx context.Context, owner, other protocol.AccountID) (bool, error)

	// Watchers lists, by id, the accounts that have account on their list and
	// are on account's list: those who may see its presence.
	Watchers(ctx context.Context, account protocol.AccountID) ([]protocol.AccountID, error)
}

// ContactsDigest is the SHA-256 of the accounts of a list, sorted, each once.
func ContactsDigest(accounts []protocol.AccountID) [32]byte {
	h := sha256.New()
	for _, a := range SortAccounts(accounts) {
		h.Write(a[:])
	}
	return [32]byte(h.Sum(nil))
}

// SortAccounts returns a sorted copy with each account once.
func SortAccounts(accounts []protocol.AccountID) []protocol.AccountID {
	sorted := slices.Clone(accounts)
	slices.SortFunc(sorted, func(a, b protocol.AccountID) int { return bytes.Compare(a[:], b[:]) })
	return slices.Compact(sorted)
}
