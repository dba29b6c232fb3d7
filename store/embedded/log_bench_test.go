package embedded_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

// logSizes are the logs that are measured; PARLEY_BENCH_ENTRIES adds one, which
// takes a minute for each 10^6 entries.
func logSizes(b *testing.B) []int {
	sizes := []int{1_000, 100_000}
	if text := os.Getenv("PARLEY_BENCH_ENTRIES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		sizes = append(sizes, n)
	}
	return sizes
}

// addAccounts registers accounts number from to from+n-1, 256 at a time.
func addAccounts(b *testing.B, r store.Rendezvous, from, n int) {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 256 {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				id := sha256.Sum256(fmt.Append(nil, from+i))
				p := store.RegisterParams{Name: fmt.Sprint("user", from+i), Label: id, Account: id, Chain: make([]byte, 700), ChainSeq: 2, Now: start}
				if err := r.Register(b.Context(), p); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
}

// BenchmarkLog is a registration with its entry, durable, by 256 callers; and the
// proofs of one look-up: inclusion of any entry, and consistency from a log that
// was a tenth smaller.
func BenchmarkLog(b *testing.B) {
	for _, size := range logSizes(b) {
		kv, err := openBadger(b.TempDir())
		if err != nil {
			b.Fatal(err)
		}
		r := mustOver(b, kv)
		addAccounts(b, r, 0, size)
		n := size
		b.Run(fmt.Sprint("Register/", size), func(b *testing.B) {
			before := cpuTime()
			addAccounts(b, r, n, b.N)
			n += b.N
			report(b, float64(b.N), before)
		})
		b.Run(fmt.Sprint("Prove/", size), func(b *testing.B) {
			hashes := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
				stored, err := r.LogHashes(b.Context(), indexes)
				out := make([]tlog.Hash, len(stored))
				for i, h := range stored {
					out[i] = h
				}
				return out, err
			})
			before, bytes := cpuTime(), 0
			for b.Loop() {
				in, err := directory.ProveInclusion(rand.Uint64N(uint64(n)), directory.Leaf{}, uint64(n), hashes)
				if err != nil {
					b.Fatal(err)
				}
				c, err := directory.ProveConsistency(uint64(n-n/10), uint64(n), hashes)
				if err != nil {
					b.Fatal(err)
				}
				bytes += len(in.Proof.Bytes()) + len(c.Proof.Bytes())
			}
			report(b, float64(b.N), before)
			b.ReportMetric(float64(bytes)/float64(b.N), "proof-B/op")
		})
	}
}
