package directory

import (
	"fmt"
	"testing"
)

// BenchmarkCheckLookup is what the answer to one look-up costs who asked: the
// head, its consistency with a log a tenth smaller, and the entry.
func BenchmarkCheckLookup(b *testing.B) {
	h := newHistory(b)
	for _, size := range []int{1_000, 100_000, 1_000_000} {
		for len(h.leaves) < size*9/10 {
			h.add(entry("user", h.size()))
		}
		v := h.view()
		for len(h.leaves) < size {
			h.add(entry("user", h.size()))
		}
		head, c, in := h.head().Bytes(), h.from(v.Head.Size), h.include(uint64(size/3))
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			for b.Loop() {
				_, err := v.Check(head, c, in, start)
				check(b, err)
			}
			b.ReportMetric(float64(len(head)+len(c.Proof.Bytes())+len(in.Proof.Bytes())), "B/lookup")
		})
	}
}

// BenchmarkAppend is one entry and the head after it.
func BenchmarkAppend(b *testing.B) {
	h := newHistory(b, entries(1000)...)
	for b.Loop() {
		h.add(entry("user", h.size()))
		h.head()
	}
}
