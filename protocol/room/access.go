package room

import (
	"sort"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// record is what a device could do in the room, and since when. It stays when the
// device leaves: messages that it wrote before are still to be checked.
type record struct {
	account protocol.AccountID
	signing key.DevicePublic
	newest  *span
}

// span is what a device, or an account, may do from an entry on, until the next span
// begins. Of a device it holds rights of Access only, and begins with an epoch. Spans are
// shared by the states before and after them.
type span struct {
	seq    uint64
	rights Rights
	before *span
}

func (p *span) at(seq uint64) Rights {
	for ; p != nil; p = p.before {
		if p.seq <= seq {
			return p.rights
		}
	}
	return 0
}

func (r *record) at(epoch uint64) Rights { return r.newest.at(epoch) }

// RightsAt returns what an account might do when the entry with a number was the
// newest one; of a number that the log does not have yet, what it may now.
func (s *State) RightsAt(id protocol.AccountID, seq uint64) Rights { return s.powers[id].at(seq) }

// Demoted tells that a device's account has not any more what it might do with messages,
// its own and others', when the entry with a number was the newest one.
func (s *State) Demoted(device protocol.DeviceID, seq uint64) bool {
	r, ok := s.devices[device]
	return ok && s.RightsAt(r.account, seq)&^s.Rights(r.account)&(Access|Moderation) != 0
}

// Epoch is the number of the newest entry that changed who may read or write: by
// coming, leaving, a device more or less, or other rights; or that took from somebody
// what he might do to messages of others. Messages are encrypted with keys of one epoch.
func (s *State) Epoch() uint64 { return s.epochs[len(s.epochs)-1].seq }

// AccountOf returns the account and the signing key of a device that may, or once
// might, read or write here.
func (s *State) AccountOf(id protocol.DeviceID) (protocol.AccountID, key.DevicePublic, bool) {
	r, ok := s.devices[id]
	if !ok {
		return protocol.AccountID{}, key.DevicePublic{}, false
	}
	return r.account, r.signing, true
}

// Sender returns the signing key of a device that may write anything at all in an
// epoch; not ok also for an epoch that the log does not have.
func (s *State) Sender(id protocol.DeviceID, epoch uint64) (signing key.DevicePublic, ok bool) {
	r := s.devices[id]
	if _, known := s.epochIndex(epoch); !known || r == nil || r.at(epoch)&Voice == 0 {
		return key.DevicePublic{}, false
	}
	return r.signing, true
}

// May tells whether a device had all the rights, of Access, in an epoch: in none that the
// log does not have, or not yet.
func (s *State) May(device protocol.DeviceID, epoch uint64, want Rights) bool {
	_, known := s.epochIndex(epoch)
	r, was := s.devices[device]
	return known && was && r.at(epoch).Has(want)
}

// Readers returns the devices that get the keys of the present epoch, in the order
// of Members.
func (s *State) Readers() []Device {
	var all []Device
	for _, m := range s.Members() {
		if s.rightsOf(&m).Has(Read) {
			all = append(all, m.devices...)
		}
	}
	return all
}

func (s *State) epochIndex(epoch uint64) (int, bool) {
	i := sort.Search(len(s.epochs), func(i int) bool { return s.epochs[i].seq >= epoch })
	return i, i < len(s.epochs) && s.epochs[i].seq == epoch
}

// Verdict is what the log of somebody who signed a message is to one's own.
type Verdict uint8

const (
	Fits   Verdict = iota + 1 // it is the own one, or how that began
	Ahead                     // it ends later: fetch what is missing, then judge again
	Forked                    // it cannot be a part of the own one, nor the other way round
)

// Judge compares the own log with that of somebody who signed a message: its epoch,
// and the number and the hash of its newest entry. Who is Forked is asked for his
// entries, see FindFork.
func (s *State) Judge(epoch, seq uint64, head [32]byte) Verdict {
	i, known := s.epochIndex(epoch)
	over := i+1 < len(s.epochs) && seq >= s.epochs[i+1].seq
	switch {
	case !known && epoch <= s.head.seq, seq < epoch, known && over:
		return Forked
	case seq > s.head.seq:
		return Ahead
	}
	end := s.head // the epoch's newest entry, and from there back
	if i+1 < len(s.epochs) {
		end = s.epochs[i+1].before
	}
	for end.seq > seq {
		end = end.before
	}
	if end.hash != head {
		return Forked
	}
	return Fits
}

// settle gives the devices of all accounts that an entry touched what they may now.
// If anything differs, an epoch begins.
func (f *fold) settle() {
	for id, old := range f.touched {
		now := f.members[id]
		before, rights := f.powers[id].at(f.e.Seq), f.Rights(id)
		if before&^rights&Moderation != 0 {
			f.newEpoch = true
		}
		if rights != before {
			f.powers[id] = &span{f.e.Seq, rights, f.powers[id]}
		}
		if old != nil {
			for _, d := range old.devices {
				if now == nil || !now.has(d.ID) {
					f.grant(id, d, 0)
				}
			}
		}
		if now != nil {
			for _, d := range now.devices {
				f.grant(id, d, f.rightsOf(now)&Access)
			}
		}
	}
}

func (f *fold) grant(account protocol.AccountID, d Device, rights Rights) {
	old := f.devices[d.ID]
	if old == nil {
		old = &record{account: account, signing: d.Cert.Signing}
	}
	before := old.at(f.e.Seq)
	if before == rights {
		return
	}
	f.devices[d.ID] = &record{old.account, old.signing, &span{f.e.Seq, rights, old.newest}}
	f.newEpoch = true
	if before.Has(Read) && !rights.Has(Read) {
		f.lost = f.e.Seq
	}
}

func (m *Member) has(id protocol.DeviceID) bool {
	_, ok := m.device(id)
	return ok
}
