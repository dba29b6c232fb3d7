package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/ledger"
)

func TestEncode(t *testing.T) {
	e := Entry{N: 7, Event: Event{
		TimeMs: 12345, Kind: Token, What: Issued, Account: protocol.AccountID{1}, Device: protocol.DeviceID{2}, Name: "key", Note: "relay",
	}}
	got, err := Parse(e.Encode())
	if err != nil || got != e {
		t.Errorf("%+v, %v", got, err)
	}
	for n := range len(e.Encode()) {
		if _, err := Parse(e.Encode()[:n]); err == nil {
			t.Errorf("%d bytes are read", n)
		}
	}
	if _, err := Parse(append(e.Encode(), 0)); err == nil {
		t.Error("a byte too many is read")
	}
	nobody := Entry{N: 7, Event: Event{Account: protocol.AccountID{1}}}.Encode()
	if _, err := Parse(bytes.Replace(nobody, []byte{1, 0, 0}, []byte{0, 0, 0}, 1)); err == nil {
		t.Error("there are two ways to name nobody")
	}
}

// The vectors of SPEC "Audit".
func TestVector(t *testing.T) {
	var c ledger.Chain
	for _, v := range []struct {
		event Event
		want  string
	}{
		{Event{TimeMs: 1_800_000_000_000, Kind: Host, What: Started, Note: "joining by invite"}, "7556e1229f8cc94227930791e677f8a41fce27c6278b32cd47f5f8b1c3e1214f"},
		{Event{
			TimeMs: 1_800_000_000_001, Kind: Account, What: Registered, Account: protocol.AccountID{1, 2, 3}, Name: "alice", Note: "invite 0102030405060708",
		}, "2aead66a083583e78fc4b9f82d92830675d77e8887019e83c58de9fa92a2183d"},
	} {
		e := v.event.Next(c)
		if e.Hash.String() != v.want {
			t.Errorf("entry %d has the hash %s", e.N, e.Hash)
		}
		if err := c.Next(e); err != nil {
			t.Error(err)
		}
	}
}

func TestBounds(t *testing.T) {
	e := Event{Kind: Host, Name: strings.Repeat("n", 1000), Note: strings.Repeat("n", 1000)}.Next(ledger.Chain{})
	if len(e.Name) != MaxName || len(e.Note) != MaxNote {
		t.Errorf("%d and %d bytes", len(e.Name), len(e.Note))
	}
	if _, err := Parse(e.Encode()); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*Entry){
		func(e *Entry) { e.Name += "n" }, func(e *Entry) { e.Note += "n" },
		func(e *Entry) { e.Kind = Kind(e.Note) }, func(e *Entry) { e.What = Act(e.Note) },
	} {
		long := e
		change(&long)
		if _, err := Parse(long.Encode()); err == nil {
			t.Errorf("%+v is read", long)
		}
	}
}

// TestTamper: an entry that is changed in any way, cut out, doubled or moved
// is found, and named.
func TestTamper(t *testing.T) {
	event := rapid.Custom(func(t *rapid.T) Event {
		return Event{
			TimeMs: rapid.Int64().Draw(t, "time"), Kind: rapid.SampledFrom(Kinds).Draw(t, "kind"), What: Added,
			Account: protocol.AccountID{rapid.Byte().Draw(t, "account")}, Device: protocol.DeviceID{rapid.Byte().Draw(t, "device")},
			Name: rapid.StringN(0, 9, 30).Draw(t, "name"), Note: rapid.StringN(0, 9, 30).Draw(t, "note"),
		}
	})
	check := func(entries []Entry) (ledger.Chain, error) {
		var c ledger.Chain
		for _, e := range entries {
			if err := c.Next(e); err != nil {
				return c, err
			}
		}
		return c, nil
	}
	rapid.Check(t, func(t *rapid.T) {
		var entries []Entry
		var c ledger.Chain
		for _, e := range rapid.SliceOfN(event, 2, 12).Draw(t, "events") {
			next := e.Next(c)
			entries, c = append(entries, next), ledger.Chain{N: next.N, Head: next.Hash}
		}
		if got, err := check(entries); err != nil || got != c {
			t.Fatalf("%+v, %v", got, err)
		}
		at := rapid.IntRange(0, len(entries)-2).Draw(t, "at")
		other := event.Filter(func(e Event) bool { return e != entries[at].Event }).Draw(t, "another")
		changed, rehashed := slices.Clone(entries), slices.Clone(entries)
		changed[at].Event = other
		rehashed[at] = other.Next(ledger.Chain{N: uint64(at), Head: hashBefore(entries, at)})
		swapped := slices.Clone(entries)
		swapped[at], swapped[at+1] = swapped[at+1], swapped[at]
		for name, test := range map[string]struct {
			entries []Entry
			broken  int
		}{
			"changed":              {changed, at},
			"changed and rehashed": {rehashed, at + 1},
			"cut out":              {slices.Delete(slices.Clone(entries), at, at+1), at},
			"doubled":              {slices.Insert(slices.Clone(entries), at, entries[at]), at + 1},
			"swapped":              {swapped, at},
		} {
			_, err := check(test.entries)
			if broken, ok := errors.AsType[*ledger.Broken](err); !ok || broken.N != uint64(test.broken)+1 {
				t.Fatalf("%s: %v, want entry %d", name, err, test.broken+1)
			}
		}
		if got, err := check(entries[:at+1]); err != nil || got == c {
			t.Fatalf("a cut end: %+v, %v", got, err)
		}
	})
}

func hashBefore(entries []Entry, at int) (h ledger.Hash) {
	if at > 0 {
		h = entries[at-1].Hash
	}
	return h
}

func TestJSON(t *testing.T) {
	e := Event{TimeMs: 1, Kind: Invite, What: Made, Name: "0102"}.Next(ledger.Chain{})
	b, err := json.Marshal(e)
	if err != nil || !strings.HasPrefix(string(b), `{"n":1,"time_ms":1,"kind":"invite","what":"made","name":"0102","hash":"`) {
		t.Errorf("%s, %v", b, err)
	}
	var got Entry
	if err := json.Unmarshal(b, &got); err != nil || got != e {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Entry{N: 1, Event: Event{Kind: Token, What: Issued, Account: protocol.AccountID{1}}}.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Parse(b)
		if err == nil && !bytes.Equal(e.Encode(), b) {
			t.Error("two encodings of one entry")
		}
	})
}
