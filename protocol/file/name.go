package file

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// MaxName is how many bytes a name has at most. A file system takes 255: there is
	// room for " (2)" and the like.
	MaxName = 200

	maxExtension = 20   // bytes, with the dot; what is longer is no extension
	maxRaw       = 4096 // bytes at the end of a name that are looked at
	noName       = "file"
)

// CleanName makes a name that somebody chose one that any folder of any system can
// take, and that shows what it is: without directories, controls, invisible characters
// and those that turn text around, not hidden, not an option of a command, not reserved
// nor obeyed on Windows, of 1 to MaxName bytes of UTF-8. A clean name stays as it is.
func CleanName(s string) string {
	s = strings.TrimRight(s, `/\`)
	s = s[strings.LastIndexAny(s, `/\`)+1:]
	s = cleanRunes(s[max(len(s)-maxRaw, 0):])
	if s == "" {
		return noName
	}
	if strings.ContainsRune(".-~+@", rune(s[0])) { // hidden, an option, a home, a list of options
		s = "_" + s[1:]
	}
	if reserved(s) {
		s = "_" + s
	}
	s = shorten(s)
	if obeyed(s) {
		dot := strings.LastIndexByte(s, '.')
		s = s[:dot] + "_" + s[dot+1:]
	}
	return s
}

// cleanRunes drops what is not seen, writes every run of white space as one space, and
// what Windows reserves, and what means nothing, as "_". Nothing of it is at the ends, nor a
// dot at the last.
func cleanRunes(s string) string {
	var out strings.Builder
	space := false
	for _, r := range s {
		if unicode.Is(blank, r) {
			space = out.Len() > 0
			continue
		}
		if unicode.Is(unseen, r) {
			continue
		}
		if strings.ContainsRune(`<>:"|?*`, r) || r == utf8.RuneError || unassignable(r) {
			r = '_'
		}
		if space {
			out.WriteByte(' ')
			space = false
		}
		out.WriteRune(r)
	}
	return strings.TrimRight(out.String(), ". ")
}

// unassignable tells of what Unicode will never give a meaning: private use, where some
// systems hide what they reserve, and noncharacters, which some do not store.
func unassignable(r rune) bool {
	return r >= 0xe000 && r <= 0xf8ff || r >= 0xf0000 || r >= 0xfdd0 && r <= 0xfdef || r&0xfffe == 0xfffe
}

// shorten cuts a name to MaxName bytes before its extension.
func shorten(s string) string {
	if len(s) <= MaxName {
		return s
	}
	extension := ""
	if dot := strings.LastIndexByte(s, '.'); len(s)-dot <= maxExtension {
		s, extension = s[:dot], s[dot:]
	}
	end := MaxName - len(extension)
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return strings.TrimRight(s[:end], ". ") + extension
}

// reserved tells whether Windows takes the name for a device, which it does whatever
// stands behind the first dot.
func reserved(s string) bool {
	stem, _, _ := strings.Cut(s, ".")
	stem = strings.ToUpper(strings.TrimRight(stem, " "))
	switch stem {
	case "CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$":
		return true
	}
	number, ok := strings.CutPrefix(stem, "COM")
	if !ok {
		number, ok = strings.CutPrefix(stem, "LPT")
	}
	return ok && utf8.RuneCountInString(number) == 1 && strings.Contains("0123456789¹²³", number)
}

// obeyed tells whether Windows does what is in a file as soon as its folder is looked at,
// or takes a folder for something else.
func obeyed(s string) bool {
	s = strings.ToLower(s)
	switch s {
	case "desktop.ini", "thumbs.db", "autorun.inf":
		return true
	}
	dot := strings.LastIndexByte(s, '.')
	if dot < 0 {
		return false
	}
	switch extension := s[dot+1:]; extension {
	case "lnk", "url", "scf", "library-ms", "searchconnector-ms":
		return true
	default:
		return strings.HasPrefix(extension, "{")
	}
}

// The tables are written out, since those of package unicode change with releases.

// blank is what a file manager shows as nothing but width, and what ends a line.
var blank = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0009, Hi: 0x000d, Stride: 1},
		{Lo: 0x0020, Hi: 0x0020, Stride: 1},
		{Lo: 0x0085, Hi: 0x0085, Stride: 1},
		{Lo: 0x00a0, Hi: 0x00a0, Stride: 1},
		{Lo: 0x1680, Hi: 0x1680, Stride: 1},
		{Lo: 0x2000, Hi: 0x200a, Stride: 1},
		{Lo: 0x2028, Hi: 0x2029, Stride: 1},
		{Lo: 0x202f, Hi: 0x202f, Stride: 1},
		{Lo: 0x205f, Hi: 0x205f, Stride: 1},
		{Lo: 0x2800, Hi: 0x2800, Stride: 1},
		{Lo: 0x3000, Hi: 0x3000, Stride: 1},
	},
	LatinOffset: 4,
}

// unseen is all controls, and Default_Ignorable_Code_Point of Unicode 16: joiners,
// marks of direction, fillers, selectors, tags.
var unseen = &unicode.RangeTable{
	R16: []unicode.Range16{
		{Lo: 0x0000, Hi: 0x001f, Stride: 1},
		{Lo: 0x007f, Hi: 0x009f, Stride: 1},
		{Lo: 0x00ad, Hi: 0x00ad, Stride: 1},
		{Lo: 0x034f, Hi: 0x034f, Stride: 1},
		{Lo: 0x061c, Hi: 0x061c, Stride: 1},
		{Lo: 0x115f, Hi: 0x1160, Stride: 1},
		{Lo: 0x17b4, Hi: 0x17b5, Stride: 1},
		{Lo: 0x180b, Hi: 0x180f, Stride: 1},
		{Lo: 0x200b, Hi: 0x200f, Stride: 1},
		{Lo: 0x202a, Hi: 0x202e, Stride: 1},
		{Lo: 0x2060, Hi: 0x206f, Stride: 1},
		{Lo: 0x3164, Hi: 0x3164, Stride: 1},
		{Lo: 0xfe00, Hi: 0xfe0f, Stride: 1},
		{Lo: 0xfeff, Hi: 0xfeff, Stride: 1},
		{Lo: 0xffa0, Hi: 0xffa0, Stride: 1},
		{Lo: 0xfff0, Hi: 0xfffb, Stride: 1},
	},
	R32: []unicode.Range32{
		{Lo: 0x1bca0, Hi: 0x1bca3, Stride: 1},
		{Lo: 0x1d173, Hi: 0x1d17a, Stride: 1},
		{Lo: 0xe0000, Hi: 0xe0fff, Stride: 1},
	},
	LatinOffset: 3,
}
