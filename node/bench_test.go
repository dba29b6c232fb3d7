package node_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
)

// Messages are 1 KiB. Both nodes, the rendezvous and their disks share the
// machine. Figures mean something only beside others of the same run: each
// reports the round trip of libp2p over the same path, too.
var benchText = strings.Repeat("x", 1024)

// pair makes two contacts with a connection and a session in both directions.
func pair(b *testing.B, o nodetest.Options) (net *nodetest.Net, alice, bob *nodetest.Person) {
	net = nodetest.NewWith(b, 2, o)
	alice, bob = net.People[0], net.People[1]
	net.Befriend(alice, bob)
	for range 3 {
		m := alice.Say(bob, "warm")
		net.Wait("delivered", reached(alice, m.ID, api.Delivered))
		m = bob.Say(alice, "up")
		net.Wait("delivered", reached(bob, m.ID, api.Delivered))
	}
	return net, alice, bob
}

var relayOnly = nodetest.Options{Node: func(_ int, c *node.Config) { c.Listen = nodetest.NoListen }}

func BenchmarkDirect(b *testing.B)           { benchOne(b, nodetest.Options{}) }
func BenchmarkRelayed(b *testing.B)          { benchOne(b, relayOnly) }
func BenchmarkDirectPipelined(b *testing.B)  { benchMany(b, nodetest.Options{}) }
func BenchmarkRelayedPipelined(b *testing.B) { benchMany(b, relayOnly) }

// benchOne sends one message at a time: from Send until its author knows that
// it is durable at the other end.
func benchOne(b *testing.B, o nodetest.Options) {
	_, alice, bob := pair(b, o)
	delivered := make(chan string, 16)
	last, err := alice.LastEvent(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for e := range alice.Events(b.Context(), last) {
			if e.Message != nil && e.Message.State == api.Delivered {
				delivered <- e.Message.ID
			}
		}
	}()
	var took []time.Duration
	for b.Loop() {
		begun := time.Now()
		m := alice.Say(bob, benchText)
		for id := range delivered {
			if id == m.ID {
				break
			}
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(pingP50(b, alice, bob), "libp2p-rtt-µs")
	b.ReportMetric(commitP50(b, alice, bob), "commit-µs")
}

// commitP50 is what a small durable change costs.
func commitP50(b *testing.B, alice, bob *nodetest.Person) float64 {
	var took []time.Duration
	for i := range 101 {
		begun := time.Now()
		if err := alice.SetVerified(b.Context(), bob.Name, i%2 == 0); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(begun))
	}
	slices.Sort(took)
	return float64(took[len(took)/2].Microseconds())
}

func pingP50(b *testing.B, alice, bob *nodetest.Person) float64 {
	var rtts []float64
	for pong, err := range alice.Ping(b.Context(), bob.Name) {
		if err != nil || pong.Problem != "" {
			b.Fatalf("ping: %+v, %v", pong, err)
		}
		if rtts = append(rtts, pong.RTTms*1000); len(rtts) == 3 {
			break
		}
	}
	slices.Sort(rtts)
	return rtts[1]
}

const senders = 64 // goroutines that call Send

// benchMany sends as fast as it goes and waits until all is durable at the
// other end.
func benchMany(b *testing.B, o nodetest.Options) {
	net, alice, bob := pair(b, o)
	b.ResetTimer()
	sendAll(b, alice, bob, b.N)
	waitAll(b, net, bob, alice, b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
}

func sendAll(b *testing.B, from, to *nodetest.Person, n int) {
	var group sync.WaitGroup
	for i := range senders {
		group.Go(func() {
			for range (n + senders - 1 - i) / senders {
				for {
					_, err := from.Send(b.Context(), api.SendRequest{To: to.Name, Text: benchText})
					if codeOf(err) == api.ErrFull { // the queue is bounded
						time.Sleep(time.Millisecond)
						continue
					}
					if err != nil {
						b.Error(err)
					}
					break
				}
			}
		})
	}
	group.Wait()
}

// waitAll waits until n texts of the benchmark arrived, and checks that they
// are no more.
func waitAll(b *testing.B, net *nodetest.Net, at, from *nodetest.Person, n int) {
	const before = 6 // of pair
	net.Wait(fmt.Sprintf("%d messages", n), func() bool {
		page, err := at.History(b.Context(), from.Name, 0, 1)
		if err != nil || len(page) == 0 {
			b.Fatal(err)
		}
		if page[0].Position > uint64(n+before) {
			b.Fatalf("%d messages too many", page[0].Position-uint64(n+before))
		}
		return page[0].Position == uint64(n+before)
	})
}

// BenchmarkMailbox stores messages for somebody who is away, and then lets
// them fetch.
func BenchmarkMailbox(b *testing.B) {
	net, alice, bob := pair(b, nodetest.Options{})
	bob.Stop()
	net.Wait("bob is away", func() bool { o := alice.Contact("bob").Online; return o != nil && !*o })
	b.ResetTimer()
	sendAll(b, alice, bob, b.N)
	net.Wait("all are stored", func() bool {
		s, err := alice.Status(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		return s.Queued == 0
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "stored/s")
	begun := time.Now()
	bob.Start()
	waitAll(b, net, bob, alice, b.N)
	b.ReportMetric(float64(b.N)/time.Since(begun).Seconds(), "drained/s")
}
