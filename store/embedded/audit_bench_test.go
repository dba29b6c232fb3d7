package embedded_test

import (
	"fmt"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/ledger"
)

// BenchmarkAudit is the durable entry of a token, by one caller and by 64; and
// the check of the whole journal.
func BenchmarkAudit(b *testing.B) {
	kv, err := openBadger(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	r := mustOver(b, kv)
	token := audit.Event{
		Kind: audit.Token, What: audit.Issued, Account: protocol.AccountID{1}, Device: protocol.DeviceID{2},
		Name: "ncil8Hhpz8RgZtSSwYcpJgYJMBUw_NI7hAh8l56ncPo", Note: "relay",
	}
	note := func(b *testing.B) {
		if err := r.Note(b.Context(), start, token); err != nil {
			b.Error(err)
		}
	}
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("note, %d callers", callers), func(b *testing.B) {
			before := cpuTime()
			if callers == 1 {
				for b.Loop() {
					note(b)
				}
			} else {
				b.SetParallelism(callers / 2) // times 2 CPUs
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						note(b)
					}
				})
			}
			report(b, float64(b.N), before)
		})
	}
	b.Run("verify", func(b *testing.B) {
		before, n := cpuTime(), 0
		for b.Loop() {
			var c ledger.Chain
			for {
				entries, err := r.AuditEntries(b.Context(), c.N, 1000)
				if err != nil {
					b.Fatal(err)
				}
				if len(entries) == 0 {
					break
				}
				for _, e := range entries {
					if err := c.Next(e); err != nil {
						b.Fatal(err)
					}
				}
			}
			n += int(c.N)
		}
		report(b, float64(n), before)
		head, err := r.AuditHead(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(head.Bytes)/float64(head.N), "B/entry")
	})
}
