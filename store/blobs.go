package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// BlobName names a blob: a hash of who put it and of its id, so that nobody can take a
// name before the one whose it is.
type BlobName [32]byte

// NameBlob returns the name of the blob that an account puts under an id.
func NameBlob(by protocol.AccountID, id protocol.FileID) BlobName {
	return sha256.Sum256(append(by[:], id[:]...))
}

func (n BlobName) String() string { return hex.EncodeToString(n[:]) }

// Blobs keeps what is known of blobs: bytes that an account put for others to fetch. The
// bytes themselves are not here but in files: see store/blob.
//
// Rules: a blob keeps its size and who may get it; what counts against the quota of an
// account is the whole size, from the beginning on, and changes in the same transaction.
type Blobs interface {
	// PutBlob begins a blob, of which nothing is here yet, and returns it. Of one that
	// has begun and has not expired at now it returns what is known, and changes nothing.
	// Refusals: BadRequest for another size, or others who may get it; BlobFull.
	PutBlob(ctx context.Context, b Blob, q BlobQuotas, now time.Time) (Blob, error)

	// MarkBlob remembers that the first have bytes are durable; UnknownFile if there is
	// no such blob.
	MarkBlob(ctx context.Context, name BlobName, have int64) error

	// Blob returns a blob, or refuses with UnknownFile if there is none or it has expired.
	Blob(ctx context.Context, name BlobName, now time.Time) (Blob, error)

	// TakeBlob remembers that an account needs the blob no more, and deletes the blob
	// once that is true of everybody. A blob that is not known is gone.
	TakeBlob(ctx context.Context, name BlobName, account protocol.AccountID, everybody []protocol.AccountID) (gone bool, err error)

	// DropBlob deletes a blob, if there is one.
	DropBlob(ctx context.Context, name BlobName) error
}

// Blob is what is known of a blob. Either Accounts or Room says who may get it, besides
// the account that put it.
type Blob struct {
	Name     BlobName
	By       protocol.AccountID
	Accounts []protocol.AccountID // sorted, each once
	Room     protocol.RoomID      // its members
	Size     int64                // bytes
	Have     int64                // so many of them, from the start, are durable
	Expires  time.Time
}

// OfRoom tells that the blob is for the members of a room.
func (b Blob) OfRoom() bool { return b.Room != protocol.RoomID{} }

// BlobQuotas bound the blobs of one account. Zero means no limit.
type BlobQuotas struct{ Count, Bytes int }
