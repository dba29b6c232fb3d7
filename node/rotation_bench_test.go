package node_test

import (
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
)

// BenchmarkRotation is two people who write 1,000 messages a second to each
// other while one kind of key is replaced at both ends. Latencies are from
// when a message is due until it is durable at its reader and the reader's face
// has heard of it; a pause is the longest time in which nothing arrived at one
// of the two. All count from the rotation on.
func BenchmarkRotation(b *testing.B) {
	for _, r := range []struct {
		name   string
		rotate func(b *testing.B, k *talk)
	}{
		{"nothing", func(*testing.B, *talk) {}},
		{"signed", func(b *testing.B, k *talk) { rotateKeys(b, api.RotateSigned, k.ends[:]...) }},
		{"rsa", func(b *testing.B, k *talk) { rotateKeys(b, api.RotateRSA, k.ends[:]...) }},
		{"sessions", func(b *testing.B, k *talk) { rotateKeys(b, api.RotateSessions, k.ends[:]...) }},
		{"all", func(b *testing.B, k *talk) { rotateKeys(b, api.RotateAll, k.ends[:]...) }},
		{"wrap", func(b *testing.B, k *talk) { rotateWrap(b, k.ends[:]...) }},
		{"account", func(b *testing.B, k *talk) {
			if _, err := k.ends[1].RevokeDevice(b.Context(), "desk", "lost"); err != nil {
				b.Fatal(err)
			}
		}},
	} {
		b.Run(r.name, func(b *testing.B) {
			net, alice, bob := pair(b, nodetest.Options{})
			if r.name == "account" {
				bob.Link("desk", false)
			}
			for b.Loop() {
				k := newTalk(b, net, alice, bob, 2000, 2*time.Millisecond)
				k.begin()
				k.reached(0.3)
				begun := time.Now()
				r.rotate(b, k)
				k.end()
				k.report(b, begun)
			}
		})
	}
}

// BenchmarkBothWays is the same without a rotation and as fast as it goes.
func BenchmarkBothWays(b *testing.B) {
	net, alice, bob := pair(b, nodetest.Options{})
	for b.Loop() {
		k := newTalk(b, net, alice, bob, 5000, 0)
		begun := time.Now()
		k.begin()
		k.end()
		k.report(b, begun)
	}
}

func (k *talk) report(b *testing.B, begun time.Time) {
	ended := k.lastArrival()
	took := k.latencies(begun, ended)
	b.ReportMetric(float64(len(took))/ended.Sub(begun).Seconds(), "msg/s")
	b.ReportMetric(inMs(took[len(took)/2]), "p50-ms")
	b.ReportMetric(inMs(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(inMs(k.pause(begun, ended)), "pause-ms")
	b.ReportMetric(0, "ns/op") // it lasts as long as it was told to
}

// lastArrival is when the end that was done first had everything.
func (k *talk) lastArrival() time.Time {
	var last []time.Time
	for _, p := range k.ends {
		p.mu.Lock()
		last = append(last, p.times[len(p.times)-1].at)
		p.mu.Unlock()
	}
	return slices.MinFunc(last, time.Time.Compare)
}

func inMs(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
