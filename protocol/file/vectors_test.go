package file

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"math/big"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vector is one file; byte i of it is i modulo 251.
type vector struct {
	Size       int64         `json:"size"`
	ID         keytest.Hex   `json:"id"`
	Key        keytest.Hex   `json:"key"`
	Salt       keytest.Hex   `json:"salt"`
	Context    keytest.Hex   `json:"context"`
	AEADKey    keytest.Hex   `json:"aead_key"`
	BaseNonce  keytest.Hex   `json:"base_nonce"`
	Commitment keytest.Hex   `json:"commitment"`
	Sealed     keytest.Hex   `json:"sealed,omitempty"` // the only piece, of a small file
	Pieces     []keytest.Hex `json:"pieces"`           // the list
	List       keytest.Hex   `json:"list"`             // its hash, with the commitment
}

// The vectors are made by an implementation of their own, straight from the text of
// the standard, and this package has to agree with them. The standard's own vectors are
// in TestWycheproofCobblestone256.
func TestVectors(t *testing.T) {
	var all []vector
	for _, size := range []int64{0, 1, ChunkSize - 1, ChunkSize, PieceSize - 1, PieceSize, PieceSize + 1, 3*PieceSize + 2*ChunkSize} {
		name := fmt.Sprint("file of ", size)
		v := vector{Size: size, ID: keytest.Seed(name+" id", 16), Key: keytest.Seed(name+" key", 32), Salt: keytest.Seed(name+" salt", 24)}
		sealed := v.seal(t, pattern(size))
		for rest := sealed; len(rest) > 0; {
			n := min(len(rest), 64*16400)
			sum := sha256.Sum256(rest[:n])
			v.Pieces = append(v.Pieces, sum[:])
			rest = rest[n:]
		}
		v.List = v.nameList()
		if size < 32 {
			v.Sealed = sealed
		}
		v.agree(t, sealed)
		all = append(all, v)
	}
	keytest.Golden(t, "files.json", all)
}

func pattern(n int64) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i % 251)
	}
	return b
}

func unhex(all []keytest.Hex) (b [][]byte) {
	for _, h := range all {
		b = append(b, h)
	}
	return b
}

// nameList is H("file list", commitment, SHA-256 of the list).
func (v *vector) nameList() []byte {
	list := sha256.Sum256(bytes.Join(unhex(v.Pieces), nil))
	label := "parley/1 file list"
	b := append(binary.BigEndian.AppendUint32(nil, uint32(len(label))), label...)
	b = append(binary.BigEndian.AppendUint32(b, 32), v.Commitment...)
	b = append(binary.BigEndian.AppendUint32(b, 32), list[:]...)
	sum := sha256.Sum256(b)
	return sum[:]
}

// seal derives what is missing in v and seals a whole file.
func (v *vector) seal(t *testing.T, plain []byte) (sealed []byte) {
	t.Helper()
	label := []byte("parley/1 file")
	v.Context = binary.BigEndian.AppendUint32(nil, uint32(len(label)))
	v.Context = append(v.Context, label...)
	v.Context = binary.BigEndian.AppendUint32(v.Context, 16)
	v.Context = append(v.Context, v.ID...)

	info := append([]byte("c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM"), 0)
	info = append(append(info, v.Salt...), v.Context...)
	var okm, block []byte
	for i := byte(1); len(okm) < 76; i++ { // RFC 5869, 2.3
		mac := hmac.New(sha512.New, v.Key)
		mac.Write(block)
		mac.Write(info)
		mac.Write([]byte{i})
		block = mac.Sum(nil)
		okm = append(okm, block...)
	}
	v.AEADKey, v.BaseNonce, v.Commitment = okm[:32], okm[32:44], okm[44:76]

	aesBlock, err := aes.NewCipher(v.AEADKey)
	check(t, err)
	gcm, err := cipher.NewGCM(aesBlock)
	check(t, err)
	for n := int64(0); ; n++ {
		chunk := plain[:min(len(plain), 16384)]
		plain = plain[len(chunk):]
		nonce := new(big.Int).Xor(new(big.Int).SetBytes(v.BaseNonce), big.NewInt(n)).FillBytes(make([]byte, 12))
		sealed = append(sealed, gcm.Seal(nil, nonce, chunk, nil)...)
		if len(chunk) < 16384 {
			return sealed
		}
	}
}

// agree checks that this package seals and opens what v says.
func (v *vector) agree(t *testing.T, sealed []byte) {
	t.Helper()
	s := &Sealer{id: protocol.FileID(v.ID), salt: [saltSize]byte(v.Salt)}
	var err error
	s.key, err = ParseKey(v.Key)
	check(t, err)
	s.chunks, s.commitment, err = derive(s.key, s.salt, context(s.id))
	check(t, err)
	if !bytes.Equal(context(s.id), v.Context) || !bytes.Equal(s.commitment[:], v.Commitment) || !bytes.Equal(s.chunks.base[:], v.BaseNonce) {
		t.Errorf("%d bytes: derived otherwise", v.Size)
	}
	plain := pattern(v.Size)
	var list List
	var all []byte
	for k := range PieceCount(v.Size) {
		b, err := s.Seal(k, piece(plain, k))
		check(t, err)
		list = append(list, HashPiece(b))
		all = append(all, b...)
	}
	d, err := s.Describe("x", v.Size, list)
	check(t, err)
	if !bytes.Equal(all, sealed) || !bytes.Equal(d.List[:], v.List) {
		t.Errorf("%d bytes: sealed otherwise", v.Size)
	}
	p := received(t, d, list)
	for k := range list {
		opened, err := p.Open(k, sealed[k*SealedPieceSize:][:SealedLen(v.Size, k)])
		if err != nil || !bytes.Equal(opened, piece(plain, k)) {
			t.Errorf("%d bytes, piece %d: %v", v.Size, k, err)
		}
	}
}
