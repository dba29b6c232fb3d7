package file

import (
	"crypto/subtle"
	"fmt"
	"strings"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
)

// MaxType is how many bytes the media type of a file has at most.
const MaxType = 100

// Descriptor is what a message says of a file: what it is called, and all that it
// takes to know its pieces and to open them. Whoever has it can read the file.
type Descriptor struct {
	key.Redacted
	ID         protocol.FileID
	Key        Key
	Salt       [saltSize]byte
	Commitment [commitmentSize]byte // to Key, Salt and ID
	Size       int64                // bytes of the file, at most MaxSize
	List       Hash                 // of the list of pieces and the commitment: it names one content
	Inline     List                 // that list, if it has at most MaxInline pieces; else nil

	Name      string // as CleanName leaves it; of a folder, the folder's
	Type      string // media type without parameters, as its author says; empty: not told
	Folder    bool   // the file is an archive (tar) of a folder
	Thumbnail []byte // JPEG as CheckThumbnail wants it; empty: none
}

// Validate tells whether the descriptor is one that others take.
func (d *Descriptor) Validate() error {
	if err := checkSize(d.Size); err != nil {
		return err
	}
	if d.Name != CleanName(d.Name) {
		return fmt.Errorf("%w: a name that is not clean", ErrMalformed)
	}
	if !validType(d.Type) {
		return fmt.Errorf("%w: media type", ErrMalformed)
	}
	if len(d.Thumbnail) > 0 {
		if err := CheckThumbnail(d.Thumbnail); err != nil {
			return err
		}
	}
	if inline := PieceCount(d.Size) <= MaxInline; inline != (d.Inline != nil) {
		return fmt.Errorf("%w: list of %d pieces in the descriptor of a file of %d bytes", ErrMalformed, len(d.Inline), d.Size)
	}
	if d.Inline != nil {
		if err := d.CheckList(d.Inline); err != nil {
			return err
		}
	}
	_, err := d.derive()
	return err
}

// CheckList tells whether this is the list of the file.
func (d *Descriptor) CheckList(l List) error {
	if err := checkSize(d.Size); err != nil {
		return err
	}
	if len(l) != PieceCount(d.Size) || l.Hash(d.Commitment) != d.List {
		return fmt.Errorf("%w: another list than that of the file", ErrMalformed)
	}
	return nil
}

// derive checks the commitment before anything is opened.
func (d *Descriptor) derive() (chunks, error) {
	c, commitment, err := derive(d.Key, d.Salt, context(d.ID))
	if err != nil {
		return chunks{}, err
	}
	if subtle.ConstantTimeCompare(commitment[:], d.Commitment[:]) != 1 {
		return chunks{}, fmt.Errorf("%w: it names another key", ErrMalformed)
	}
	return c, nil
}

// Wire returns the descriptor as messages carry it.
func (d *Descriptor) Wire() *wire.File {
	return &wire.File{
		Id: d.ID[:], Key: d.Key.Bytes(), Salt: d.Salt[:], Commitment: d.Commitment[:],
		Size: uint64(d.Size), List: d.List[:], Pieces: d.Inline.Bytes(),
		Name: d.Name, Type: d.Type, Folder: d.Folder, Thumbnail: d.Thumbnail,
	}
}

// FromWire reads a descriptor that somebody sent. What is for show only is made good:
// the name is cleaned, and a media type or a thumbnail that is none is left out.
// Everything else must be right.
func FromWire(w *wire.File) (*Descriptor, error) {
	id, err := protocol.FromBytes[protocol.FileID](w.GetId())
	if err != nil {
		return nil, fmt.Errorf("%w: id: %w", ErrMalformed, err)
	}
	k, err := ParseKey(w.GetKey())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if len(w.GetSalt()) != saltSize || len(w.GetCommitment()) != commitmentSize || len(w.GetList()) != len(Hash{}) || w.GetSize() > MaxSize {
		return nil, fmt.Errorf("%w: length of a field, or size", ErrMalformed)
	}
	d := &Descriptor{
		ID: id, Key: k, Salt: [saltSize]byte(w.GetSalt()), Commitment: [commitmentSize]byte(w.GetCommitment()),
		Size: int64(w.GetSize()), List: Hash(w.GetList()), Name: CleanName(w.GetName()), Folder: w.GetFolder(),
	}
	if len(w.GetPieces()) > 0 {
		if d.Inline, err = ParseList(w.GetPieces(), d.Size); err != nil {
			return nil, err
		}
	}
	if validType(w.GetType()) {
		d.Type = w.GetType()
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	if CheckThumbnail(w.GetThumbnail()) == nil {
		d.Thumbnail = w.GetThumbnail()
	}
	return d, nil
}

// validType takes two words of RFC 6838 with a slash between them, in lower case.
func validType(s string) bool {
	if s == "" {
		return true
	}
	kind, sub, ok := strings.Cut(s, "/")
	return ok && len(s) <= MaxType && validWord(kind) && validWord(sub)
}

func validWord(s string) bool {
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$&-^_.+", rune(c)) {
			return false
		}
	}
	return s != ""
}
