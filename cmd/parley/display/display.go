// Package display makes text that other people wrote safe to print. Everything
// from a peer or a rendezvous goes through it before it reaches a terminal or a
// log: it cannot move the cursor, turn the rest of the line around, or pass for
// something we printed.
//
// It must not be used for what is stored, sent or compared: it changes text.
package display

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/unicode/bidi"
)

// maxMarks is how many combining marks a character may carry. Real scripts
// need four or five.
const maxMarks = 6

// Isolates (Unicode Standard Annex 9): what stands between them cannot change
// the direction of what stands around them.
const (
	firstStrongIsolate    = '\u2068'
	popDirectionalIsolate = '\u2069'
)

// Clean returns s as one safe line: line breaks and tabs become spaces.
func Clean(s string) string {
	var out strings.Builder
	for i, line := range lines(s) {
		if i > 0 {
			out.WriteByte(' ')
		}
		out.WriteString(cleanLine(line))
	}
	return out.String()
}

// CleanLines returns s with its line breaks, each as "\n" and every line safe.
// Whoever prints it indents what follows the first line, so that a line of a
// message cannot pass for another message.
func CleanLines(s string) string {
	all := lines(s)
	for i := range all {
		all[i] = cleanLine(all[i])
	}
	return strings.Join(all, "\n")
}

var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n", "\v", "\n", "\f", "\n", "\u0085", "\n", "\u2028", "\n", "\u2029", "\n")

func lines(s string) []string { return strings.Split(lineBreaks.Replace(s), "\n") }

func cleanLine(line string) string {
	var out strings.Builder
	marks := maxMarks // a mark at the start would sit on what we print before it
	rightToLeft := false
	for _, r := range line {
		switch {
		case r == '\t':
			r = ' '
		case dropped(r):
			continue
		}
		if unicode.In(r, unicode.Mn, unicode.Me) {
			if marks++; marks > maxMarks {
				continue
			}
		} else if !joiner(r) { // or joiners would let marks pile up without end
			marks = 0
		}
		rightToLeft = rightToLeft || turns(r)
		out.WriteRune(r) // utf8.RuneError where the line was not UTF-8
	}
	if rightToLeft {
		return string(firstStrongIsolate) + out.String() + string(popDirectionalIsolate)
	}
	return out.String()
}

// dropped tells whether r is a control or an invisible format character: all
// of C0, C1, the bidirectional overrides, embeddings, isolates and marks, byte
// order marks and tags. Joiners stay, for Indic scripts and emoji, and so do
// the visible signs that Unicode counts as formats.
func dropped(r rune) bool {
	if joiner(r) || unicode.Is(unicode.Prepended_Concatenation_Mark, r) {
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf)
}

func joiner(r rune) bool { return r == '\u200c' || r == '\u200d' }

// turns tells whether r is of a script written from right to left.
func turns(r rune) bool {
	if r < utf8.RuneSelf {
		return false
	}
	p, _ := bidi.LookupRune(r)
	switch p.Class() {
	case bidi.R, bidi.AL, bidi.AN:
		return true
	}
	return false
}

// JSON escapes the characters of encoded JSON that a terminal could obey. It
// stays the same JSON: outside of strings these characters do not occur.
func JSON(encoded []byte) []byte {
	out := make([]byte, 0, len(encoded))
	for _, r := range string(encoded) {
		if r >= utf8.RuneSelf && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == 0x7f {
			out = appendEscape(out, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}

func appendEscape(out []byte, r rune) []byte {
	if hi, lo := utf16.EncodeRune(r); hi != unicode.ReplacementChar {
		return fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
	}
	return fmt.Appendf(out, `\u%04x`, r)
}
