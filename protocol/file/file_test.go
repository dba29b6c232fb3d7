package file

import (
	"bytes"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/wire"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// content is n bytes, the same for the same n.
func content(n int64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n), byte(n >> 8), byte(n >> 16)}).Read(b)
	return b
}

// piece is piece k of a file, in memory that has room for it sealed.
func piece(plain []byte, k int) []byte {
	n := PlainLen(int64(len(plain)), k)
	return append(make([]byte, 0, SealedPieceSize), plain[k*PieceSize:][:n]...)
}

// sealAll seals a whole file.
func sealAll(t testing.TB, plain []byte) (*Descriptor, List, [][]byte) {
	t.Helper()
	s := New()
	var list List
	var pieces [][]byte
	for k := range PieceCount(int64(len(plain))) {
		sealed, err := s.Seal(k, piece(plain, k))
		check(t, err)
		pieces = append(pieces, sealed)
		list = append(list, HashPiece(sealed))
	}
	d, err := s.Describe("report.pdf", int64(len(plain)), list)
	check(t, err)
	return d, list, pieces
}

// sizes are those around which something begins or ends.
var sizes = []int64{0, 1, ChunkSize - 1, ChunkSize, ChunkSize + 1, PieceSize - 1, PieceSize, PieceSize + 1, 2*PieceSize + 3*ChunkSize}

func TestSizes(t *testing.T) {
	for _, c := range []struct {
		size                     int64
		count, plain, sealedLast int
	}{
		{0, 1, 0, 16},
		{1, 1, 1, 17},
		{ChunkSize - 1, 1, ChunkSize - 1, ChunkSize + 15},
		{ChunkSize, 1, ChunkSize, ChunkSize + 32},
		{PieceSize - 1, 1, PieceSize - 1, 1049599},
		{PieceSize, 2, 0, 16},
		{PieceSize + 1, 2, 1, 17},
		{64*PieceSize - 1, 64, PieceSize - 1, 1049599},
		{MaxSize - 1, 1 << 20, PieceSize - 1, 1049599},
		{MaxSize, MaxPieces, 0, 16},
	} {
		last := PieceCount(c.size) - 1
		if last+1 != c.count || PlainLen(c.size, last) != c.plain || SealedLen(c.size, last) != c.sealedLast {
			t.Errorf("%d bytes: %d pieces, the last of %d, sealed %d", c.size, last+1, PlainLen(c.size, last), SealedLen(c.size, last))
		}
		if want := int64(last)*SealedPieceSize + int64(c.sealedLast); SealedSize(c.size) != want {
			t.Errorf("%d bytes: sealed %d, want %d", c.size, SealedSize(c.size), want)
		}
	}
	if longest := MaxPieces * len(Hash{}); SealedPieceSize != 1049600 || longest != 33554464 {
		t.Errorf("sealed piece %d, longest list %d", SealedPieceSize, longest)
	}
}

// What was sealed opens, whatever the size and the order, by what came over the wire,
// and sealing it again gives the same bytes.
func TestFilesOpen(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.OneOf(rapid.SampledFrom(sizes), rapid.Int64Range(0, 3*PieceSize)).Draw(rt, "size")
		plain := content(size)
		d, list, pieces := sealAll(t, plain)
		p := received(t, d, list)
		for _, k := range rapid.Permutation(indices(len(pieces))).Draw(rt, "order") {
			if len(pieces[k]) != SealedLen(size, k) {
				rt.Fatalf("piece %d has %d bytes", k, len(pieces[k]))
			}
			opened, err := p.Open(k, bytes.Clone(pieces[k]))
			if err != nil || !bytes.Equal(opened, piece(plain, k)) {
				rt.Fatalf("piece %d: %v", k, err)
			}
			again, err := p.Seal(k, opened)
			if err != nil || !bytes.Equal(again, pieces[k]) {
				rt.Fatalf("piece %d again: %v", k, err)
			}
		}
	})
}

// received passes a descriptor over the wire, and the list beside it.
func received(t testing.TB, d *Descriptor, l List) *Pieces {
	t.Helper()
	b, err := proto.Marshal(d.Wire())
	check(t, err)
	var w wire.File
	check(t, proto.Unmarshal(b, &w))
	back, err := FromWire(&w)
	check(t, err)
	list, err := ParseList(l.Bytes(), back.Size)
	check(t, err)
	p, err := back.Pieces(list)
	check(t, err)
	return p
}

func indices(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}

// IM-09: one flipped bit, anywhere, and a piece does not open; nor does it when its
// author listed it so.
func TestIM09_FlippedBitFailsClosed(t *testing.T) {
	const size = PieceSize + ChunkSize + 5
	d, list, pieces := sealAll(t, content(size))
	p, err := d.Pieces(list)
	check(t, err)
	for k, sealed := range pieces {
		for range 50 {
			damaged := bytes.Clone(sealed)
			at := rand.IntN(len(damaged))
			damaged[at] ^= 1 << rand.IntN(8)
			before := bytes.Clone(damaged)
			if opened, err := p.Open(k, damaged); !errors.Is(err, ErrWrongPiece) || opened != nil {
				t.Fatalf("piece %d, byte %d: %v", k, at, err)
			}
			if !bytes.Equal(damaged, before) {
				t.Fatalf("piece %d, byte %d: refused, and changed", k, at)
			}
			if opened, err := listed(t, d, list, k, damaged).Open(k, damaged); !errors.Is(err, ErrUnreadable) || opened != nil {
				t.Fatalf("piece %d, byte %d, listed: %v", k, at, err)
			}
			if !bytes.Equal(damaged, make([]byte, len(damaged))) {
				t.Fatalf("piece %d, byte %d: what opened of it stays in memory", k, at)
			}
		}
	}
}

// listed is the file with a list by an author who lies about piece k.
func listed(t testing.TB, d *Descriptor, l List, k int, sealed []byte) *Pieces {
	t.Helper()
	lie := *d
	list := append(List(nil), l...)
	list[k] = HashPiece(sealed)
	lie.List = list.Hash(d.Commitment)
	p, err := lie.Pieces(list)
	check(t, err)
	return p
}

// Pieces in another place, of another length or of another file are none, even if an
// author lists them.
func TestOtherPiecesRefused(t *testing.T) {
	const size = 2*PieceSize + 5
	d, list, pieces := sealAll(t, content(size))
	_, _, others := sealAll(t, content(size))
	short := pieces[0][:SealedPieceSize-sealedChunkSize]
	for name, c := range map[string]struct {
		k      int
		sealed []byte
		listed error
	}{
		"another place":     {0, pieces[1], ErrUnreadable},
		"another file":      {0, others[0], ErrUnreadable},
		"the last, first":   {0, pieces[2], ErrWrongPiece},
		"the first, last":   {2, pieces[0], ErrWrongPiece},
		"a chunk less":      {0, short, ErrWrongPiece},
		"a byte more":       {2, append(bytes.Clone(pieces[2]), 0), ErrWrongPiece},
		"nothing":           {2, nil, ErrWrongPiece},
		"a piece before":    {-1, pieces[0], ErrMalformed},
		"a piece behind it": {3, pieces[0], ErrMalformed},
	} {
		p, err := d.Pieces(list)
		check(t, err)
		if _, err := p.Open(c.k, bytes.Clone(c.sealed)); !errors.Is(err, ErrWrongPiece) && !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
		if c.k >= 0 && c.k < len(list) {
			p = listed(t, d, list, c.k, c.sealed)
		}
		if _, err := p.Open(c.k, bytes.Clone(c.sealed)); !errors.Is(err, c.listed) {
			t.Errorf("%s, listed: %v", name, err)
		}
	}
}

// A file that changed after it was described gives no sealed byte away: not in the
// result, and not in the memory it was sealed in.
func TestChangedFileIsNotSealed(t *testing.T) {
	for _, size := range sizes[1:] {
		plain := content(size)
		d, list, pieces := sealAll(t, plain)
		p, err := d.Pieces(list)
		check(t, err)
		for k := range pieces {
			changed := piece(plain, k)
			if len(changed) == 0 {
				continue
			}
			changed[rand.IntN(len(changed))] ^= 1
			sealed, err := p.Seal(k, changed)
			if !errors.Is(err, ErrChanged) || sealed != nil {
				t.Fatalf("%d bytes, piece %d: %v", size, k, err)
			}
			if memory := changed[:cap(changed)]; !bytes.Equal(memory, make([]byte, len(memory))) {
				t.Fatalf("%d bytes, piece %d: sealed bytes stay in memory", size, k)
			}
			if _, err := p.Seal(k, piece(plain, k)[1:]); !errors.Is(err, ErrChanged) {
				t.Errorf("%d bytes, piece %d, shorter: %v", size, k, err)
			}
		}
		for _, k := range []int{-1, len(list)} {
			if _, err := p.Seal(k, nil); !errors.Is(err, ErrMalformed) {
				t.Errorf("piece %d: %v", k, err)
			}
		}
	}
}

// recorder notes the nonces that are sealed under.
type recorder struct {
	cipher.AEAD
	nonces map[[nonceSize]byte]bool
}

func (r recorder) Seal(dst, nonce, plain, aad []byte) []byte {
	if r.nonces[[nonceSize]byte(nonce)] {
		panic("a nonce repeats")
	}
	r.nonces[[nonceSize]byte(nonce)] = true
	return r.AEAD.Seal(dst, nonce, plain, aad)
}

// IM-09: no nonce repeats within a file, up to its last piece, and no key among files.
func TestIM09_NoncesAndKeysNeverRepeat(t *testing.T) {
	s := New()
	r := recorder{s.chunks.aead, map[[nonceSize]byte]bool{}}
	s.chunks.aead = r
	full := piece(content(PieceSize), 0)
	for _, k := range []int{0, 1, 2, 3, 4, 1023, 1024, 1 << 16, MaxPieces - 2, MaxPieces - 1} {
		_, err := s.Seal(k, bytes.Clone(full))
		check(t, err)
	}
	if len(r.nonces) != 10*chunksPerPiece {
		t.Errorf("%d nonces", len(r.nonces))
	}
	seen := map[string]bool{}
	for range 1000 {
		s := New()
		for _, secret := range [][]byte{s.id[:], s.key.Bytes(), s.salt[:], s.commitment[:], s.chunks.base[:]} {
			if seen[string(secret)] {
				t.Fatal("two files share what is random")
			}
			seen[string(secret)] = true
		}
	}
}

func TestSealRefuses(t *testing.T) {
	s := New()
	for _, k := range []int{5, 0, 64, MaxPieces - 1} {
		_, err := s.Seal(k, []byte("one content"))
		check(t, err)
		if sealed, err := s.Seal(k, []byte("another one")); err == nil || sealed != nil {
			t.Errorf("piece %d is sealed twice under one nonce", k)
		}
	}
	for k, n := range map[int]int{-1: 0, MaxPieces: 0, 1: PieceSize + 1} {
		if _, err := s.Seal(k, make([]byte, n)); !errors.Is(err, ErrMalformed) {
			t.Errorf("piece %d of %d bytes: %v", k, n, err)
		}
	}
	if _, err := s.Describe("x", PieceSize, make(List, 1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a list that is too short: %v", err)
	}
	if _, err := s.Describe("x", MaxSize+1, make(List, MaxPieces)); !errors.Is(err, ErrMalformed) {
		t.Errorf("a file that is too large: %v", err)
	}
}

// The pieces of a file are sealed and opened by many at a time.
func TestParallel(t *testing.T) {
	const size = 7*PieceSize + 5
	plain := content(size)
	d, list, pieces := sealAll(t, plain)
	p, err := d.Pieces(list)
	check(t, err)
	var wg sync.WaitGroup
	for k := range pieces {
		wg.Go(func() {
			sealed, err := p.Seal(k, piece(plain, k))
			if err != nil || !bytes.Equal(sealed, pieces[k]) {
				t.Errorf("seal piece %d: %v", k, err)
			}
		})
		wg.Go(func() {
			opened, err := p.Open(k, bytes.Clone(pieces[k]))
			if err != nil || !bytes.Equal(opened, piece(plain, k)) {
				t.Errorf("open piece %d: %v", k, err)
			}
		})
	}
	wg.Wait()
}

// Sealing and opening need no memory of a piece's size but the caller's.
func TestInPlace(t *testing.T) {
	plain := content(PieceSize)
	d, list, _ := sealAll(t, plain)
	p, err := d.Pieces(list)
	check(t, err)
	buf := piece(plain, 0)
	allocs := testing.AllocsPerRun(10, func() {
		sealed, err := p.Seal(0, buf)
		check(t, err)
		opened, err := p.Open(0, sealed)
		check(t, err)
		if &sealed[0] != &buf[0] || &opened[0] != &buf[0] {
			t.Fatal("moved")
		}
	})
	if allocs > 2 {
		t.Errorf("%v allocations", allocs)
	}
	if sealed, err := New().Seal(0, plain[:100:100]); err != nil || len(sealed) != 116 {
		t.Errorf("without room for the tag: %d bytes, %v", len(sealed), err)
	}
}

// What lies behind a piece in a larger buffer is not written over.
func TestSealKeepsWhatIsBehind(t *testing.T) {
	plain := content(2 * PieceSize)
	buf := bytes.Clone(plain)
	sealed, err := New().Seal(0, buf[:PieceSize])
	check(t, err)
	if len(sealed) != SealedPieceSize || !bytes.Equal(buf[PieceSize:], plain[PieceSize:]) {
		t.Error("the next piece is damaged")
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	d, list, _ := sealAll(t, nil)
	p, err := d.Pieces(list)
	check(t, err)
	s := New()
	var out strings.Builder
	log := slog.New(slog.NewTextHandler(&out, nil))
	for _, v := range []any{d, *d, p, s, d.Key, struct{ D *Descriptor }{d}, struct{ d Descriptor }{*d}} {
		fmt.Fprintf(&out, "%v %+v %#v %s %x", v, v, v, v, v)
		log.Info("file", "v", v)
	}
	for _, secret := range []string{string(d.Key.Bytes()), string(s.key.Bytes())} {
		for _, form := range []string{secret, fmt.Sprintf("%x", secret), strings.Trim(fmt.Sprint([]byte(secret)), "[]")} {
			if strings.Contains(out.String(), form) {
				t.Errorf("a key was printed: %s", out.String())
			}
		}
	}
}
