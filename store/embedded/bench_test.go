package embedded_test

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// benchStore has n devices, all of one account.
func benchStore(b *testing.B, n int) (store.Rendezvous, []protocol.DeviceID) {
	kv, err := openBadger(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	r := mustOver(b, kv)
	p := store.RegisterParams{Name: "bench", Account: sha256.Sum256([]byte("bench")), Now: start}
	var devices []protocol.DeviceID
	for i := range n {
		id := protocol.DeviceID(sha256.Sum256(fmt.Append(nil, i)))
		p.Devices = append(p.Devices, store.NewDevice{ID: id, PeerID: id[:], Cert: make([]byte, 400)})
		devices = append(devices, id)
	}
	if err := r.Register(b.Context(), p); err != nil {
		b.Fatal(err)
	}
	return r, devices
}

// report adds the rate and the CPU time of the whole process since before,
// which other load on the machine disturbs less.
func report(b *testing.B, n float64, before time.Duration) {
	b.ReportMetric(n/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64((cpuTime()-before).Microseconds())/n, "cpu-µs/op")
}

func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// BenchmarkMailbox is the durable put of 1 KiB by 64 senders, and the drain of
// what they put: fetch and acknowledge 100 at a time, 8 devices side by side.
func BenchmarkMailbox(b *testing.B) {
	r, devices := benchStore(b, 1000)
	var seq atomic.Uint64
	put := func(b *testing.B) {
		id := seq.Add(1)
		envelope := make([]byte, 1<<10)
		rand.Read(envelope)
		mail := store.Mail{
			To: devices[id%uint64(len(devices))], From: sha256.Sum256(fmt.Append(nil, id%64)), ID: protocol.IDOf(envelope),
			Kind: store.Message, Envelope: envelope, Expires: start.Add(protocol.MailboxTTL),
		}
		codes, err := r.Put(b.Context(), []store.Mail{mail}, store.Quotas{RecipientCount: 1e6, SenderCount: 1e6})
		if err != nil || codes[0] != protocol.OK {
			b.Error(codes, err)
		}
	}
	b.Run("Put", func(b *testing.B) {
		before := cpuTime()
		b.SetParallelism(32) // times 2 CPUs
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				put(b)
			}
		})
		report(b, float64(b.N), before)
	})
	b.Run("Drain", func(b *testing.B) {
		waiting := 0
		for _, d := range devices {
			u, _ := r.MailboxUsage(b.Context(), d)
			waiting += u.Count
		}
		for ; waiting < b.N; waiting++ {
			put(b)
		}
		before := cpuTime()
		b.ResetTimer()
		var next atomic.Int64
		var drained atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(devices) {
					break
				}
				drained.Add(int64(drain(b, r, devices[i])))
			}
			for pb.Next() {
			}
		})
		report(b, float64(drained.Load()), before)
	})
}

func drain(b *testing.B, r store.Rendezvous, device protocol.DeviceID) (n int) {
	for {
		mail, err := r.Fetch(b.Context(), device, 0, 100, 1<<20, start)
		if err != nil {
			b.Error(err)
		}
		if len(mail) == 0 {
			return n
		}
		var ids []protocol.EnvelopeID
		for _, m := range mail {
			ids = append(ids, m.ID)
		}
		acked, err := r.Ack(b.Context(), device, ids)
		if err != nil || acked != len(ids) {
			b.Error(acked, err)
		}
		n += acked
	}
}

// BenchmarkClaim is the durable claim of one-time prekeys by 64 claimers.
func BenchmarkClaim(b *testing.B) {
	const devices, perDevice = 500, 100
	for _, test := range []struct {
		name    string
		devices int
	}{{"Spread", devices}, {"OneDevice", 1}} {
		b.Run(test.name, func(b *testing.B) {
			r, ids := benchStore(b, test.devices)
			stock(b, r, ids, max(perDevice, b.N/test.devices+1))
			before := cpuTime()
			b.ResetTimer()
			var seq, empty atomic.Uint64
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					n := seq.Add(1)
					p := store.ClaimParams{Device: ids[n%uint64(len(ids))], Claimer: sha256.Sum256(fmt.Append(nil, n)), Now: start}
					c, err := r.Claim(b.Context(), p)
					if err != nil {
						b.Error(err)
					}
					if c.OneTime == nil {
						empty.Add(1)
					}
				}
			})
			report(b, float64(b.N), before)
			b.ReportMetric(float64(empty.Load())/float64(b.N), "empty/op")
		})
	}
}

func stock(b *testing.B, r store.Rendezvous, devices []protocol.DeviceID, n int) {
	expires := start.Add(30 * 24 * time.Hour)
	for d, id := range devices {
		signed := store.SignedPrekey{Record: make([]byte, 1350), RSA: make([]byte, 512), Created: start, Expires: expires}
		if err := r.PutSigned(b.Context(), id, signed, start); err != nil {
			b.Fatal(err)
		}
		for from := 0; from < n; from += 100 {
			var keys []store.OneTimePrekey
			for i := range 100 {
				h := sha256.Sum256(fmt.Append(nil, d, from+i))
				record := make([]byte, 1300)
				rand.Read(record)
				keys = append(keys, store.OneTimePrekey{ID: protocol.PrekeyID(h[:16]), Key: h, Record: record, Expires: expires})
			}
			if _, err := r.PutOneTime(b.Context(), id, keys, 1<<30, start); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkHeads is what the start of a link of an account with the most
// contacts costs, each with a chain of 8 KiB.
func BenchmarkHeads(b *testing.B) {
	r, _ := benchStore(b, 1)
	owner := protocol.AccountID(sha256.Sum256([]byte("bench")))
	list := make([]protocol.AccountID, protocol.MaxContacts)
	var wg sync.WaitGroup
	for w := range 64 {
		wg.Go(func() {
			for i := w; i < len(list); i += 64 {
				list[i] = sha256.Sum256(fmt.Append(nil, "contact", i))
				p := store.RegisterParams{Name: fmt.Sprint("contact", i), Account: list[i], Chain: make([]byte, 8<<10), Now: start}
				if err := r.Register(b.Context(), p); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := r.SetContacts(b.Context(), owner, list); err != nil {
		b.Fatal(err)
	}
	before := cpuTime()
	for b.Loop() {
		heads, err := r.Heads(b.Context(), owner)
		if err != nil || len(heads) != len(list)+1 {
			b.Fatal(len(heads), err)
		}
	}
	report(b, float64(b.N), before)
}
