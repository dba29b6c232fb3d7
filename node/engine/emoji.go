package engine

import (
	"unicode"
	"unicode/utf8"
)

// maxEmoji is the length of a reaction, in bytes: the longest emoji there are have 35.
const maxEmoji = 40

// oneEmoji tells whether s is one emoji by itself, as far as that can be told without
// a table of all there are: symbols, with what modifies and joins them.
func oneEmoji(s string) bool {
	if s == "" || len(s) > maxEmoji || !utf8.ValidString(s) {
		return false
	}
	rest := []rune(s)
	for {
		n := emojiElement(rest)
		if n == 0 {
			return false
		}
		if rest = rest[n:]; len(rest) == 0 {
			return true
		}
		if rest[0] != zeroWidthJoiner {
			return false
		}
		rest = rest[1:]
	}
}

const (
	zeroWidthJoiner = '\u200d'
	emojiStyle      = '\ufe0f'
	keycap          = '\u20e3'
)

// emojiElement returns how many runes the first element of an emoji takes: a flag of
// two letters, a keycap, or a symbol with its modifiers; 0 if it begins with none.
func emojiElement(r []rune) int {
	switch {
	case len(r) == 0:
		return 0
	case isRegional(r[0]):
		if len(r) > 1 && isRegional(r[1]) {
			return 2
		}
		return 0
	case r[0] == '#' || r[0] == '*' || r[0] >= '0' && r[0] <= '9':
		n := 1
		if len(r) > n && r[n] == emojiStyle {
			n++
		}
		if len(r) > n && r[n] == keycap {
			return n + 1
		}
		return 0
	case !isSymbol(r[0]):
		return 0
	}
	n := 1
	for n < len(r) && (r[n] == emojiStyle || isSkinTone(r[n]) || isTag(r[n])) {
		n++
	}
	return n
}

func isRegional(r rune) bool { return r >= 0x1f1e6 && r <= 0x1f1ff }
func isSkinTone(r rune) bool { return r >= 0x1f3fb && r <= 0x1f3ff }
func isTag(r rune) bool      { return r >= 0xe0020 && r <= 0xe007f }

// isSymbol: of what came into Unicode after this program only the planes are known.
func isSymbol(r rune) bool {
	switch {
	case r == '©' || r == '®' || r == '‼' || r == '⁉' || r == '〰' || r == '〽':
		return true
	case r >= 0x1f000 && r <= 0x1faff:
		return !unicode.IsLetter(r)
	}
	return r >= 0x2000 && unicode.In(r, unicode.So, unicode.Sm)
}
