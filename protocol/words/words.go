// Package words writes bits as English words and reads them back: three words
// that make a code short, eight that let a person compare two screens, and the
// twenty-four that are an account's recovery key on paper.
//
// The words are those of BIP 39, eleven bits each; no two of them begin with
// the same four letters. The package keeps nothing and must not choose bits:
// whoever wants a secret brings the randomness.
package words

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/tyler-smith/go-bip39/wordlists"
)

const (
	// Bits is how many bits one word holds.
	Bits = 11
	// RecoveryCount is how many words a recovery key has: 256 bits and 8 bits of
	// checksum.
	RecoveryCount = 24
	// SeedSize is the length in bytes of what recovery words spell.
	SeedSize = 32

	enough  = 4   // letters of a word that tell it from all others
	maxText = 512 // bytes of text that is read; the longest 24 words have 215
)

var (
	// ErrCount is returned for too few or too many words.
	ErrCount = errors.New("wrong number of words")
	// ErrChecksum is returned for words that are all in the list but do not
	// belong together: one is another word of the list, or two changed places.
	ErrChecksum = errors.New("these words do not belong together: one is wrong, or their order is")
)

// Unknown is returned for a word that is not in the list. Its text names the
// word, for the person who typed it; logged, it only tells the place.
type Unknown struct {
	Number int    // of the word, from 1
	Word   string // as it was typed, in lower case, letters only
}

func (u *Unknown) Error() string {
	return fmt.Sprintf("word %d, %q, is not in the list of words", u.Number, u.Word)
}

// LogValue hides the word.
func (u *Unknown) LogValue() slog.Value {
	return slog.StringValue(fmt.Sprintf("word %d is not in the list of words", u.Number))
}

// byFour finds a word of the list by its first four letters, or all if it has
// three.
var byFour = func() map[string]int {
	m := make(map[string]int, len(wordlists.English))
	for i, w := range wordlists.English {
		m[w[:min(enough, len(w))]] = i
	}
	return m
}()

// find returns the place in the list of a word in lower case, of which at
// least four letters are there.
func find(typed string) (int, bool) {
	i, ok := byFour[typed[:min(enough, len(typed))]]
	return i, ok && strings.HasPrefix(wordlists.English[i], typed)
}

// Complete returns the word of the list that a person meant who typed text:
// the word or at least its first four letters, in any case.
func Complete(text string) (word string, ok bool) {
	i, ok := find(strings.ToLower(strings.TrimSpace(text)))
	if !ok {
		return "", false
	}
	return wordlists.English[i], true
}

// Spell returns n words for the first 11·n bits of b, which must have them.
func Spell(b []byte, n int) []string {
	spelled := make([]string, n)
	for i := range spelled {
		at := 0
		for k := range Bits {
			bit := i*Bits + k
			at = at<<1 | int(b[bit/8]>>(7-bit%8)&1)
		}
		spelled[i] = wordlists.English[at]
	}
	return spelled
}

// Read returns the bits of text that has exactly n words, the last byte filled
// up with zeros. Between words there may be anything that is no letter; each
// may be cut to four letters or more, and have capitals. The error is, or
// wraps, ErrCount or *Unknown. The caller owns the result.
func Read(text string, n int) ([]byte, error) {
	if len(text) > maxText {
		return nil, fmt.Errorf("%w: the text is too long", ErrCount)
	}
	typed := strings.FieldsFunc(strings.ToLower(text), notLetter)
	if len(typed) != n {
		return nil, fmt.Errorf("%w: %d, want %d", ErrCount, len(typed), n)
	}
	b := make([]byte, (n*Bits+7)/8)
	for i, w := range typed {
		at, ok := find(w)
		if !ok {
			clear(b)
			return nil, &Unknown{Number: i + 1, Word: w}
		}
		for k := range Bits {
			bit := i*Bits + k
			b[bit/8] |= byte(at>>(Bits-1-k)&1) << (7 - bit%8)
		}
	}
	return b, nil
}

// notLetter tells what separates words. Letters of other alphabets stay in the
// word, so that the error shows it whole.
func notLetter(r rune) bool { return r < 0x80 && (r < 'a' || r > 'z') }

// Recovery returns the 24 words of a 32-byte seed: its bits and the first 8
// bits of its SHA-256 (BIP 39).
func Recovery(seed []byte) ([]string, error) {
	if len(seed) != SeedSize {
		return nil, fmt.Errorf("recovery words for %d bytes, want %d", len(seed), SeedSize)
	}
	sum := sha256.Sum256(seed)
	b := append(append(make([]byte, 0, SeedSize+1), seed...), sum[0])
	defer clear(b)
	return Spell(b, RecoveryCount), nil
}

// ParseRecovery returns the 32-byte seed of recovery words, read as by Read.
// The error is, or wraps, ErrCount, *Unknown or ErrChecksum. The caller owns
// the seed.
func ParseRecovery(text string) ([]byte, error) {
	b, err := Read(text, RecoveryCount)
	if err != nil {
		return nil, err
	}
	seed, check := b[:SeedSize:SeedSize], b[SeedSize]
	if sum := sha256.Sum256(seed); sum[0] != check {
		clear(b)
		return nil, ErrChecksum
	}
	return seed, nil
}
