package file

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

var (
	// ErrMalformed is returned for what cannot be a file, a list, a descriptor or a
	// piece, whatever the keys.
	ErrMalformed = errors.New("malformed file")

	// ErrChanged is returned for a piece of the file that is not what it was when the
	// file was first sealed.
	ErrChanged = errors.New("the file has changed")

	// ErrWrongPiece is returned for bytes that are not the sealed piece they should be:
	// who gave them lied, or they were damaged. Another source may have the right ones.
	ErrWrongPiece = errors.New("not this piece of the file")

	// ErrUnreadable is returned for a piece that is the right one and does not open:
	// whoever described the file made it so. No source can help.
	ErrUnreadable = errors.New("the file cannot be opened with its key")
)

// Sealer seals a file for the first time. It is safe for parallel use, and not copied.
type Sealer struct {
	key.Redacted
	id         protocol.FileID
	key        Key
	salt       [saltSize]byte
	commitment [commitmentSize]byte
	chunks     chunks

	mu     sync.Mutex
	sealed []byte // a bit for each piece that was sealed, grown as needed
}

// New returns the Sealer of a new file: its id, its key and its salt are random.
func New() *Sealer {
	var secret [keySize]byte
	s := &Sealer{key: Key{secret: key.Hide(&secret)}}
	rand.Read(secret[:]) // crashes the program rather than fail
	rand.Read(s.id[:])
	rand.Read(s.salt[:])
	var err error
	if s.chunks, s.commitment, err = derive(s.key, s.salt, context(s.id)); err != nil {
		panic(err) // 32 bytes are always a key
	}
	return s
}

// Seal seals piece k: PieceSize bytes of the file, or fewer if it is the last one. The
// result is in the memory of piece, and over what is behind it, if its capacity is
// SealedPieceSize, else in memory of its own; piece is lost in any case.
//
// No piece is sealed twice: other bytes under the same key and nonce give both away, and
// the key of the tags with them. A file that may have changed in between is sealed anew
// with another Sealer, or, once its list is known, with Pieces.
func (s *Sealer) Seal(k int, piece []byte) ([]byte, error) {
	if k < 0 || k >= MaxPieces || len(piece) > PieceSize {
		return nil, fmt.Errorf("%w: piece %d of %d bytes", ErrMalformed, k, len(piece))
	}
	if !s.first(k) {
		return nil, fmt.Errorf("piece %d was sealed before: another file needs another key", k)
	}
	return s.chunks.seal(k, piece), nil
}

// first tells whether piece k was not sealed before; from now on it was.
func (s *Sealer) first(k int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, bit := k/8, byte(1)<<(k%8)
	if grow := at + 1 - len(s.sealed); grow > 0 {
		s.sealed = append(s.sealed, make([]byte, grow)...)
	}
	first := s.sealed[at]&bit == 0
	s.sealed[at] |= bit
	return first
}

// Describe returns the descriptor of the file, after all of its pieces were sealed.
// The name is cleaned. The caller may add Type, Folder and Thumbnail.
func (s *Sealer) Describe(name string, size int64, l List) (*Descriptor, error) {
	d := &Descriptor{
		ID: s.id, Key: s.key, Salt: s.salt, Commitment: s.commitment,
		Size: size, List: l.Hash(s.commitment), Name: CleanName(name),
	}
	if len(l) <= MaxInline {
		d.Inline = slices.Clone(l)
	}
	if err := d.CheckList(l); err != nil {
		return nil, err
	}
	return d, nil
}

// Pieces seals and opens the pieces of a file whose list is known. It is safe for
// parallel use.
type Pieces struct {
	key.Redacted
	size   int64
	list   List
	chunks chunks
}

// Pieces returns what opens the pieces of the file, and seals them again. The list is
// that of the descriptor, which it keeps and never changes: Inline, or one that
// CheckList finds good.
func (d *Descriptor) Pieces(l List) (*Pieces, error) {
	if err := d.CheckList(l); err != nil {
		return nil, err
	}
	c, err := d.derive()
	if err != nil {
		return nil, err
	}
	return &Pieces{size: d.Size, list: l, chunks: c}, nil
}

// Seal seals piece k of the file again. It returns ErrChanged, and no sealed byte, if
// that does not give what the list says: sealed bytes of two contents of a file must
// never leave the device. The result is in the memory of piece, and over what is behind
// it, if its capacity is SealedPieceSize, else in memory of its own; piece is lost in any
// case.
func (p *Pieces) Seal(k int, piece []byte) ([]byte, error) {
	if k < 0 || k >= len(p.list) {
		return nil, fmt.Errorf("%w: piece %d of %d", ErrMalformed, k, len(p.list))
	}
	if len(piece) != PlainLen(p.size, k) {
		return nil, fmt.Errorf("piece %d: %w", k, ErrChanged)
	}
	sealed := p.chunks.seal(k, piece)
	if !p.list.Holds(k, sealed) {
		clear(sealed)
		return nil, fmt.Errorf("piece %d: %w", k, ErrChanged)
	}
	return sealed, nil
}

// Open opens piece k in the memory of sealed. Bytes that the list does not name are
// left as they were; a listed piece that does not open is cleared.
func (p *Pieces) Open(k int, sealed []byte) ([]byte, error) {
	if k < 0 || k >= len(p.list) {
		return nil, fmt.Errorf("%w: piece %d of %d", ErrMalformed, k, len(p.list))
	}
	if len(sealed) != SealedLen(p.size, k) || !p.list.Holds(k, sealed) {
		return nil, fmt.Errorf("piece %d: %w", k, ErrWrongPiece)
	}
	piece, err := p.chunks.open(k, sealed)
	if err != nil {
		return nil, fmt.Errorf("piece %d: %w", k, err)
	}
	return piece, nil
}
