package pake

import (
	"crypto/sha512"
	"encoding/binary"

	"github.com/gtank/ristretto255"
)

// Domain separation of the draft.
const (
	dsi        = "CPaceRistretto255"
	dsiISK     = dsi + "_ISK"
	dsiMac     = "CPaceMac"
	dsiSession = "CPaceSidOutput"
)

// generator is G.calculate_generator (section 8.3): the password, as an
// element of the group.
func generator(prs, ci, sid []byte) *ristretto255.Element {
	hash := sha512.Sum512(generatorString(prs, ci, sid))
	defer clear(hash[:])
	g, err := ristretto255.NewIdentityElement().SetUniformBytes(hash[:])
	if err != nil {
		panic(err) // 64 bytes
	}
	return g
}

// generatorString pads so that DSI and PRS fill at least one block of the hash
// (section 8.1).
func generatorString(prs, ci, sid []byte) []byte {
	pad := max(0, sha512.BlockSize-len(prependLen(prs))-len(prependLen([]byte(dsi)))-1)
	return lvCat([]byte(dsi), prs, make([]byte, pad), ci, sid)
}

// lvCat is lv_cat: each string behind its length.
func lvCat(fields ...[]byte) []byte {
	var b []byte
	for _, f := range fields {
		b = append(b, prependLen(f)...)
	}
	return b
}

// prependLen is prepend_len: a string behind its length in LEB128, which is
// what Go calls a uvarint.
func prependLen(s []byte) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(s))), s...)
}
