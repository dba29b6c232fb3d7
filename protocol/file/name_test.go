package file

import (
	"path/filepath"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

func TestCleanName(t *testing.T) {
	long := strings.Repeat("ä", 150)
	for in, want := range map[string]string{
		"report.pdf":                         "report.pdf",
		"Übersicht 2026 (fertig).ods":        "Übersicht 2026 (fertig).ods",
		"写真.jpg":                             "写真.jpg",
		"תמונה.png":                          "תמונה.png",
		"/etc/passwd":                        "passwd",
		"../../x":                            "x",
		`..\..\x.txt`:                        "x.txt",
		`C:\Users\x\y.txt`:                   "y.txt",
		"folder/":                            "folder",
		"":                                   "file",
		".":                                  "file",
		"..":                                 "file",
		"...":                                "file",
		"/":                                  "file",
		" . ":                                "file",
		"\x00\x1b\u202e\u200b":               "file",
		".bashrc":                            "_bashrc",
		"..x":                                "_.x",
		"-rf":                                "_rf",
		"~root":                              "_root",
		"x~":                                 "x~",
		"a\x00b\x1b[31m":                     "ab[31m",
		"\u202egpj.exe":                      "gpj.exe",
		"a\u2066b\u2069\u200d\ufeff.txt":     "ab.txt",
		"x\U000e0041\ufe0f":                  "x",
		"photo.jpg \u00a0\u3000\t\n.exe":     "photo.jpg .exe",
		"  x  y  ":                           "x y",
		"x.txt. . .":                         "x.txt",
		`a<b>c:d"e|f?g*h`:                    "a_b_c_d_e_f_g_h",
		"x:stream":                           "x_stream",
		"bad\xffutf8\ufffd":                  "bad_utf8_",
		"CON":                                "_CON",
		"nul.txt":                            "_nul.txt",
		"Aux .tar.gz":                        "_Aux .tar.gz",
		"com0":                               "_com0",
		"com1.log":                           "_com1.log",
		"LPT³":                               "_LPT³",
		"CONIN$":                             "_CONIN$",
		"com10":                              "com10",
		"com":                                "com",
		"console":                            "console",
		"\u200bcon":                          "_con",
		long + ".tar.gz":                     strings.Repeat("ä", 98) + ".gz",
		long:                                 strings.Repeat("ä", 100),
		"x." + long:                          "x." + strings.Repeat("ä", 99),
		"a" + strings.Repeat(".", 300) + "b": "a.b",
		"CON." + strings.Repeat("a", 196):    "_CON." + strings.Repeat("a", 195),
		"nul" + strings.Repeat(".", 100) + strings.Repeat("b", 97): "_nul" + strings.Repeat(".", 100) + strings.Repeat("b", 96),
		strings.Repeat("x/y", 1<<20) + strings.Repeat("ä", 5000):   strings.Repeat("ä", 100),
		strings.Repeat("\u200b", 5000) + "x":                       "x",
		"+!id":                                                     "_!id",
		"@x":                                                       "_x",
		"a\uf05cb\U000f0000.txt":                                   "a_b_.txt",
		"x\ufdd0\U0001ffff":                                        "x__",
		"desktop.ini":                                              "desktop_ini",
		"Thumbs.DB":                                                "Thumbs_DB",
		"autorun.inf":                                              "autorun_inf",
		"my.desktop.ini":                                           "my.desktop.ini",
		"a.lnk":                                                    "a_lnk",
		"a.b.URL":                                                  "a.b_URL",
		"a.lnk.url":                                                "a.lnk_url",
		"a.scf":                                                    "a_scf",
		"a.library-ms":                                             "a_library-ms",
		"a.searchConnector-ms":                                     "a_searchConnector-ms",
		"a.{21EC2020-3AEA-1069-A2DD-08002B30309D}":                  "a_{21EC2020-3AEA-1069-A2DD-08002B30309D}",
		strings.Repeat("a", 196) + ".lnk" + strings.Repeat("b", 30): strings.Repeat("a", 196) + "_lnk",
		"nul.lnk": "_nul_lnk",
		"lnk":     "lnk",
	} {
		if got := CleanName(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}

// clean checks all that a clean name promises.
func clean(s string) (wrong string) {
	got := CleanName(s)
	stem, _, _ := strings.Cut(got, ".")
	switch {
	case got == "" || len(got) > MaxName || !utf8.ValidString(got):
		return "empty, too long or no UTF-8"
	case got != filepath.Base(got) || !filepath.IsLocal(got) || strings.ContainsAny(got, "/\\\x00<>:\"|?*"):
		return "a path, or reserved"
	case strings.ContainsAny(got[:1], ".-~+@ ") || strings.HasSuffix(got, ".") || strings.HasSuffix(got, " "):
		return "its first or last character"
	case strings.ContainsFunc(got, func(r rune) bool {
		return r != ' ' && (unicode.In(r, unicode.C, unicode.Z) && !unicode.Is(unicode.Cn, r) && !visibleFormat(r))
	}):
		return "something not seen"
	case strings.Contains(got, "  "):
		return "two spaces"
	case reserved(stem):
		return "a device of Windows"
	case obeyed(got):
		return "something that Windows obeys"
	case CleanName(got) != got:
		return "cleaned again it is another"
	}
	return ""
}

// visibleFormat tells of those characters that Unicode counts as formats and that are
// seen: signs of numbers and verses, and of hieroglyphs and shorthand.
func visibleFormat(r rune) bool {
	return unicode.Is(unicode.Prepended_Concatenation_Mark, r) || r >= 0x13430 && r <= 0x1345f
}

func TestCleanNamesAreClean(t *testing.T) {
	odd := rapid.SampledFrom([]rune("./\\ -~:\x00\x1b\u202e\u200b\u00a0\u2066\u2028\ufffdconCON1$äx💡\U000e0041"))
	runs := rapid.Map(rapid.SliceOfN(rapid.Custom(func(t *rapid.T) string { // what repeats reaches the longest name
		part := rapid.SampledFrom([]string{"CON", "nul", "lpt³", ".lnk", ".", " ", "a", "ä", "💡", "\u200b", "/", "-", "\xe2\x80"}).Draw(t, "part")
		return strings.Repeat(part, rapid.SampledFrom([]int{1, 2, 64, 98, 190, 195, 196, 197, 199, 200}).Draw(t, "times"))
	}), 1, 6), func(parts []string) string { return strings.Join(parts, "") })
	names := rapid.OneOf(runs, rapid.String(), rapid.StringOf(odd), rapid.StringOfN(odd, 150, 400, -1),
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }))
	rapid.Check(t, func(t *rapid.T) {
		s := names.Draw(t, "name")
		if wrong := clean(s); wrong != "" {
			t.Fatalf("%q became %q: %s", s, CleanName(s), wrong)
		}
	})
}
