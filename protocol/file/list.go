package file

import (
	"crypto/sha256"
	"fmt"

	"github.com/parley-chat/parley/protocol/key"
)

// Hash is SHA-256: of a sealed piece, or what List.Hash returns.
type Hash [sha256.Size]byte

// HashPiece returns what the list of a file says of a sealed piece.
func HashPiece(sealed []byte) Hash { return sha256.Sum256(sealed) }

// List holds the hashes of all sealed pieces of a file, in their order. It is no
// secret. Whoever got one from somebody asks the descriptor's CheckList.
type List []Hash

// ParseList reads the list of a file of size bytes: 32 bytes for each piece, 32 MiB for the
// largest file.
func ParseList(b []byte, size int64) (List, error) {
	if err := checkSize(size); err != nil {
		return nil, err
	}
	if want := PieceCount(size) * len(Hash{}); len(b) != want {
		return nil, fmt.Errorf("%w: list of %d bytes, for a file of %d bytes it has %d", ErrMalformed, len(b), size, want)
	}
	l := make(List, 0, PieceCount(size))
	for ; len(b) > 0; b = b[len(Hash{}):] {
		l = append(l, Hash(b))
	}
	return l, nil
}

// Bytes encodes the list.
func (l List) Bytes() []byte {
	b := make([]byte, 0, len(l)*len(Hash{}))
	for i := range l {
		b = append(b, l[i][:]...)
	}
	return b
}

// Hash names the list together with the key that the commitment names, and so one
// content: the same pieces may open with two keys, to two contents.
func (l List) Hash(commitment [commitmentSize]byte) Hash {
	h := sha256.New()
	for i := range l {
		h.Write(l[i][:])
	}
	return key.Hash("file list", commitment[:], h.Sum(nil))
}

// Holds tells whether these are the bytes of sealed piece k.
func (l List) Holds(k int, sealed []byte) bool {
	return k >= 0 && k < len(l) && l[k] == HashPiece(sealed)
}
