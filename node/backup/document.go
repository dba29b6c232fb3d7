package backup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
)

const (
	magic   = "parley backup\n"
	version = 2

	kindHead    = 1
	kindContact = 2
	kindPast    = 3
	kindEnd     = 4
	kindRoom    = 5
	kindLog     = 6
)

// Limits. Sizes are bytes.
const (
	maxRecord       = 1 << 20
	maxContacts     = 2 * protocol.MaxContacts // the blocked and the removed are not on the allow list
	maxContactBytes = 64 << 20                 // of all contact records: they are in memory together
	maxRooms        = 1024
	maxPeerID       = 128
)

// Head is what a backup is of.
type Head struct {
	Created time.Time // to the millisecond
	Member  engine.Membership
}

func (h Head) marshal() []byte {
	m := h.Member
	b := binary.BigEndian.AppendUint64(nil, uint64(h.Created.UnixMilli()))
	b = key.AppendLP(b, []byte(m.Name))
	b = key.AppendLP(b, []byte(m.Display))
	b = key.AppendLP(b, m.Home.Peer)
	b = append(b, byte(len(m.Home.Addrs)))
	for _, a := range m.Home.Addrs {
		b = key.AppendLP(b, []byte(a))
	}
	b = key.AppendLP(b, m.Chain)
	b = append(b, m.AIK.Bytes()...)
	if m.RK == nil {
		return append(b, 0)
	}
	return append(append(b, 1), m.RK.Bytes()...)
}

func parseHead(b []byte) (h Head, err error) {
	r := key.NewReader(b)
	ms := r.Uint64()
	if ms > maxMillis {
		return Head{}, errors.New("a time after the year 9999")
	}
	h.Created = time.UnixMilli(int64(ms)).UTC()
	m := &h.Member
	m.Name, m.Display = string(r.LP()), string(r.LP())
	m.Home.Peer = bytes.Clone(r.LP())
	for range r.Byte() {
		m.Home.Addrs = append(m.Home.Addrs, string(r.LP()))
		if len(m.Home.Addrs) > protocol.MaxAddrs {
			return Head{}, errors.New("too many addresses")
		}
	}
	m.Chain = bytes.Clone(r.LP())
	aik := bytes.Clone(r.Take(32))
	var rk []byte
	switch r.Byte() {
	case 0:
	case 1:
		rk = bytes.Clone(r.Take(32))
	default:
		return Head{}, errors.New("recovery key")
	}
	if err := r.End(); err != nil {
		return Head{}, err
	}
	if m.AIK, err = key.ParseAccount(aik); err != nil {
		return Head{}, err
	}
	if rk != nil {
		parsed, err := key.ParseRecovery(rk)
		if err != nil {
			return Head{}, err
		}
		m.RK = &parsed
	}
	return h, checkHead(h)
}

const maxMillis = 253402300799999 // the last of the year 9999

// checkHead refuses what no account has. Writing and reading both come here, so
// what was written can be read.
func checkHead(h Head) error {
	m := h.Member
	if ms := h.Created.UnixMilli(); ms < 0 || ms > maxMillis {
		return errors.New("time of the backup")
	}
	if err := engine.ValidName(m.Name); err != nil {
		return err
	}
	if clean, err := engine.CleanDisplay(m.Display); err != nil || clean != m.Display {
		return errors.New("display name")
	}
	if len(m.Home.Peer) == 0 || len(m.Home.Peer) > maxPeerID || len(m.Home.Addrs) > protocol.MaxAddrs {
		return errors.New("rendezvous")
	}
	for _, a := range m.Home.Addrs {
		if a == "" || len(a) > protocol.MaxAddr || !utf8.ValidString(a) {
			return errors.New("address of the rendezvous")
		}
	}
	chain, err := account.ParseChain(m.Chain)
	if err != nil {
		return err
	}
	if m.AIK.Public() != chain.Signer() {
		return errors.New("the account key does not fit the chain")
	}
	if m.RK != nil && m.RK.Public() != chain.Recovery() {
		return errors.New("the recovery key does not fit the chain")
	}
	return nil
}

func parseContact(b []byte) (*wire.ContactState, error) {
	c := &wire.ContactState{}
	if err := proto.Unmarshal(b, c); err != nil {
		return nil, err
	}
	return c, checkContact(c)
}

func checkContact(c *wire.ContactState) error {
	id, err := protocol.FromBytes[protocol.AccountID](c.GetAccount())
	if err != nil {
		return err
	}
	if err := engine.ValidName(c.GetName()); err != nil {
		return err
	}
	if len(c.GetDisplay()) > protocol.MaxDisplay || len(c.GetNote()) > protocol.MaxNote {
		return errors.New("contact with too long a text")
	}
	if _, known := wire.Relation_name[int32(c.GetRelation())]; !known {
		return fmt.Errorf("relation %d", c.GetRelation())
	}
	if c.GetSinceMs() > maxMillis || c.GetChangedMs() > maxMillis {
		return errors.New("a time after the year 9999")
	}
	chain, err := account.ParseChain(c.GetChain())
	if err != nil {
		return err
	}
	if chain.Account() != id {
		return errors.New("chain of another account")
	}
	return nil
}

func parseRoom(b []byte) (*wire.RoomState, error) {
	r := &wire.RoomState{}
	if err := proto.Unmarshal(b, r); err != nil {
		return nil, err
	}
	return r, checkRoom(r)
}

func checkRoom(r *wire.RoomState) error {
	if !engine.ValidRoomState(r) || r.GetSinceMs() > maxMillis {
		return errors.New("a room that is none")
	}
	return nil
}

func parseLog(b []byte) (*wire.RoomLog, error) {
	l := &wire.RoomLog{}
	if err := proto.Unmarshal(b, l); err != nil {
		return nil, err
	}
	return l, checkLog(l)
}

func checkLog(l *wire.RoomLog) error {
	if len(l.GetRoom()) != len(protocol.RoomID{}) || len(l.GetEntries()) == 0 {
		return errors.New("a log of no room")
	}
	return nil
}

func parsePast(b []byte) (*wire.Past, error) {
	p := &wire.Past{}
	if err := proto.Unmarshal(b, p); err != nil {
		return nil, err
	}
	return p, checkPast(p)
}

func checkPast(p *wire.Past) error {
	if _, err := protocol.FromBytes[protocol.AccountID](p.GetWith()); err != nil {
		return err
	}
	if n := len(p.GetMessages()); n == 0 || n > engine.MaxPast {
		return fmt.Errorf("%d messages at once", n)
	}
	for _, m := range p.GetMessages() {
		if _, err := protocol.FromBytes[protocol.MsgID](m.GetMsgId()); err != nil {
			return err
		}
		if _, err := protocol.FromBytes[protocol.DeviceID](m.GetDevice()); err != nil {
			return err
		}
		if len(m.GetText()) > protocol.MaxText {
			return errors.New("message over the longest text")
		}
		if m.GetState() < 1 || m.GetState() > 6 || m.GetSentMs() > maxMillis || m.GetRecordedMs() > maxMillis {
			return errors.New("message with an unknown state or time")
		}
	}
	return nil
}
