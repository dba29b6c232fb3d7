// Package file seals files: Cobblestone-256 of c2sp.org/chunked-encryption, under a
// key of each file's own, cut into pieces whose hashes are listed, and described by
// what a message carries. See SPEC "Files".
//
// A file is sealed in chunks of ChunkSize and travels in pieces of PieceSize. Every
// file ends with a chunk that is not full, if need be an empty one: so a file of
// exactly one piece has a second piece, of nothing. A Sealer seals a file that is new;
// its Descriptor and the List of its pieces' hashes are then all that it takes to open
// the pieces and to seal them again (Pieces).
//
// The package must not read files, and must not put a name that came from somebody
// else in a path: CleanName makes it one that a folder can take.
package file

import "fmt"

// Sizes in bytes.
const (
	ChunkSize       = 16 << 10 // of the file, in a sealed chunk
	TagSize         = 16       // what sealing adds to a chunk
	PieceSize       = 1 << 20  // of the file, in a piece
	SealedPieceSize = PieceSize + chunksPerPiece*TagSize

	MaxSize   = 1 << 40               // of a file
	MaxPieces = MaxSize/PieceSize + 1 // of a file
	MaxInline = 64                    // pieces whose list is in the descriptor itself

	chunksPerPiece  = PieceSize / ChunkSize
	sealedChunkSize = ChunkSize + TagSize
)

// PieceCount tells how many pieces a file of size bytes has: at least one. Size is
// from 0 to MaxSize.
func PieceCount(size int64) int { return int(size/PieceSize) + 1 }

// PlainLen tells how many bytes of a file of size bytes are in piece k, from 0 to
// PieceSize. K is from 0 to PieceCount(size)-1.
func PlainLen(size int64, k int) int {
	return int(min(size-int64(k)*PieceSize, PieceSize))
}

// SealedLen tells how many bytes piece k of a file of size bytes has once it is
// sealed, from TagSize to SealedPieceSize. K is from 0 to PieceCount(size)-1.
func SealedLen(size int64, k int) int { return sealedLen(PlainLen(size, k)) }

// SealedSize tells how many bytes all sealed pieces of a file of size bytes have.
func SealedSize(size int64) int64 { return size + (size/ChunkSize+1)*TagSize }

func sealedLen(plain int) int { return plain + chunksIn(plain)*TagSize }

// chunksIn tells how many chunks a piece has that holds n bytes of the file. Only a
// full piece, which is not the last, ends with a full chunk.
func chunksIn(n int) int {
	if n == PieceSize {
		return chunksPerPiece
	}
	return n/ChunkSize + 1
}

func checkSize(size int64) error {
	if size < 0 || size > MaxSize {
		return fmt.Errorf("%w: a file of %d bytes, at most %d", ErrMalformed, size, int64(MaxSize))
	}
	return nil
}
