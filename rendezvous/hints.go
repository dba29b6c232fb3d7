package rendezvous

import (
	"bytes"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

// How many changed accounts, and rooms, one hint tells: with the presence of
// protocol.MaxContacts accounts it still has less fields than a frame may.
const (
	maxChanged  = 1000
	maxNewRooms = 64
)

// link is a device's standing stream.
type link struct {
	standing
	device  protocol.DeviceID
	account protocol.AccountID
	guest   bool
	topics  *topicEnd

	news   news     // not yet written; this and what follows is guarded by standing.mu
	addrs  [][]byte // where the device says it can be reached
	relays [][]byte // that hold its reservations
}

// news is what a hint can tell.
type news struct {
	beaten   bool
	beat     uint64
	mail     bool
	prekeys  *wire.PrekeyCounts
	presence map[protocol.AccountID]bool     // at most one entry per contact
	changed  map[protocol.AccountID]struct{} // the same, and the own account
	keyEvent []byte                          // the newest
	relays   bool
	rooms    map[protocol.RoomID]roomNews // rooms that the account is or was in
}

// roomNews says how far a room is.
type roomNews struct {
	room        protocol.RoomID
	seq, cursor uint64
}

func newLink(stream network.Stream, d store.Device) *link {
	return &link{standing: newStanding(stream), device: d.ID, account: d.Account, guest: d.Guest, topics: newTopicEnd()}
}

func (l *link) answerBeat(seq uint64) {
	l.tell(func(n *news) { n.beaten, n.beat = true, seq })
}

func (l *link) tellMail() {
	l.tell(func(n *news) { n.mail = true })
}

func (l *link) tellPrekeys(c *wire.PrekeyCounts) {
	l.tell(func(n *news) { n.prekeys = c })
}

func (l *link) tellPresence(account protocol.AccountID, online bool) {
	l.tell(func(n *news) {
		if n.presence == nil {
			n.presence = map[protocol.AccountID]bool{}
		}
		n.presence[account] = online
	})
}

func (l *link) tellChanged(account protocol.AccountID) {
	l.tell(func(n *news) {
		if n.changed == nil {
			n.changed = map[protocol.AccountID]struct{}{}
		}
		n.changed[account] = struct{}{}
	})
}

func (l *link) tellRelays() {
	l.tell(func(n *news) { n.relays = true })
}

func (l *link) tellRoom(r roomNews) {
	l.tell(func(n *news) {
		if n.rooms == nil {
			n.rooms = map[protocol.RoomID]roomNews{}
		}
		known := n.rooms[r.room] // which may be newer
		n.rooms[r.room] = roomNews{r.room, max(r.seq, known.seq), max(r.cursor, known.cursor)}
	})
}

func (l *link) tell(change func(*news)) {
	l.mu.Lock()
	change(&l.news)
	l.mu.Unlock()
	l.rouse()
}

// next returns what is to be written now, nil for nothing, and whether it is
// the last.
func (l *link) next() (m proto.Message, last bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.goodbye != nil {
		bye := &wire.Hint{Bye: uint32(l.goodbye.Code), RetryAfterMs: p2p.Millis(l.goodbye.RetryAfter)}
		return bye, true
	}
	if l.ended {
		return nil, true
	}
	n := l.news
	l.news = news{}
	if !n.beaten && !n.mail && n.prekeys == nil && len(n.presence) == 0 && len(n.changed) == 0 && n.keyEvent == nil && !n.relays && len(n.rooms) == 0 {
		return nil, false
	}
	hint := &wire.Hint{Beat: n.beat, Mail: n.mail, Prekeys: n.prekeys, KeyEvent: n.keyEvent, RelaysChanged: n.relays}
	for id, online := range n.presence {
		hint.Presence = append(hint.Presence, &wire.Presence{Account: id[:], Online: online})
	}
	for id := range n.changed {
		if len(hint.Changed) == maxChanged { // the rest comes next
			l.news.changed = n.changed
			l.rouse()
			break
		}
		hint.Changed = append(hint.Changed, id[:])
		delete(n.changed, id)
	}
	for id, r := range n.rooms {
		if len(hint.Rooms) == maxNewRooms { // the rest comes next
			l.news.rooms = n.rooms
			l.rouse()
			break
		}
		hint.Rooms = append(hint.Rooms, &wire.RoomNews{Room: id[:], Seq: r.seq, Cursor: r.cursor})
		delete(n.rooms, id)
	}
	return hint, false
}

// setAddrs takes over the addresses and the relays of a beat. LAN addresses are
// kept: they go to accepted contacts only, and two nodes in one house need them.
func (l *link) setAddrs(beat *wire.Beat) error {
	if !beat.GetAddrsChanged() {
		return nil
	}
	if len(beat.GetAddrs()) > protocol.MaxAddrs {
		return protocol.Refuse(protocol.TooLarge, "more than %d addresses", protocol.MaxAddrs)
	}
	var addrs [][]byte
	for _, b := range beat.GetAddrs() {
		m, err := ma.NewMultiaddrBytes(b)
		if err != nil || len(b) > protocol.MaxAddr {
			return protocol.Refuse(protocol.BadRequest, "malformed address")
		}
		if direct(m) {
			addrs = append(addrs, bytes.Clone(b))
		}
	}
	if len(beat.GetRelays()) > protocol.MaxAtRelays {
		return protocol.Refuse(protocol.TooLarge, "more than %d relays", protocol.MaxAtRelays)
	}
	var relays [][]byte
	for _, b := range beat.GetRelays() {
		if _, err := peer.IDFromBytes(b); err != nil {
			return protocol.Refuse(protocol.BadRequest, "malformed peer id of a relay")
		}
		relays = append(relays, bytes.Clone(b))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addrs, l.relays = addrs, relays
	return nil
}

// direct tells whether an address is worth telling contacts: it begins with an
// IP address and is no circuit. Names would let a device make its contacts ask
// any DNS server, and circuits are made by those who dial.
func direct(m ma.Multiaddr) bool {
	if len(m) == 0 || m[0].Protocol().Code != ma.P_IP4 && m[0].Protocol().Code != ma.P_IP6 {
		return false
	}
	return !p2p.IsCircuit(m)
}

// places returns the addresses and relays last announced; they are not to be
// changed.
func (l *link) places() (addrs, relays [][]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.addrs, l.relays
}
