package rendezvous

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
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
	for _, size := range []int{2, 10, 100, 1000} {
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
			b.Run("JoinAndKick", func(b *testing.B) { // three entries: an invitation, too
				bob := member(b, s, "bob")
				for b.Loop() {
					s.clock.add(10 * time.Second)
					p.do(alice, room.Invite{Account: bob.owner})
					p.do(bob, room.Join{Chain: bob.chain.Bytes()})
					p.do(alice, room.Remove{Account: bob.owner})
				}
			})
		})
	}
}

// BenchmarkRoomKeys is what the rendezvous does for the first message of an epoch: a small
// piece of mail to each device of a room, one to a call, as for devices that are served
// one by one, and as many as a call takes.
func BenchmarkRoomKeys(b *testing.B) {
	for _, size := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("%d members", size), func(b *testing.B) {
			s := startServer(b, func(c *Config) {
				c.Limits = Limits{Calls: 1e6, RoomEntries: 1 << 30, RoomLogBytes: 1 << 40, RoomSenderCount: 1 << 40, RoomSenderBytes: 1 << 50, MailboxCount: 1 << 40, MailboxBytes: 1 << 50}
			})
			alice := member(b, s, "alice")
			p := newParty(b, alice)
			p.crowd(alice, size)
			others := p.registerCrowd(alice)
			n := uint64(0)
			for _, perCall := range []int{1, maxPutItems} {
				b.Run(fmt.Sprintf("%d per call", perCall), func(b *testing.B) {
					for b.Loop() {
						var items []*wire.PutItem
						for _, id := range others {
							n++
							envelope := binary.BigEndian.AppendUint64(make([]byte, 512), n)
							items = append(items, &wire.PutItem{Device: id[:], Envelope: envelope, Kind: wire.MailKind_ROOM})
						}
						s.clock.add(time.Minute)
						for list := range slices.Chunk(items, perCall) {
							for _, r := range alice.must(&wire.Request{Call: &wire.Request_Put{Put: &wire.Put{Items: list}}}).GetPutResults().GetResults() {
								if r.GetCode() != 0 {
									b.Fatal(protocol.Code(r.GetCode()))
								}
							}
						}
					}
				})
			}
		})
	}
}

// registerCrowd registers the members of a room besides one, as guests are, which the
// store takes without a host, and returns their devices.
func (p *party) registerCrowd(besides *device) (ids []protocol.DeviceID) {
	p.t.Helper()
	for _, m := range p.s.Members() {
		if m.Account == besides.owner {
			continue
		}
		cert := m.Devices()[0].Cert
		err := besides.server.store.RegisterGuest(p.t.Context(), store.GuestParams{
			Account: m.Account, Chain: m.Chain.Bytes(), ChainSeq: m.Chain.Seq(), ChainHead: m.Chain.Head(),
			Device: store.NewDevice{ID: cert.DeviceID(), PeerID: cert.PeerID, Cert: cert.Marshal()}, Now: besides.server.clock.Now(),
		})
		if err != nil {
			p.t.Fatal(err)
		}
		ids = append(ids, cert.DeviceID())
	}
	return ids
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
