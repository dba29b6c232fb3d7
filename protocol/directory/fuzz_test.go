package directory

import (
	"bytes"
	"testing"
)

func FuzzOpenHead(f *testing.F) {
	h := newHistory(f, entries(5)...)
	f.Add(h.head().Bytes())
	f.Add(newHistory(f).head().Bytes())
	f.Add(append(h.head().Bytes(), "— witness.example/w AAAAAAAAAAAAAAAA\n"...))
	log := h.signer.Log()
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := log.Open(b)
		if err != nil {
			return
		}
		if again, err := log.Open(got.Bytes()); err != nil || again != got {
			t.Fatal("not canonical")
		}
	})
}

// Signatures stop a fuzzer early; the text is also read alone.
func FuzzHeadText(f *testing.F) {
	h := newHistory(f, entries(5)...)
	log := h.signer.Log()
	f.Add(h.head().text(log.Origin()))
	f.Fuzz(func(t *testing.T, text string) {
		got, err := log.parse(text)
		if err == nil && got.text(log.Origin()) != text {
			t.Fatal("not canonical")
		}
	})
}

func FuzzParseLeaves(f *testing.F) {
	f.Add(entry("alice", 1).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		leaves, err := ParseLeaves(b)
		if err != nil {
			return
		}
		var again []byte
		for _, l := range leaves {
			again = append(again, l.Marshal()...)
		}
		if !bytes.Equal(again, b) {
			t.Fatal("not canonical")
		}
	})
}

// Any proof: nothing is proven of a signed tree that is not so.
func FuzzProofs(f *testing.F) {
	h := newHistory(f, entries(11)...)
	head := h.head()
	f.Add(uint64(4), uint64(11), h.include(4).Proof.Bytes())
	f.Add(uint64(4), uint64(11), h.from(4).Proof.Bytes())
	f.Fuzz(func(t *testing.T, n, size uint64, b []byte) {
		p, err := ParseProof(b)
		if err != nil {
			return
		}
		if !bytes.Equal(p.Bytes(), b) {
			t.Fatal("not canonical")
		}
		in := Inclusion{Index: n, Leaf: entry("user4", 1), Proof: p}
		if err := in.Check(size, head.Root); err == nil && size == head.Size && n != 4 {
			t.Fatalf("entry 4 was found at %d", n)
		}
		if err := checkTree(p, head, n, head.Root); err == nil && n != 11 {
			t.Fatalf("the tree of 11 begins with itself at %d", n)
		}
	})
}

func FuzzCheckEvidence(f *testing.F) {
	for _, e := range accusations(f) {
		f.Add(e.Marshal())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := CheckEvidence(b)
		if err == nil && !bytes.Equal(e.Marshal(), b) {
			t.Fatal("not canonical")
		}
	})
}
