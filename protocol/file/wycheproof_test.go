package file

import (
	"bytes"
	"compress/zlib"
	"crypto/sha512"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/parley-chat/parley/protocol/key/keytest"
)

type chunkedCase struct {
	TcID               int
	Comment            string
	Key, Ctx, CT       keytest.Hex
	AEADKey, BaseNonce keytest.Hex
	MsgLength          int64
	MsgSHA512          keytest.Hex
	Result             string
	Flags              []string
}

var errHeader = errors.New("refused before any chunk")

// openMessage opens a whole message of Cobblestone-256 by this package's pieces.
func openMessage(k, context, message []byte) ([]byte, error) {
	secret, err := ParseKey(k)
	if err != nil || len(message) < saltSize+commitmentSize {
		return nil, errHeader
	}
	c, commitment, err := derive(secret, [saltSize]byte(message), context)
	if err != nil || subtle.ConstantTimeCompare(commitment[:], message[saltSize:][:commitmentSize]) != 1 {
		return nil, errHeader
	}
	body := bytes.Clone(message[saltSize+commitmentSize:])
	size := int64(len(body)/sealedChunkSize*ChunkSize + len(body)%sealedChunkSize - TagSize)
	if err := checkSize(size); err != nil {
		return nil, err
	}
	p := &Pieces{size: size, chunks: c}
	var opened []byte
	for k := 0; len(body) > 0 || k == 0; k++ {
		sealed := body[:min(SealedPieceSize, len(body))]
		body = body[len(sealed):]
		p.list = append(p.list, HashPiece(sealed)) // what is tested is what the tags find
		piece, err := p.Open(k, slices.Clip(sealed))
		if err != nil {
			return nil, err
		}
		opened = append(opened, piece...)
	}
	if len(p.list) != PieceCount(size) {
		return nil, ErrWrongPiece
	}
	return opened, nil
}

func TestWycheproofCobblestone256(t *testing.T) {
	b, err := fs.ReadFile(wycheproof.TestVectors, "c2sp_chunked_encryption_aes_256_gcm_test.json")
	check(t, err)
	var v struct {
		TestGroups []struct{ Tests []chunkedCase }
	}
	check(t, json.Unmarshal(b, &v))
	ran := 0
	for _, g := range v.TestGroups {
		for _, c := range g.Tests {
			r, err := zlib.NewReader(bytes.NewReader(c.CT))
			check(t, err)
			message, err := io.ReadAll(r)
			check(t, err)
			opened, err := openMessage(c.Key, c.Ctx, message)
			if (err == nil) != (c.Result == "valid") {
				t.Errorf("test %d, %s: %v", c.TcID, c.Comment, err)
			}
			if slices.Contains(c.Flags, "HeaderFailure") != errors.Is(err, errHeader) {
				t.Errorf("test %d, %s: header: %v", c.TcID, c.Comment, err)
			}
			if err == nil {
				checkMessage(t, c, message, opened)
			}
			ran++
		}
	}
	if ran < 35 {
		t.Errorf("%d tests", ran)
	}
}

// checkMessage checks what was opened, and that sealing it gives the message again.
func checkMessage(t *testing.T, c chunkedCase, message, opened []byte) {
	t.Helper()
	if sum := sha512.Sum512(opened); int64(len(opened)) != c.MsgLength || !bytes.Equal(sum[:], c.MsgSHA512) {
		t.Errorf("test %d: another message, of %d bytes", c.TcID, len(opened))
	}
	secret, err := ParseKey(c.Key)
	check(t, err)
	s := &Sealer{}
	s.chunks, s.commitment, err = derive(secret, [saltSize]byte(message), c.Ctx)
	check(t, err)
	again := append(bytes.Clone(message[:saltSize]), s.commitment[:]...)
	for k := range PieceCount(int64(len(opened))) {
		piece := opened[:PlainLen(int64(len(opened)), 0)]
		opened = opened[len(piece):]
		sealed, err := s.Seal(k, bytes.Clone(piece))
		check(t, err)
		again = append(again, sealed...)
	}
	if !bytes.Equal(again, message) {
		t.Errorf("test %d: sealed otherwise", c.TcID)
	}
}
