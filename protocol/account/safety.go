package account

import (
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/parley-chat/parley/protocol"
)

const (
	safetyVersion = 1
	safetyRounds  = 5200
)

// SafetyNumber is what two people compare to be sure that no one sits between
// them: 60 digits in 12 groups of 5, the same computed from either side. It
// changes only if an account or a unique name changes, not with devices. It
// takes a few milliseconds (after libsignal's fingerprint; SPEC "Safety
// number").
func SafetyNumber(a, b protocol.AccountID, nameA, nameB string) string {
	halves := [][]string{safetyHalf(a, nameA), safetyHalf(b, nameB)}
	slices.SortFunc(halves, slices.Compare)
	return strings.Join(slices.Concat(halves...), " ")
}

// safetyHalf is one account's six groups of five digits.
func safetyHalf(id protocol.AccountID, name string) []string {
	first := binary.BigEndian.AppendUint16(nil, safetyVersion)
	first = append(first, id[:]...)
	first = append(first, name...)
	sum := sha512.Sum512(first)
	for range safetyRounds - 1 {
		sum = sha512.Sum512(append(sum[:], id[:]...))
	}
	groups := make([]string, 6)
	for i := range groups {
		var b [8]byte
		copy(b[3:], sum[i*5:i*5+5])
		groups[i] = fmt.Sprintf("%05d", binary.BigEndian.Uint64(b[:])%100000)
	}
	return groups
}
