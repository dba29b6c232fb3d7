package node_test

import (
	"fmt"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
)

// BenchmarkRoom is texts of 1 KiB from one member of a room to all others, each a node
// of its own with its own store, all and the rendezvous on this machine. One at a time:
// from Send until another member can show it, which is durable there. Many: a hundred at
// once, until all members have all.
func BenchmarkRoom(b *testing.B) {
	for _, members := range []int{2, 10, 30} {
		b.Run(fmt.Sprint("members=", members), func(b *testing.B) {
			net := nodetest.New(b, members)
			room := fullRoom(net)
			others := newListeners(b, net.People[1:])
			others.send(b, net.People[0], room, 1) // keys
			b.Run("one", func(b *testing.B) {
				var took []time.Duration
				for b.Loop() {
					took = append(took, others.send(b, net.People[0], room, 1)...)
				}
				slices.Sort(took)
				b.ReportMetric(float64(took[len(took)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "p99-µs")
			})
			b.Run("many", func(b *testing.B) {
				const burst = 100
				used := cpuTime()
				for b.Loop() {
					others.send(b, net.People[0], room, burst)
				}
				b.ReportMetric(float64(burst*b.N)/b.Elapsed().Seconds(), "messages/s")
				b.ReportMetric(float64((cpuTime()-used).Microseconds())/float64(burst*b.N), "CPU-µs/message")
			})
		})
	}
}

// fullRoom is a room of all. Nobody may ask more than ten others in an hour to be
// contacts, so several invite.
func fullRoom(net *nodetest.Net) string {
	const each = 8
	alice := net.People[0]
	room := net.NewRoom("climbing", alice)
	for i, p := range net.People[1:] {
		by := net.People[i/each]
		if by != alice && i%each == 0 {
			alice.In(room, api.RoomPromote, api.RoomRequest{Who: by.Name})
			net.Wait(by.Name+" may invite", func() bool { return by.InRoom(room).Role == "moderator" })
		}
		net.Befriend(by, p)
		net.Enter(room, by, p)
	}
	for _, p := range net.People {
		net.Wait(p.Name+" knows all", func() bool { return p.InRoom(room).Members == len(net.People) })
	}
	return room
}

// cpuTime is what the process used until now.
func cpuTime() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// listeners are members of a room who tell when messages come.
type listeners struct {
	members int
	came    chan heardAt
}

type heardAt struct {
	id string
	at time.Time
}

func newListeners(b *testing.B, members []*nodetest.Person) *listeners {
	a := &listeners{len(members), make(chan heardAt, 1024)}
	for _, p := range members {
		last, err := p.LastEvent(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		go func() {
			for e := range p.Events(b.Context(), last) {
				if e.Message != nil && !e.Message.Mine {
					a.came <- heardAt{e.Message.ID, time.Now()}
				}
			}
		}()
	}
	return a
}

// send writes texts to a room and returns how long each took to each other member.
func (a *listeners) send(b *testing.B, from *nodetest.Person, room string, count int) (took []time.Duration) {
	begun := map[string]time.Time{}
	for range count {
		at := time.Now()
		m := from.SayIn(room, benchText)
		begun[m.ID] = at
	}
	for range count * a.members {
		select {
		case got := <-a.came:
			took = append(took, got.at.Sub(begun[got.id]))
		case <-time.After(nodetest.Patience):
			b.Fatalf("%d of %d came", len(took), count*a.members)
		}
	}
	return took
}
