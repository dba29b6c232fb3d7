package ledger

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// export writes n entries, one a line.
func export(t testing.TB, n int) (lines []string, head Hash) {
	t.Helper()
	for i := range n {
		e := Entry{N: uint64(i) + 1, TimeMs: int64(1000 * i), Kind: Session, ID: ID{byte(i)}, What: Created, Reason: fmt.Sprint("for test ", i)}
		e.Hash = e.After(head)
		head = e.Hash
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(b))
	}
	return lines, head
}

func TestEncode(t *testing.T) {
	e := Entry{N: 7, TimeMs: 12345, Kind: RSA, ID: ID{1, 2}, What: Replaced, Reason: "yearly"}
	got, err := Parse(e.Encode())
	if err != nil || got != e {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range len(e.Encode()) {
		if _, err := Parse(e.Encode()[:n]); err == nil {
			t.Errorf("%d bytes are read", n)
		}
	}
}

func TestVector(t *testing.T) {
	e := Entry{N: 1, TimeMs: 1_800_000_000_000, Kind: Signed, ID: ID{1, 2, 3, 4, 5, 6, 7, 8}, What: Created}
	const want = "b2d4c66f9c11a682c4ab85d0a1e6cd48755577ebd8f63b066d94311c58ac3a85"
	if got := e.After(Hash{}).String(); got != want {
		t.Errorf("hash %s", got)
	}
}

// A line that was edited, cut out, doubled or moved is found, and named; a cut
// end shows in the head.
func TestKLC12_ExportChecks(t *testing.T) {
	lines, head := export(t, 20)
	check := func(lines []string) (Chain, error) { return Check(strings.NewReader(strings.Join(lines, "\n"))) }
	if c, err := check(lines); err != nil || c.N != 20 || c.Head != head {
		t.Fatalf("%+v, %v", c, err)
	}
	if c, err := check(lines[:19]); err != nil || c.N != 19 || c.Head == head {
		t.Errorf("a cut end: %+v, %v", c, err)
	}
	change := func(fn func(l []string) []string) []string { return fn(append([]string{}, lines...)) }
	for name, test := range map[string]struct {
		lines []string
		n     uint64
	}{
		"edited":   {change(func(l []string) []string { l[9] = strings.Replace(l[9], "test 9", "test 8", 1); return l }), 10},
		"cut":      {change(func(l []string) []string { return append(l[:9], l[10:]...) }), 10},
		"no start": {lines[1:], 1},
		"doubled":  {change(func(l []string) []string { return append(l[:10], lines[9:]...) }), 11},
		"swapped":  {change(func(l []string) []string { l[3], l[4] = l[4], l[3]; return l }), 4},
		"garbage":  {change(func(l []string) []string { l[5] = "{"; return l }), 6},
		"torn":     {change(func(l []string) []string { l[19] = l[19][:20]; return l }), 20},
		"bad hash": {change(func(l []string) []string { l[5] = strings.Replace(l[5], `"hash":"`, `"hash":"x`, 1); return l }), 6},
	} {
		_, err := check(test.lines)
		broken, ok := errors.AsType[*Broken](err)
		if !ok || broken.N != test.n {
			t.Errorf("%s: %v, want entry %d", name, err, test.n)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Entry{N: 1, Kind: Session, What: Created}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err == nil && !bytes.Equal(e.Encode(), b) {
			t.Error("two encodings of one entry")
		}
	})
}

func FuzzCheck(f *testing.F) {
	lines, _ := export(f, 3)
	f.Add([]byte(strings.Join(lines, "\n")))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := Check(bytes.NewReader(b)); err == nil && c.N == 0 && c.Head != (Hash{}) {
			t.Error("a head of nothing")
		}
	})
}
