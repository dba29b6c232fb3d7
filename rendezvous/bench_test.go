package rendezvous

import (
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

// BenchmarkPut is the durable put of 1 KiB envelopes by 64 senders, one or many
// to a call, over loopback: libp2p, the checks, and a group commit.
func BenchmarkPut(b *testing.B) {
	const senders = 64
	s := startServer(b, func(c *Config) {
		c.Limits = Limits{Calls: 1e6, Strangers: 1e6, MailboxCount: 1e9, MailboxBytes: 1e12, SenderCount: 1e9, SenderBytes: 1e12}
	})
	to := member(b, s, "recipient")
	var all []*device
	for i := range senders {
		all = append(all, member(b, s, fmt.Sprintf("sender_%d", i)))
	}
	to.setContacts(all...)
	for _, items := range []int{1, 32} {
		b.Run(fmt.Sprintf("%d per call", items), func(b *testing.B) {
			var next atomic.Int64
			b.SetParallelism(senders / 2) // times 2 CPUs
			b.RunParallel(func(pb *testing.PB) {
				from := all[next.Add(1)%senders]
				put := &wire.Put{}
				for range items {
					put.Items = append(put.Items, item(to, wire.MailKind_MESSAGE, make([]byte, 1<<10)))
				}
				for pb.Next() {
					for _, it := range put.Items {
						rand.Read(it.Envelope)
					}
					resp, err := from.tryCall(&wire.Request{Call: &wire.Request_Put{Put: put}})
					if err != nil || protocol.Code(resp.GetPutResults().GetResults()[items-1].GetCode()) != protocol.OK {
						b.Error(err, resp)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N*items)/b.Elapsed().Seconds(), "envelopes/s")
		})
	}
}
