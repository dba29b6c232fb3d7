package rendezvous

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
)

// crowd adds members to a room that have no host and are not registered, so that the
// room is large.
func (p *party) crowd(founder *device, n int) {
	p.t.Helper()
	for len(p.s.Members()) < n {
		d := &device{t: p.t, server: founder.server, aik: key.NewAccount(), rk: key.NewRecovery(), dsk: key.NewDevice()}
		d.certify(key.NewIdentity().Public(), key.NewHost().Public().PeerID())
		for _, step := range []struct {
			by *device
			op room.Op
		}{{founder, room.Invite{Account: d.owner}}, {d, room.Join{Chain: d.chain.Bytes()}}} {
			e := p.write(step.by, step.op)
			p.appended(founder, e)
			s, err := p.s.Extend(e)
			if err != nil {
				p.t.Fatal(err)
			}
			p.s, p.log = s, append(p.log, e)
		}
		founder.server.clock.add(3 * time.Second) // as fast as the limits let one device
	}
}

// BenchmarkRoom is what a room of each size costs the rendezvous, over loopback: a
// message of 64 bytes, an entry, and to fold the log after a start.
func BenchmarkRoom(b *testing.B) {
	for _, size := range []int{2, 100, 1000} {
		b.Run(fmt.Sprintf("%d members", size), func(b *testing.B) {
			s := startServer(b, func(c *Config) {
				c.Limits = Limits{Calls: 1e6, RoomEntries: 1 << 30, RoomLogBytes: 1 << 40, RoomCount: 1 << 40, RoomBytes: 1 << 50}
			})
			alice := member(b, s, "alice")
			p := newParty(b, alice)
			p.crowd(alice, size)
			number := uint64(0)
			b.Run("Put", func(b *testing.B) {
				for b.Loop() {
					number++
					m := p.message(alice, number)
					s.clock.add(time.Second)
					if codes, _ := alice.say(p, m); codes[0] != protocol.OK {
						b.Fatal(codes)
					}
				}
			})
			b.Run("Fold", func(b *testing.B) {
				for b.Loop() {
					if _, err := s.foldRoom(b.Context(), p.id()); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("Append", func(b *testing.B) {
				for b.Loop() {
					s.clock.add(time.Second)
					p.do(alice, room.Rotate{})
				}
			})
		})
	}
}

// BenchmarkRoomDelivery is a message to a room with so many devices online: from the
// put to the last of them that was told and has read it.
func BenchmarkRoomDelivery(b *testing.B) {
	for _, size := range []int{2, 10, 100} {
		b.Run(fmt.Sprintf("%d members", size), func(b *testing.B) {
			s := startServer(b, func(c *Config) {
				c.Limits = Limits{Calls: 1e6, Strangers: 1e6, ConnsPerAddress: 1e4, BeatDeadline: time.Hour, RoomCount: 1 << 40, RoomBytes: 1 << 50}
			})
			people := []*device{member(b, s, "alice")}
			for i := 1; i < size; i++ {
				people = append(people, member(b, s, fmt.Sprint("member_", i)))
			}
			p := newParty(b, people[0], people[1:]...)
			read := make(chan error, size)
			for _, d := range people[1:] {
				l := d.link()
				l.awaitRoom(p, p.s.Seq(), 0)
				l.s.SetReadDeadline(time.Time{})
				go d.readOnHints(p, l, read) // until the host closes
			}
			var took []time.Duration
			number := uint64(0)
			for b.Loop() {
				number++
				m := p.message(people[0], number)
				s.clock.add(time.Second)
				began := time.Now()
				people[0].say(p, m)
				for range people[1:] {
					if err := <-read; err != nil {
						b.Fatal(err)
					}
				}
				took = append(took, time.Since(began))
			}
			slices.Sort(took)
			for _, percent := range []int{50, 99} {
				b.ReportMetric(float64(took[len(took)*percent/100].Microseconds())/1e3, fmt.Sprintf("p%d-ms", percent))
			}
		})
	}
}

// readOnHints reads what is new at each hint, and says so for each message.
func (d *device) readOnHints(p *party, l *linkEnd, read chan<- error) {
	id, seq, after := p.id(), p.s.Seq()+1, uint64(0)
	for {
		h := &wire.Hint{}
		if wire.ReadMsg(l.s, h) != nil {
			return
		}
		if len(h.GetRooms()) == 0 || h.GetRooms()[0].GetCursor() <= after {
			continue
		}
		resp, err := d.tryCall(readRequest(&wire.ReadRoom{Room: id[:], FromSeq: seq, After: after}))
		if err == nil && len(resp.GetRoomPage().GetItems()) == 0 {
			err = fmt.Errorf("nothing to read: %v", resp)
		}
		for _, item := range resp.GetRoomPage().GetItems() {
			after = item.GetCursor()
			read <- nil
		}
		if err != nil {
			read <- err
			return
		}
	}
}
