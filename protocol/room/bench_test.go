package room

import (
	"fmt"
	"testing"
)

// benchRoom is a room of n members, its owner and the log that made it.
func benchRoom(b *testing.B, n int) (*party, *person) {
	owner := newPerson(b, "owner")
	p := newParty(b, owner)
	for i := 1; i < n; i++ {
		p.join(owner, newPerson(b, fmt.Sprint("member ", i)))
	}
	return p, owner
}

// BenchmarkFold reads a whole log of 10,000 entries, from bytes.
func BenchmarkFold(b *testing.B) {
	for _, members := range []int{10, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			p, owner := benchRoom(b, members)
			victim := p.s.Members()[members-1].Account
			for muted := true; len(p.log) < 10_000; muted = !muted {
				p.do(owner, SetMemberRights{Account: victim, Muted: muted})
			}
			var log [][]byte
			size := 0
			for _, e := range p.log {
				log = append(log, e.Bytes())
				size += len(log[len(log)-1])
			}
			b.ReportMetric(float64(size), "log-bytes")
			for b.Loop() {
				entries := make([]Entry, len(log))
				for i, raw := range log {
					var err error
					entries[i], err = ParseEntry(raw)
					check(b, err)
				}
				_, err := Fold(entries)
				check(b, err)
			}
		})
	}
}

// BenchmarkExtend takes one entry.
func BenchmarkExtend(b *testing.B) {
	for _, members := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("members=%d", members), func(b *testing.B) {
			p, owner := benchRoom(b, members)
			_, e, err := p.s.Write(start, owner.Author, SetMemberRights{Account: p.s.Members()[members-1].Account, Muted: true})
			check(b, err)
			for b.Loop() {
				_, err := p.s.Extend(e)
				check(b, err)
			}
		})
	}
}

// BenchmarkMay is what a validator asks of each message, besides its signature.
func BenchmarkMay(b *testing.B) {
	p, owner := benchRoom(b, 1000)
	epoch, seq, head := p.s.Epoch(), p.s.Seq(), p.s.Head()
	for b.Loop() {
		if p.s.Judge(epoch, seq, head) != Fits || !p.s.May(owner.Device, epoch, Send) {
			b.Fatal("another head, or no right")
		}
	}
}
