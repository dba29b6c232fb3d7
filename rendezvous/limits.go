package rendezvous

import (
	"cmp"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/relay"
)

// Limits are what one rendezvous gives away. Zero means the default, which
// fits a small server of a few thousand devices.
type Limits struct {
	MailboxBytes    int           // waiting mail of one device, half of it of kind ROOM at most; default 64 MiB
	MailboxCount    int           // the same, in envelopes; default 20,000
	SenderBytes     int           // waiting mail of one sending account, over all mailboxes; default 64 MiB
	SenderCount     int           // the same, in envelopes; default 20,000
	RoomSenderBytes int           // the same of what concerns rooms, which does not count there: keys go to each member; default 128 MiB
	RoomSenderCount int           // the same, in envelopes; default 100,000
	MailboxTTL      time.Duration // how long mail waits; default protocol.MailboxTTL, and never more

	RoomsMade    int           // by one account, if anybody is in them; default 100
	RoomsJoined  int           // rooms that one account is in; default 1,000
	RoomEntries  int           // of the log of one room, but for removals and bans, which get a sixteenth more; default 32,768
	RoomLogBytes int           // the same, in bytes; default 16 MiB
	RoomCount    int           // messages of one room, and of one account a quarter; default 200,000
	RoomBytes    int           // the same, in bytes; default 256 MiB
	RoomTTL      time.Duration // how long messages of a room wait; default 30 days

	BlobBytes int           // of one blob, and never more than BlobQuota; default 66 MiB, which takes a file of 64 MiB
	BlobQuota int           // of all blobs of one account, whole or not; default 256 MiB, of a guest a sixteenth
	BlobCount int           // the same, in blobs; default 1,000, of a guest a sixteenth
	BlobTTL   time.Duration // how long a blob waits; default protocol.MailboxTTL
	BlobStall time.Duration // a stream of a blob that does not move 64 KiB in so long is ended; default 30 s

	PrekeyCap int // one-time prekeys published per device; default protocol.PrekeyStock

	Calls     int // calls per second of one device, with bursts of five times that; default 200
	Strangers int // calls per minute of all unregistered peers of one address; default 60

	Conns           int // connections in all; default 8,192
	ConnsPerAddress int // connections of one IPv4 address or IPv6 /56, so of one office, and hellos per minute; default 512

	RelayBytes    int64         // per circuit and direction; default 256 MiB
	RelayDuration time.Duration // per circuit; default 12 h
	Reservations  int           // relay reservations in all; default 4,096
	Circuits      int           // open circuits of one peer; default 256

	BeatDeadline time.Duration // a link without a beat for so long is dead; default 27 s
	CallDeadline time.Duration // for a whole call; default 10 s
	WriteTimeout time.Duration // for one frame to a link; default 10 s
}

func (l Limits) withDefaults() Limits {
	l.MailboxBytes = cmp.Or(l.MailboxBytes, 64<<20)
	l.MailboxCount = cmp.Or(l.MailboxCount, 20_000)
	l.SenderBytes = cmp.Or(l.SenderBytes, 64<<20)
	l.SenderCount = cmp.Or(l.SenderCount, 20_000)
	l.RoomSenderBytes = cmp.Or(l.RoomSenderBytes, 128<<20)
	l.RoomSenderCount = cmp.Or(l.RoomSenderCount, 100_000)
	// Devices keep private prekeys for protocol.MailboxTTL: older mail could
	// not be opened any more.
	l.MailboxTTL = min(cmp.Or(l.MailboxTTL, protocol.MailboxTTL), protocol.MailboxTTL)
	l.RoomsMade = cmp.Or(l.RoomsMade, 100)
	l.RoomsJoined = cmp.Or(l.RoomsJoined, 1000)
	l.RoomEntries = cmp.Or(l.RoomEntries, 32_768) // which are folded in some seconds
	l.RoomLogBytes = cmp.Or(l.RoomLogBytes, 16<<20)
	l.RoomCount = cmp.Or(l.RoomCount, 200_000)
	l.RoomBytes = cmp.Or(l.RoomBytes, 256<<20)
	l.RoomTTL = cmp.Or(l.RoomTTL, 30*24*time.Hour)
	l.BlobBytes = cmp.Or(l.BlobBytes, 66<<20)
	l.BlobQuota = cmp.Or(l.BlobQuota, 256<<20)
	l.BlobBytes = min(l.BlobBytes, l.BlobQuota)
	l.BlobCount = cmp.Or(l.BlobCount, 1000)
	l.BlobTTL = cmp.Or(l.BlobTTL, protocol.MailboxTTL)
	l.BlobStall = cmp.Or(l.BlobStall, 30*time.Second)
	l.PrekeyCap = cmp.Or(l.PrekeyCap, protocol.PrekeyStock)
	l.Calls = cmp.Or(l.Calls, 200)
	l.Strangers = cmp.Or(l.Strangers, 60)
	l.Conns = cmp.Or(l.Conns, 8192)
	r := l.relay().WithDefaults()
	l.RelayBytes, l.RelayDuration, l.Reservations, l.ConnsPerAddress, l.Circuits = r.Bytes, r.Duration, r.Reservations, r.PerAddress, r.Circuits
	// Nodes beat at least every 12 s: two lost beats and some slack, and
	// contacts still see the loss within 30 s.
	l.BeatDeadline = cmp.Or(l.BeatDeadline, 27*time.Second)
	l.CallDeadline = cmp.Or(l.CallDeadline, 10*time.Second)
	l.WriteTimeout = cmp.Or(l.WriteTimeout, 10*time.Second)
	return l
}

// forDevice returns the limits of one device. Guests make accounts at will, so each has
// little room for blobs.
func (l Limits) forDevice(guest bool) Limits {
	if guest {
		l.BlobQuota, l.BlobCount = l.BlobQuota/16, max(1, l.BlobCount/16)
		l.BlobBytes = min(l.BlobBytes, l.BlobQuota)
	}
	return l
}

// relay is what the rendezvous's own relay gives away.
func (l Limits) relay() relay.Limits {
	return relay.Limits{Bytes: l.RelayBytes, Duration: l.RelayDuration, Reservations: l.Reservations, PerAddress: l.ConnsPerAddress, Circuits: l.Circuits}
}

// wire is what a node needs to know of the limits.
func (l Limits) wire() *wire.Limits {
	return &wire.Limits{
		MailboxBytes: uint64(l.MailboxBytes),
		MailboxCount: uint32(l.MailboxCount),
		SenderBytes:  uint64(l.SenderBytes),
		MailboxTtlMs: uint64(l.MailboxTTL.Milliseconds()),
		RelayBytes:   uint64(l.RelayBytes),
		RelayMs:      uint64(l.RelayDuration.Milliseconds()),
		PrekeyCap:    uint32(l.PrekeyCap),
		BlobBytes:    uint64(l.BlobBytes),
	}
}
