package envelope

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/key/keytest"
)

func TestPaddedSizeVectors(t *testing.T) {
	type row struct {
		Message int `json:"message"`
		Padded  int `json:"padded"`
	}
	var rows []row
	for _, n := range []int{0, 1, 190, 254, 255, 256, 257, 263, 264, 447, 511, 512, 1000, 1023, 1024, 4095, 4096, 10000, 65535, 65536, 70000} {
		rows = append(rows, row{n, paddedSize(n)})
	}
	keytest.Golden(t, "padding.json", rows)
}

func TestPad(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 80<<10).Draw(t, "n")
		msg := bytes.Repeat([]byte{byte(n)}, n)
		padded := Pad(msg)
		if got, err := Unpad(padded); err != nil || !bytes.Equal(got, msg) {
			t.Fatalf("%d bytes came back as %d: %v", n, len(got), err)
		}
		if len(padded) > 256 && float64(len(padded)) > 1.12*float64(n+1) {
			t.Fatalf("%d bytes padded to %d", n, len(padded))
		}
		if len(Pad(make([]byte, n+1))) < len(padded) {
			t.Fatal("a longer message is shorter when padded")
		}
	})
}

func TestUnpadRefuses(t *testing.T) {
	good := Pad([]byte("text"))
	for name, b := range map[string][]byte{
		"nothing":      nil,
		"zeros":        make([]byte, 256),
		"no marker":    append([]byte("text"), make([]byte, 252)...),
		"one less":     good[:255],
		"one more":     append(bytes.Clone(good), 0),
		"unpadded":     []byte("text"),
		"marker alone": {0x80},
		"other length": append(append([]byte("text"), 0x80), make([]byte, 507)...),
	} {
		if _, err := Unpad(b); err != ErrPadding {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzUnpad(f *testing.F) {
	f.Add(Pad(nil))
	f.Add(Pad([]byte("text")))
	f.Add(Pad(make([]byte, 300)))
	f.Fuzz(func(t *testing.T, b []byte) {
		msg, err := Unpad(b)
		if err == nil && !bytes.Equal(Pad(msg), b) {
			t.Fatal("not canonical")
		}
	})
}
