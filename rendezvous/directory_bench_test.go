package rendezvous

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
)

// BenchmarkLookup is a look-up with its proof from the log, by 64 members over
// loopback, and how many bytes the answer has, and how many of them are proof.
// Who asks holds a head of nine tenths of the log. PARLEY_BENCH_ENTRIES adds a
// directory of that many accounts, which takes a minute or two for each 10^6.
func BenchmarkLookup(b *testing.B) {
	const members = 64
	sizes := []int{1_000, 100_000}
	if text := os.Getenv("PARLEY_BENCH_ENTRIES"); text != "" {
		n, err := strconv.Atoi(text)
		mustDo(b, err)
		sizes = append(sizes, n)
	}
	s := startServer(b, func(c *Config) { c.Limits = Limits{Calls: 1e6, Strangers: 1e6} })
	var all []*device
	for i := range members {
		all = append(all, member(b, s, fmt.Sprintf("member_%d", i)))
	}
	filled := 0
	for _, size := range sizes {
		fill(b, s, filled, size-filled)
		filled = size
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			var next, whole, proofs atomic.Int64
			before := cpuTime()
			b.SetParallelism(members / 2) // times 2 CPUs
			b.RunParallel(func(pb *testing.PB) {
				from := all[next.Add(1)%members]
				for pb.Next() {
					req := lookupRequest(fmt.Sprint("filler", rand.IntN(size)), nil)
					req.GetLookup().LogSize = uint64(size * 9 / 10)
					resp, err := from.tryCall(req)
					if err != nil || resp.GetCode() != 0 {
						b.Error(err, resp)
						return
					}
					f := resp.GetFound()
					whole.Add(int64(proto.Size(resp)))
					proofs.Add(int64(proto.Size(f.GetLog()) + len(f.GetInclusion())))
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lookups/s")
			b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-µs/op") // both ends
			b.ReportMetric(float64(whole.Load())/float64(b.N), "answer-B/op")
			b.ReportMetric(float64(proofs.Load())/float64(b.N), "proof-B/op")
		})
	}
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
