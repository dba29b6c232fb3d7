package protocol

import (
	"math/big"
	"slices"
)

const base58Digits = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

// PeerText is how libp2p writes a peer id: in base58.
func PeerText(b []byte) string {
	var text []byte
	n, base, digit := new(big.Int).SetBytes(b), big.NewInt(58), new(big.Int)
	for n.Sign() > 0 {
		n.DivMod(n, base, digit)
		text = append(text, base58Digits[digit.Int64()])
	}
	for i := 0; i < len(b) && b[i] == 0; i++ {
		text = append(text, base58Digits[0])
	}
	slices.Reverse(text)
	return string(text)
}
