package display

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestClean(t *testing.T) {
	for name, tt := range map[string]struct{ in, want string }{
		"plain":                    {"hello, wörld", "hello, wörld"},
		"empty":                    {"", ""},
		"colour":                   {"\x1b[31mred\x1b[0m", "[31mred[0m"},
		"title":                    {"\x1b]0;pwned\x07ok", "]0;pwnedok"},
		"clipboard":                {"\x1b]52;c;cm0gLXJm\x1b\\", "]52;c;cm0gLXJm\\"},
		"clear screen":             {"a\x1b[2J\x1b[Hb", "a[2J[Hb"},
		"C1 CSI":                   {"a\u009b31mb", "a31mb"},
		"raw C1 byte":              {"a\x9b31mb", "a\ufffd31mb"},
		"bell, backspace, delete":  {"a\x07\x08\x7fb", "ab"},
		"null":                     {"a\x00b", "ab"},
		"carriage return":          {"real\rfake", "real fake"},
		"line breaks":              {"a\nb\r\nc\u2028d\u2029e\u0085f\vg\fh", "a b c d e f g h"},
		"tab":                      {"a\tb", "a b"},
		"override":                 {"invoice\u202egpj.exe", "invoicegpj.exe"},
		"embeddings and isolates":  {"a\u202ab\u202bc\u202cd\u202de\u2066f\u2067g\u2068h\u2069i", "abcdefghi"},
		"marks of direction":       {"a\u200eb\u200fc\u061cd", "abcd"},
		"hebrew":                   {"שלום", "\u2068שלום\u2069"},
		"arabic among latin":       {"hi مرحبا 123", "\u2068hi مرحبا 123\u2069"},
		"arabic digits alone":      {"\u0661", "\u2068\u0661\u2069"},
		"hebrew with own isolates": {"\u2067שלום", "\u2068שלום\u2069"},
		"unclosed isolate":         {"\u2067\u2067\u2067abc", "abc"},
		"zero width space, BOM":    {"a\u200b\ufeffb", "ab"},
		"soft hyphen":              {"a\u00adb", "ab"},
		"tags":                     {"a\U000e0041b", "ab"},
		"joined emoji":             {"👨‍👩‍👧", "👨‍👩‍👧"},
		"emoji with selector":      {"❤️", "❤️"},
		"persian non-joiner":       {"می\u200cخواهم", "\u2068می\u200cخواهم\u2069"},
		"arabic number sign":       {"\u0600", "\u2068\u0600\u2069"},
		"chinese":                  {"你好世界", "你好世界"},
		"thai":                     {"ที่นี่", "ที่นี่"},
		"accent by mark":           {"e\u0301", "e\u0301"},
		"zalgo":                    {"a" + strings.Repeat("\u0301", 100) + "b", "a" + strings.Repeat("\u0301", maxMarks) + "b"},
		"zalgo with joiners":       {"a" + strings.Repeat("\u0301\u200d", 20) + "b", "a" + strings.Repeat("\u0301\u200d", maxMarks) + strings.Repeat("\u200d", 14) + "b"},
		"mark at the start":        {"\u0301\u0308a", "a"},
		"mark after a break":       {"a\n\u0301b", "a b"},
		"not UTF-8":                {"a\xff\xfeb", "a\ufffd\ufffdb"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Clean(tt.in); got != tt.want {
				t.Errorf("%q became %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

func TestCleanLinesKeepsLines(t *testing.T) {
	const in = "one\r\ntwo\x1b[1A\rשלום\n\n"
	const want = "one\ntwo[1A\n\u2068שלום\u2069\n\n"
	if got := CleanLines(in); got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestJSONIsHarmlessAndTheSame(t *testing.T) {
	const in = "a\x1b\u009b\u202e\x7f\u2028\U000e0041é你👨‍👩\"\\"
	encoded, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	safe := JSON(encoded)
	for _, r := range string(safe) {
		if unicode.In(r, unicode.Cc, unicode.Cf) {
			t.Errorf("%U is in %s", r, safe)
		}
	}
	var out string
	if err := json.Unmarshal(safe, &out); err != nil || out != in {
		t.Errorf("%q, %v", out, err)
	}
}

// checkSafe fails if s could do anything but be read.
func checkSafe(t *testing.T, s string) {
	t.Helper()
	if !utf8.ValidString(s) {
		t.Fatalf("%q is not UTF-8", s)
	}
	open := 0
	for _, r := range s {
		switch {
		case joiner(r), unicode.Is(unicode.Prepended_Concatenation_Mark, r):
		case r == firstStrongIsolate:
			open++
		case r == popDirectionalIsolate:
			open--
		case unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp):
			t.Fatalf("%U in %q", r, s)
		}
		if open < 0 || open > 1 {
			t.Fatalf("isolates of %q do not match", s)
		}
	}
	if open != 0 {
		t.Fatalf("isolates of %q do not match", s)
	}
}

func FuzzClean(f *testing.F) {
	for _, seed := range []string{"hello", "\x1b[31m\u202e\u2067שלום\n", "a\u0301\u0301\u200d", "\xff\u009b", "\u2028\r\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		line, block := Clean(s), CleanLines(s)
		checkSafe(t, line)
		for _, l := range strings.Split(block, "\n") {
			checkSafe(t, l)
		}
		if CleanLines(block) != block {
			t.Fatalf("%q changes again to %q", block, CleanLines(block))
		}
		encoded, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var before, after string
		if json.Unmarshal(encoded, &before) != nil || json.Unmarshal(JSON(encoded), &after) != nil || before != after {
			t.Fatalf("%q became %q", before, after)
		}
	})
}
