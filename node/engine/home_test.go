package engine

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"sort"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// rendezvous keeps names, chains, prekeys and mail, and may be told to lie.
type rendezvous struct {
	w       *world
	names   map[string]*entry
	devices map[protocol.DeviceID]*shelf

	guests map[protocol.AccountID][]byte    // their chains
	seen   map[protocol.AccountID]time.Time // when they were last online
	rooms  map[protocol.RoomID]*roomHome
	sealed map[protocol.EnvelopeID]sealedText // every room message that left a node

	log      *logbook
	tamper   func(*wire.Found)            // changes answers, which the log then holds
	forge    func(*wire.Found)            // changes answers and what is to prove them
	conflict func(protocol.PrekeyID) bool // pretends that ids are bound to other keys
	deaf     bool                         // stores uploads and does not answer
	noEntry  bool                         // answers with entries that are in its log already
	noPages  bool                         // does not let its log be read
	terse    bool                         // tells counts without digests
}

type entry struct {
	account protocol.AccountID
	chain   []byte
}

// shelf is what is kept for one device.
type shelf struct {
	signed, rsa []byte
	oneTime     [][]byte
	bound       map[protocol.PrekeyID][32]byte // every id ever seen, and its key
	claims      map[[16]byte][]byte
	mail        [][]byte
	uploads     int

	hello Hello // the last that was welcomed
}

// welcome tells a copy of a device's store, and one that was set back.
func (r *rendezvous) welcome(d protocol.DeviceID, h Hello) protocol.Code {
	s := r.devices[d]
	switch last := s.hello; {
	case last.Ctr != 0 && last.StoreID != h.StoreID:
		return protocol.DeviceCloned
	case h.Ctr > last.Ctr, h.Ctr == last.Ctr && h.Start == last.Start:
		s.hello = h
		return protocol.OK
	}
	return protocol.StoreRolledBack
}

func (r *rendezvous) look(name string, prekeys bool) *wire.Found {
	e := r.names[name]
	if e == nil {
		return nil
	}
	return r.find(name, e.chain, prekeys)
}

func (r *rendezvous) find(name string, raw []byte, prekeys bool) *wire.Found {
	f := &wire.Found{Name: name, Chain: raw, NowMs: uint64(r.w.now.UnixMilli())}
	if prekeys {
		chain, err := account.ParseChain(raw)
		r.w.check(err)
		for _, n := range r.w.nodes {
			if _, ok := chain.Device(n.device()); ok {
				f.Bundles = append(f.Bundles, r.bundle(n.device()))
			}
		}
	}
	if r.tamper != nil {
		r.tamper(f)
	}
	return f
}

func (r *rendezvous) lookAccount(a protocol.AccountID, prekeys bool) *wire.Found {
	for name, e := range r.names {
		if e.account == a {
			return r.look(name, prekeys)
		}
	}
	if chain := r.guests[a]; chain != nil {
		return r.find("", chain, prekeys)
	}
	return nil
}

func (r *rendezvous) bundle(d protocol.DeviceID) *wire.Bundle {
	s := r.devices[d]
	b := &wire.Bundle{Device: d[:], SignedRecord: s.signed, Rsa: s.rsa}
	if len(s.oneTime) > 0 {
		b.OneTimeRecord, s.oneTime = s.oneTime[0], s.oneTime[1:]
	}
	return b
}

func (r *rendezvous) counts(d protocol.DeviceID) *wire.PrekeyCounts {
	s := r.devices[d]
	c := &wire.PrekeyCounts{OneTime: uint32(len(s.oneTime)), Cap: protocol.PrekeyStock}
	if s.signed != nil {
		id := recordID(s.signed)
		c.SignedId = id[:]
	}
	var ids []string
	for _, b := range s.oneTime {
		id := recordID(b)
		ids = append(ids, string(id[:]))
	}
	sort.Strings(ids)
	h := sha256.New()
	for _, id := range ids {
		h.Write([]byte(id))
	}
	if !r.terse {
		c.Digest = h.Sum(nil)
	}
	return c
}

func recordID(b []byte) protocol.PrekeyID {
	r, err := prekey.Parse(b)
	if err != nil {
		panic(err)
	}
	return r.ID()
}

func (r *rendezvous) upload(d protocol.DeviceID, up *wire.UploadPrekeys) *wire.PrekeyCounts {
	s := r.devices[d]
	s.uploads++
	if up.GetReset_() {
		s.oneTime = nil
	}
	if len(up.GetSignedRecord()) > 0 && newer(up.GetSignedRecord(), s.signed) {
		s.signed, s.rsa = up.GetSignedRecord(), up.GetRsa()
	}
	var conflicts [][]byte
	for _, b := range up.GetOneTimeRecords() {
		id := recordID(b)
		sum := sha256.Sum256(b)
		old, seen := s.bound[id]
		if seen && old != sum || r.conflict != nil && r.conflict(id) {
			conflicts = append(conflicts, id[:])
			continue
		}
		s.bound[id] = sum
		if !seen && len(s.oneTime) < protocol.PrekeyStock {
			s.oneTime = append(s.oneTime, b)
		}
	}
	if r.deaf {
		return nil
	}
	c := r.counts(d)
	c.Conflicts = conflicts
	return c
}

// newer tells whether a signed prekey takes the place of another: the newest by
// date is handed out.
func newer(b, than []byte) bool {
	if than == nil {
		return true
	}
	next, err1 := prekey.Parse(b)
	old, err2 := prekey.Parse(than)
	return err1 == nil && err2 == nil && next.Created.After(old.Created)
}

func (r *rendezvous) put(from *node, q Queued) protocol.Code {
	s := r.devices[q.To]
	if s == nil {
		return protocol.UnknownDevice
	}
	to := r.w.nodeOf(q.To)
	if to != nil && q.Kind == wire.MailKind_MESSAGE && from.account() != to.account() && !to.allows(from.account()) {
		return protocol.NotContact
	}
	if to != nil && q.Kind == wire.MailKind_ROOM && !r.share(from.account(), to.account()) {
		return protocol.NotContact
	}
	s.mail = append(s.mail, q.Envelope)
	return protocol.OK
}

func (n *node) allows(a protocol.AccountID) (ok bool) {
	n.view(func(tx store.Tx) error {
		list, digest, err := n.e.AllowList(tx)
		ok = slices.Contains(list, a)
		if digest != store.ContactsDigest(list) {
			err = fmt.Errorf("digest of the allow list is wrong")
		}
		return err
	})
	return ok
}
