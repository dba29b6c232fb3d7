package words

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/tyler-smith/go-bip39"
	"github.com/tyler-smith/go-bip39/wordlists"
	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vector is a seed and its words.
type vector struct {
	Seed  keytest.Hex `json:"seed"`
	Words string      `json:"words"`
}

// The first four seeds are those of BIP 39's own vectors for 256 bits.
func TestVectors(t *testing.T) {
	var vectors []vector
	for _, seed := range [][]byte{
		make([]byte, 32), bytes.Repeat([]byte{0x7f}, 32), bytes.Repeat([]byte{0x80}, 32), bytes.Repeat([]byte{0xff}, 32),
		keytest.Seed("recovery", 32),
	} {
		spelled, err := Recovery(seed)
		if err != nil {
			t.Fatal(err)
		}
		vectors = append(vectors, vector{seed, strings.Join(spelled, " ")})
	}
	keytest.Golden(t, "words.json", vectors)
}

// BIP 39's own vectors (bitcoin/bips, bip-0039, test vectors of Trezor).
func TestBIP39Vectors(t *testing.T) {
	for text, first := range map[string]byte{
		strings.Repeat("abandon ", 23) + "art": 0x00,
		strings.Repeat("legal winner thank year wave sausage worth useful ", 2) + "legal winner thank year wave sausage worth title":            0x7f,
		strings.Repeat("letter advice cage absurd amount doctor acoustic avoid ", 2) + "letter advice cage absurd amount doctor acoustic bless": 0x80,
		strings.Repeat("zoo ", 23) + "vote": 0xff,
	} {
		seed, err := ParseRecovery(text)
		if err != nil || !bytes.Equal(seed, bytes.Repeat([]byte{first}, 32)) {
			t.Errorf("%q: %x, %v", text, seed, err)
		}
	}
}

// Another implementation of BIP 39 agrees, and people may be careless.
func TestRecoveryRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "seed")
		spelled, err := Recovery(seed)
		if err != nil {
			t.Fatal(err)
		}
		want, err := bip39.NewMnemonic(seed)
		if err != nil || strings.Join(spelled, " ") != want {
			t.Fatalf("%v, want %s (%v)", spelled, want, err)
		}
		typed := make([]string, len(spelled))
		for i, w := range spelled {
			typed[i] = w[:rapid.IntRange(min(enough, len(w)), len(w)).Draw(t, "letters")]
			if rapid.Bool().Draw(t, "capitals") {
				typed[i] = strings.ToUpper(typed[i])
			}
		}
		between := rapid.SampledFrom([]string{" ", "  ", "-", "\n", ", ", " 7. "}).Draw(t, "between")
		got, err := ParseRecovery("1. " + strings.Join(typed, between) + "\r\n")
		if err != nil || !bytes.Equal(got, seed) {
			t.Fatalf("%v: %v", typed, err)
		}
	})
}

func TestSpellRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 30).Draw(t, "n")
		b := rapid.SliceOfN(rapid.Byte(), (n*Bits+7)/8, (n*Bits+7)/8).Draw(t, "bits")
		if spare := len(b)*8 - n*Bits; spare > 0 {
			b[len(b)-1] &= 0xff << spare
		}
		got, err := Read(strings.Join(Spell(b, n), "-"), n)
		if err != nil || !bytes.Equal(got, b) {
			t.Fatalf("%x, want %x (%v)", got, b, err)
		}
	})
}

// What Complete and Read rely on.
func TestListOfWords(t *testing.T) {
	if len(wordlists.English) != 1<<Bits {
		t.Fatalf("%d words", len(wordlists.English))
	}
	begins := map[string]string{}
	for _, w := range wordlists.English {
		four := w[:min(enough, len(w))]
		if other, ok := begins[four]; ok {
			t.Errorf("%s and %s begin alike", w, other)
		}
		begins[four] = w
		if got, ok := Complete(" " + strings.ToUpper(w) + " "); !ok || got != w {
			t.Errorf("%s is completed to %q", w, got)
		}
		if got, ok := Complete(w[:len(w)-1]); ok != (len(w) > enough) && got == w {
			t.Errorf("%s is taken for %q", w[:len(w)-1], got)
		}
		if strings.ContainsFunc(w, notLetter) {
			t.Errorf("%q", w)
		}
	}
}

func TestRefused(t *testing.T) {
	good := strings.Fields(strings.Repeat("abandon ", 23) + "art")
	with := func(i int, w string) string {
		changed := append([]string(nil), good...)
		changed[i] = w
		return strings.Join(changed, " ")
	}
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"empty":       {"", ErrCount},
		"one short":   {strings.Join(good[1:], " "), ErrCount},
		"one more":    {strings.Join(good, " ") + " art", ErrCount},
		"very long":   {strings.Repeat("abandon ", 1000), ErrCount},
		"other word":  {with(4, "ability"), ErrChecksum},
		"other order": {"art " + strings.Join(good[:23], " "), ErrChecksum},
	} {
		if _, err := ParseRecovery(c.text); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for name, c := range map[string]struct {
		word, named string
		number      int
	}{
		"misspelled":     {"abandom", "abandom", 3},
		"three letters":  {"Aba", "aba", 1},
		"longer":         {"abandonned", "abandonned", 24},
		"other language": {"übung", "übung", 8},
		"escape":         {"\u202e", "\u202e", 8},
	} {
		_, err := ParseRecovery(with(c.number-1, c.word))
		unknown, ok := errors.AsType[*Unknown](err)
		if !ok || unknown.Number != c.number || unknown.Word != c.named {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Recovery(make([]byte, 16)); err == nil {
		t.Error("words for half a seed")
	}
}

func TestUnknownWordIsNotLogged(t *testing.T) {
	var logged bytes.Buffer
	slog.New(slog.NewJSONHandler(&logged, nil)).Info("read", "err", &Unknown{Number: 3, Word: "secretish"})
	if strings.Contains(logged.String(), "secretish") || !strings.Contains(logged.String(), "word 3") {
		t.Error(logged.String())
	}
	if text := (&Unknown{Number: 3, Word: "\x1b[2J"}).Error(); strings.Contains(text, "\x1b") {
		t.Errorf("%q reaches a terminal", text)
	}
}

func FuzzParseRecovery(f *testing.F) {
	f.Add(strings.Repeat("abandon ", 23) + "art")
	f.Add("1. Zoo, 2. zoo")
	f.Fuzz(func(t *testing.T, text string) {
		seed, err := ParseRecovery(text)
		if err != nil {
			return
		}
		spelled, err := Recovery(seed)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRecovery(strings.Join(spelled, " "))
		if err != nil || !bytes.Equal(again, seed) {
			t.Fatalf("%q: %v", text, err)
		}
	})
}
