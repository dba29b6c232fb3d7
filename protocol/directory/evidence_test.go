package directory

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/parley-chat/parley/protocol/key"
)

// accusations are one of each kind, and a fork at two sizes.
func accusations(t testing.TB) map[string]Evidence {
	t.Helper()
	base := newHistory(t, entries(6)...)
	same := base.fork(5).add(entry("mallory", 1))
	longer := base.fork(5).add(entry("mallory", 1), entry("mallory", 2), entry("mallory", 3))
	rebound := entry("user2", 5)
	rebound.Account[0]++
	found := map[string]error{
		"fork":          Compare(base.signer.Log(), base.head(), same.head(), nil),
		"fork at sizes": Compare(base.signer.Log(), base.head(), longer.head(), longer),
	}
	for name, bad := range map[string]Leaf{"rebound": rebound, "set back": entry("user2", 0)} {
		h := base.fork(6).add(bad, entry("more", 1))
		found[name] = newMirror().fold(h.signer.Log(), h.head(), h.page(0, 7))
	}
	all := map[string]Evidence{}
	for name, err := range found {
		c, ok := errors.AsType[*Convicted](err)
		if !ok {
			t.Fatalf("%s: %v", name, err)
		}
		all[name] = c.Evidence
	}
	return all
}

func TestEvidence(t *testing.T) {
	for name, e := range accusations(t) {
		t.Run(name, func(t *testing.T) {
			b := e.Marshal()
			got, err := CheckEvidence(b)
			check(t, err)
			if string(got.Marshal()) != string(b) || got.Log.Origin() != e.Log.Origin() || len(b) > MaxEvidence/8 {
				t.Errorf("read again, %d bytes:\n%s", len(b), got.Marshal())
			}
			if !strings.Contains(got.String(), e.Log.Origin()) {
				t.Errorf("it says %q", got)
			}
		})
	}
}

// TestNoFalseEvidence: what is true of an honest log convicts nobody, however it
// is put.
func TestNoFalseEvidence(t *testing.T) {
	h := newHistory(t, entries(6)...)
	h.add(entry("user2", 2))
	early, late := h.fork(6).head(), h.head()
	whole := Part{7, h.root(), nil}
	pair := []Inclusion{h.include(2), h.include(6)}
	log := h.signer.Log()
	for name, e := range map[string]Evidence{
		"heads that agree":            {Kind: Fork, Heads: []Head{late, late}},
		"heads of sizes":              {Kind: Fork, Heads: []Head{early, late}},
		"heads of sizes, with proof":  {Kind: Fork, Heads: []Head{early, late}, Part: Part{6, early.Root, h.from(6).Proof}},
		"heads with an invented root": {Kind: Fork, Heads: []Head{early, late}, Part: Part{6, late.Root, h.from(6).Proof}},
		"heads the wrong way round":   {Kind: Fork, Heads: []Head{late, early}, Part: Part{6, early.Root, h.from(6).Proof}},
		"a fork with a part of it":    {Kind: Fork, Heads: []Head{late, late}, Part: whole},
		"one head":                    {Kind: Fork, Heads: []Head{late}},
		"a fork with entries":         {Kind: Fork, Heads: []Head{late, late}, Leaves: pair},
		"a chain that grew":           {Kind: SetBack, Heads: []Head{late}, Part: whole, Leaves: pair},
		"a chain that grew, reversed": {Kind: SetBack, Heads: []Head{late}, Part: whole, Leaves: []Inclusion{pair[1], pair[0]}},
		"one entry twice":             {Kind: SetBack, Heads: []Head{late}, Part: whole, Leaves: []Inclusion{pair[0], pair[0]}},
		"two names":                   {Kind: Rebound, Heads: []Head{late}, Part: whole, Leaves: []Inclusion{h.include(1), h.include(2)}},
		"an entry that is not there":  {Kind: Rebound, Heads: []Head{late}, Part: whole, Leaves: []Inclusion{pair[0], {6, mallory(pair[1].Leaf), pair[1].Proof}}},
		"a part that is not there":    {Kind: SetBack, Heads: []Head{late}, Part: Part{6, late.Root, nil}, Leaves: pair},
		"no part":                     {Kind: SetBack, Heads: []Head{late}, Leaves: pair},
		"two heads for entries":       {Kind: SetBack, Heads: []Head{early, late}, Part: whole, Leaves: pair},
		"three entries":               {Kind: SetBack, Heads: []Head{late}, Part: whole, Leaves: append(slices.Clone(pair), pair[0])},
		"another kind":                {Kind: "other", Heads: []Head{late}, Part: whole, Leaves: pair},
	} {
		e.Log = log
		if got, err := CheckEvidence(e.Marshal()); err == nil {
			t.Errorf("%s: convicts: %v", name, got)
		}
	}
}

func mallory(l Leaf) Leaf {
	l.Account[0]++
	return l
}

// TestEvidenceDamaged: no byte of a file can be changed, and no other text says
// the same.
func TestEvidenceDamaged(t *testing.T) {
	for name, e := range accusations(t) {
		b := e.Marshal()
		for i := range b {
			bad := slices.Clone(b)
			bad[i] ^= 1
			if got, err := CheckEvidence(bad); err == nil {
				t.Errorf("%s: with byte %d changed it says %v", name, i, got)
			}
		}
		for what, bad := range map[string]string{
			"spaces":        string(b) + " ",
			"another field": strings.Replace(string(b), "{", "{\n  \"more\": 1,", 1),
			"a field twice": strings.Replace(string(b), "{", "{\n  \"kind\": \"fork\",", 1),
			"cut":           string(b[:len(b)/2]),
			"format":        strings.Replace(string(b), "parley/1", "parley/2", 1),
			"nothing":       "",
			"long":          string(b) + strings.Repeat(" ", MaxEvidence),
		} {
			if _, err := CheckEvidence([]byte(bad)); !errors.Is(err, ErrMalformed) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// TestEvidenceOfManyHeads: what no evidence has is refused for its number, not for
// its signatures, which would have to be checked first.
func TestEvidenceOfManyHeads(t *testing.T) {
	for name, e := range accusations(t) {
		heads := append(slices.Clone(e.Heads), make([]Head, 3-len(e.Heads))...) // without signatures
		for what, more := range map[string]Evidence{
			"heads":   {Kind: e.Kind, Log: e.Log, Heads: heads, Part: e.Part, Leaves: e.Leaves},
			"entries": {Kind: e.Kind, Log: e.Log, Heads: make([]Head, 1), Part: e.Part, Leaves: make([]Inclusion, 3)},
		} {
			if _, err := CheckEvidence(more.Marshal()); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "entries") {
				t.Errorf("%s, three %s: %v", name, what, err)
			}
		}
	}
}

// TestEvidenceOfAnother: signatures of one rendezvous do not convict another.
func TestEvidenceOfAnother(t *testing.T) {
	other, err := NewSigner(key.NewHost())
	check(t, err)
	for name, e := range accusations(t) {
		e.Log = other.Log()
		_, err := CheckEvidence(e.Marshal())
		if !errors.Is(err, ErrBadSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var f map[string]any
	check(t, json.Unmarshal(accusations(t)["fork"].Marshal(), &f))
	f["key"] = "nobody"
	b, err := json.Marshal(f)
	check(t, err)
	_, err = CheckEvidence(b)
	wants(t, err, ErrMalformed)
}
