package store

import (
	"context"

	"github.com/parley-chat/parley/protocol"
)

// Log is the directory log (protocol/directory): one entry for each account that
// is registered and for each longer chain, in order, and the hashes of the tree
// over them.
//
// Rules: Register and SetChain write the entry, its hashes and the size of the
// log in their own transaction; nothing of a log is ever changed or removed, so
// what two calls return fits together up to the smaller size.
type Log interface {
	// LogSize returns how many entries there are.
	LogSize(ctx context.Context) (uint64, error)

	// LogHashes returns the hashes at these places of the tree, numbered as by
	// tlog.StoredHashIndex. ErrNotFound for one that the log has not reached.
	LogHashes(ctx context.Context, indexes []int64) ([][32]byte, error)

	// LogLeaves returns the entries from number from on, at most max; none from
	// the end on.
	LogLeaves(ctx context.Context, from uint64, max int) ([]Leaf, error)
}

// Leaf is one entry of the log. It is encoded as directory.Leaf.
type Leaf struct {
	Label   [32]byte // RegisterParams.Label
	Account protocol.AccountID
	Seq     uint64   // Account.ChainSeq
	Head    [32]byte // Account.ChainHead
}
