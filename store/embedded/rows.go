package embedded

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

// Every key and row of a rendezvous. The first byte of a key says what it is.
//
//	V                          schema
//	a account                  accountRow
//	t account                  hash of the newest statement of its chain
//	n name                     account id
//	d device                   deviceRow
//	D account device           (empty): the devices of an account
//	p peer id                  device id
//	i invite hash              inviteRow
//	s device                   storeRow
//	k device                   signedRow
//	h device                   stockRow: where the stock of one-time prekeys begins and ends
//	o device n                 oneTimeRow: the n-th uploaded; kept after the claim for its retry
//	u device prekey id         boundRow: what the id is bound to, until it expires
//	c claimer device nonce     claimRow
//	b device                   boxRow
//	m device seq               mailRow
//	e device envelope id       waitingRow: where the envelope is
//	f account                  usageRow: of a sender
//	q sender device            (empty): a contact request of the account waits there
//	l owner other              (empty): other is on owner's list
//	g owner                    contacts digest
//	L                          sizeRow: entries of the log
//	E n                        leafRow: entry n of the log, from 0
//	H index                    hash of the log's tree, by tlog.StoredHashIndex
//	y key id                   signingKeyRow: not yet gone
//	z key id                   (empty): a signing key that is gone
//	r peer id                  relayRow: a relay that the operator has approved
//	Y n                        changeRow: the n-th change of the signing keys
//	J n                        hash and entry n of the operator's journal, from 1
//	j                          auditHeadRow: where the journal ends
//	R room                     roomRow
//	G room seq                 roomEntryRow: of its log
//	M room cursor              roomMailRow: a message to it
//	N room device number       roomNumberRow: where the message with that number of that device is
//	U room account             usageRow: of the messages that the account brought
//	A account room             (empty): the account is in the room
//	C account                  sizeRow: rooms that the account made and that somebody is in
//	Q account                  untilRow: the account is a guest's
//	B blob                     blobRow
//	K account blob             (empty): the account put the blob
//	S account                  usageRow: of the blobs that the account put
//	W blob account             (empty): the account needs the blob no more

var (
	schemaKey  = store.Key('V')
	logSizeKey = store.Key('L')
)

func accountKey(id protocol.AccountID) []byte         { return store.Key('a', id[:]) }
func headKey(id protocol.AccountID) []byte            { return store.Key('t', id[:]) }
func nameKey(name string) []byte                      { return store.Key('n', name) }
func deviceKey(id protocol.DeviceID) []byte           { return store.Key('d', id[:]) }
func ownedPrefix(a protocol.AccountID) []byte         { return store.Key('D', a[:]) }
func peerKey(peerID []byte) []byte                    { return store.Key('p', string(peerID)) }
func inviteKey(hash [32]byte) []byte                  { return store.Key('i', hash[:]) }
func storeKey(d protocol.DeviceID) []byte             { return store.Key('s', d[:]) }
func signedKey(d protocol.DeviceID) []byte            { return store.Key('k', d[:]) }
func stockKey(d protocol.DeviceID) []byte             { return store.Key('h', d[:]) }
func oneTimeKey(d protocol.DeviceID, n uint64) []byte { return store.Key('o', d[:], n) }
func boxKey(d protocol.DeviceID) []byte               { return store.Key('b', d[:]) }
func mailKey(d protocol.DeviceID, seq uint64) []byte  { return store.Key('m', d[:], seq) }
func senderKey(a protocol.AccountID) []byte           { return store.Key('f', a[:]) }
func roomSenderKey(a protocol.AccountID) []byte       { return store.Key('F', a[:]) }
func roomBoxKey(d protocol.DeviceID) []byte           { return store.Key('P', d[:]) }
func listPrefix(owner protocol.AccountID) []byte      { return store.Key('l', owner[:]) }
func digestKey(owner protocol.AccountID) []byte       { return store.Key('g', owner[:]) }
func listKey(owner, other protocol.AccountID) []byte  { return store.Key('l', owner[:], other[:]) }
func oneTimePrefix(d protocol.DeviceID) []byte        { return store.Key('o', d[:]) }
func boundPrefix(d protocol.DeviceID) []byte          { return store.Key('u', d[:]) }
func entryKey(n uint64) []byte                        { return store.Key('E', n) }
func hashKey(index int64) []byte                      { return store.Key('H', uint64(index)) }
func waitingPrefix(d protocol.DeviceID) []byte        { return store.Key('e', d[:]) }

func ownedKey(a protocol.AccountID, d protocol.DeviceID) []byte {
	return store.Key('D', a[:], d[:])
}

func boundKey(d protocol.DeviceID, id protocol.PrekeyID) []byte {
	return store.Key('u', d[:], id[:])
}

func waitingKey(d protocol.DeviceID, id protocol.EnvelopeID) []byte {
	return store.Key('e', d[:], id[:])
}

func pendingKey(from protocol.AccountID, to protocol.DeviceID) []byte {
	return store.Key('q', from[:], to[:])
}

func claimKey(p store.ClaimParams) []byte {
	return store.Key('c', p.Claimer[:], p.Device[:], p.Nonce[:])
}

type accountRow store.Account

func (a *accountRow) encode(w *writer) {
	w.fixed(a.ID[:])
	w.bytes([]byte(a.Name))
	w.bytes(a.Chain)
	w.num(a.ChainSeq)
	w.fixed(a.ChainHead[:])
	w.num(a.Entry)
	w.time(a.Created)
	w.fixed(a.InvitedBy[:])
}

func (a *accountRow) decode(r *reader) {
	r.fixed(a.ID[:])
	a.Name = string(r.bytes())
	a.Chain = r.bytes()
	a.ChainSeq = r.num()
	r.fixed(a.ChainHead[:])
	a.Entry = r.num()
	a.Created = r.time()
	r.fixed(a.InvitedBy[:])
}

type deviceRow store.Device

func (d *deviceRow) encode(w *writer) {
	w.fixed(d.ID[:])
	w.fixed(d.Account[:])
	w.bytes(d.PeerID)
	w.bytes(d.Cert)
	w.time(d.Created)
	w.flag(d.Revoked)
	w.flag(d.Guest)
}

func (d *deviceRow) decode(r *reader) {
	r.fixed(d.ID[:])
	r.fixed(d.Account[:])
	d.PeerID = r.bytes()
	d.Cert = r.bytes()
	d.Created = r.time()
	d.Revoked = r.flag()
	d.Guest = r.flag()
}

type inviteRow store.Invite

func (i *inviteRow) encode(w *writer) {
	w.fixed(i.Hash[:])
	w.fixed(i.By[:])
	w.num(uint64(i.Uses))
	w.num(uint64(i.Used))
	w.time(i.Created)
	w.time(i.Expires)
}

func (i *inviteRow) decode(r *reader) {
	r.fixed(i.Hash[:])
	r.fixed(i.By[:])
	i.Uses = uint32(r.num())
	i.Used = uint32(r.num())
	i.Created = r.time()
	i.Expires = r.time()
}

type storeRow store.StoreStart

func (s *storeRow) encode(w *writer) { w.fixed(s.StoreID[:]); w.num(s.Counter); w.fixed(s.Start[:]) }
func (s *storeRow) decode(r *reader) { r.fixed(s.StoreID[:]); s.Counter = r.num(); r.fixed(s.Start[:]) }

// signedRow holds the signed prekeys of a device, the newest first.
type signedRow []store.SignedPrekey

func (s *signedRow) encode(w *writer) {
	w.num(uint64(len(*s)))
	for _, k := range *s {
		w.fixed(k.ID[:])
		w.fixed(k.Key[:])
		w.bytes(k.Record)
		w.bytes(k.RSA)
		w.time(k.Created)
		w.time(k.Expires)
	}
}

func (s *signedRow) decode(r *reader) {
	for n := r.num(); n > 0 && !r.bad; n-- {
		var k store.SignedPrekey
		r.fixed(k.ID[:])
		r.fixed(k.Key[:])
		k.Record = r.bytes()
		k.RSA = r.bytes()
		k.Created = r.time()
		k.Expires = r.time()
		*s = append(*s, k)
	}
}

// stockRow: the one-time prekeys with next <= n < end wait to be claimed, but
// for those that expired; waiting says how many. Both numbers only grow, so a
// row that comes back from the dead is never handed out. bound counts the
// device's boundRows.
type stockRow struct{ next, end, waiting, bound uint64 }

func (s *stockRow) encode(w *writer) {
	for _, n := range []uint64{s.next, s.end, s.waiting, s.bound} {
		w.num(n)
	}
}

func (s *stockRow) decode(r *reader) {
	for _, n := range []*uint64{&s.next, &s.end, &s.waiting, &s.bound} {
		*n = r.num()
	}
}

type oneTimeRow struct {
	id      protocol.PrekeyID
	expires time.Time
	record  []byte
}

func (o *oneTimeRow) encode(w *writer) { w.fixed(o.id[:]); w.time(o.expires); w.bytes(o.record) }
func (o *oneTimeRow) decode(r *reader) { r.fixed(o.id[:]); o.expires, o.record = r.time(), r.bytes() }

type boundRow struct {
	key     [32]byte
	n       uint64
	expires time.Time
}

func (b *boundRow) encode(w *writer) { w.fixed(b.key[:]); w.num(b.n); w.time(b.expires) }
func (b *boundRow) decode(r *reader) { r.fixed(b.key[:]); b.n = r.num(); b.expires = r.time() }

// claimRow is the answer to a claim: which prekeys, and until when to repeat it.
type claimRow struct {
	signed  protocol.PrekeyID
	oneTime bool
	n       uint64 // of the one-time prekey
	until   time.Time
}

func (c *claimRow) encode(w *writer) {
	w.fixed(c.signed[:])
	w.flag(c.oneTime)
	w.num(c.n)
	w.time(c.until)
}

func (c *claimRow) decode(r *reader) {
	r.fixed(c.signed[:])
	c.oneTime = r.flag()
	c.n = r.num()
	c.until = r.time()
}

// boxRow is the state of a mailbox. It is never deleted: seq goes on.
type boxRow struct {
	count, bytes uint64
	next         uint64    // seq of the next mail; the first is 1
	head         uint64    // no mail below it
	earliest     time.Time // no mail expires before; meaningless when empty
}

func (b *boxRow) encode(w *writer) {
	for _, n := range []uint64{b.count, b.bytes, b.next, b.head} {
		w.num(n)
	}
	w.time(b.earliest)
}

func (b *boxRow) decode(r *reader) {
	for _, n := range []*uint64{&b.count, &b.bytes, &b.next, &b.head} {
		*n = r.num()
	}
	b.earliest = r.time()
}

type mailRow struct {
	from     protocol.AccountID
	id       protocol.EnvelopeID
	kind     store.MailKind
	expires  time.Time
	envelope []byte
}

func (m *mailRow) encode(w *writer) {
	w.fixed(m.from[:])
	w.fixed(m.id[:])
	w.num(uint64(m.kind))
	w.time(m.expires)
	w.bytes(m.envelope)
}

func (m *mailRow) decode(r *reader) {
	r.fixed(m.from[:])
	r.fixed(m.id[:])
	m.kind = store.MailKind(r.num())
	m.expires = r.time()
	m.envelope = r.bytes()
}

// waitingRow is what removing mail needs to know, without its bytes.
type waitingRow struct {
	seq, size uint64
	from      protocol.AccountID
	kind      store.MailKind
	expires   time.Time
}

func (m *waitingRow) encode(w *writer) {
	w.num(m.seq)
	w.num(m.size)
	w.fixed(m.from[:])
	w.num(uint64(m.kind))
	w.time(m.expires)
}

func (m *waitingRow) decode(r *reader) {
	m.seq, m.size = r.num(), r.num()
	r.fixed(m.from[:])
	m.kind = store.MailKind(r.num())
	m.expires = r.time()
}

type usageRow struct{ count, bytes uint64 }

func (u *usageRow) encode(w *writer) { w.num(u.count); w.num(u.bytes) }
func (u *usageRow) decode(r *reader) { u.count, u.bytes = r.num(), r.num() }

func (u usageRow) usage() store.Usage { return store.Usage{Count: int(u.count), Bytes: int(u.bytes)} }

type sizeRow uint64

func (s *sizeRow) encode(w *writer) { w.num(uint64(*s)) }
func (s *sizeRow) decode(r *reader) { *s = sizeRow(r.num()) }

// leafRow is the entry as it is hashed.
type leafRow directory.Leaf

func (l *leafRow) encode(w *writer) { w.fixed(directory.Leaf(*l).Marshal()) }

func (l *leafRow) decode(r *reader) {
	var b [directory.LeafSize]byte
	r.fixed(b[:])
	leaf, _ := directory.ParseLeaf(b[:]) // fails for other lengths only
	*l = leafRow(leaf)
}
