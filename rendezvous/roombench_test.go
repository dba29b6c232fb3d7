package rendezvous

import (
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
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
