package file

import "testing"

// The three things that a piece of 1 MiB costs: sealing with the check against the
// list, opening likewise, and the hash that both contain.

func BenchmarkSealPiece(b *testing.B) {
	p, buf := benchPieces(b)
	plain := content(PieceSize)
	b.SetBytes(PieceSize)
	for b.Loop() {
		copy(buf, plain)
		_, err := p.Seal(0, buf[:PieceSize])
		check(b, err)
	}
}

func BenchmarkOpenPiece(b *testing.B) {
	p, buf := benchPieces(b)
	sealed, err := p.Seal(0, append(make([]byte, 0, SealedPieceSize), content(PieceSize)...))
	check(b, err)
	b.SetBytes(PieceSize)
	for b.Loop() {
		copy(buf, sealed)
		_, err := p.Open(0, buf)
		check(b, err)
	}
}

func BenchmarkHashPiece(b *testing.B) {
	_, buf := benchPieces(b)
	b.SetBytes(PieceSize)
	for b.Loop() {
		HashPiece(buf)
	}
}

func benchPieces(b *testing.B) (*Pieces, []byte) {
	d, list, _ := sealAll(b, content(PieceSize))
	p, err := d.Pieces(list)
	check(b, err)
	return p, make([]byte, SealedPieceSize)
}
