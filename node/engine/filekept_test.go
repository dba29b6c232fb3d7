package engine

import (
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// What is left to do comes in pages, and what cannot be done yet does not keep the rest. All
// of it is known as kept.
func TestFileEndsComeInPages(t *testing.T) {
	w := newWorld(t)
	n, many := w.add("alice"), maxEnds+7
	w.check(n.update(func(tx store.Tx) (Hint, error) {
		return n.e.do(tx, w.now, func(w *work) error {
			for i := range many {
				key := keyFileEnd(protocol.FileID{byte(i), byte(i >> 8)}, FileRef{Position: uint64(i)}, "")
				if err := w.put(key, &fileEndRow{spool: "copy"}); err != nil {
					return err
				}
			}
			return nil
		})
	}))
	seen := map[FileEnd]bool{}
	n.view(func(tx store.Tx) error {
		for _, want := range []int{maxEnds, 7, 0} {
			page, err := n.e.FileEnds(tx, func(e FileEnd) bool { return !seen[e] })
			if err != nil {
				return err
			}
			if len(page) != want {
				t.Errorf("%d come, want %d", len(page), want)
			}
			for _, e := range page {
				seen[e] = true
			}
		}
		kept, err := n.e.FilesKept(tx)
		if len(kept) != many {
			t.Errorf("%d are kept, want %d", len(kept), many)
		}
		return err
	})
}
