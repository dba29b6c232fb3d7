package keytest

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden vectors in testdata")

// Updating tells that the golden vectors are to be made anew (-update).
func Updating() bool { return *update }

// Golden compares v, as indented JSON, with testdata/name. With -update it
// writes the file instead.
func Golden(t testing.TB, name string, v any) {
	t.Helper()
	got, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	got = append(got, '\n')
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs from what the code makes now:\n%s", path, got)
	}
}

// LoadGolden reads testdata/name into v.
func LoadGolden(t testing.TB, name string, v any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		t.Fatal(err)
	}
}

// Hex is bytes that JSON vectors show in hexadecimal.
type Hex []byte

func (h Hex) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(h)), nil }

func (h *Hex) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil {
		return fmt.Errorf("hex in vector: %w", err)
	}
	*h = b
	return nil
}

// Seed is n fixed bytes, the same for the same name: 0x01 to n, xored with the
// sum of the name's bytes.
func Seed(name string, n int) []byte {
	var sum byte
	for _, c := range []byte(name) {
		sum += c
	}
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i+1) ^ sum
	}
	return b
}
