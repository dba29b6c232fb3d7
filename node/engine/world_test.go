package engine

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// tb is what testing.T and rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// world is some nodes, a rendezvous and a network, all in one goroutine, with
// a clock of its own.
type world struct {
	t     tb
	now   time.Time
	rsa   key.RSAPrivate
	home  *rendezvous
	nodes []*node
	stray []stray
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func newWorld(t testing.TB) *world { return newWorldWith(t, keytest.RSA(t, 0)) }

func newWorldWith(t tb, rsa key.RSAPrivate) *world {
	w := &world{t: t, now: start, rsa: rsa}
	w.home = &rendezvous{w: w, names: map[string]*entry{}, devices: map[protocol.DeviceID]*shelf{}}
	return w
}

// node is one engine over its store, with a network that may be cut.
type node struct {
	w    *world
	name string
	kv   *memory.DB
	e    *Engine
	hint Hint

	away    bool // no direct connections
	offline bool // nor to the rendezvous
	next    time.Time
	sent    [][]byte // every envelope that left, for tests that replay

	fate  func() fate // what the network does to a direct envelope; nil: delivers
	crash func() bool // whether the process dies in this transaction; nil: never
}

// crashed is the panic of a process that dies before its transaction commits.
type crashed struct{}

type fate uint8

const (
	arrives  fate = iota
	lost          // never arrives
	ackLost       // arrives, but the sender does not hear of it
	delayed       // is put into the mailbox instead
	repeated      // arrives twice
	astray        // arrives when the world likes
)

// stray is an envelope that is still somewhere in the network.
type stray struct {
	from, to *node
	env      []byte
}

func (w *world) add(name string) *node {
	w.t.Helper()
	id, err := NewIdentityWith(w.now, name, "", "test", Home{Peer: []byte{1}, Addrs: []string{"/ip4/127.0.0.1/tcp/1"}}, w.rsa)
	w.check(err)
	n := &node{w: w, name: name, kv: memory.New()}
	w.check(n.kv.Update(context.Background(), func(tx store.Tx) error {
		return errors.Join(Init(tx, id), MarkRegistered(tx))
	}))
	n.load()
	w.nodes = append(w.nodes, n)
	w.home.names[name] = &entry{account: id.Account, chain: id.Chain.Bytes()}
	w.home.devices[id.Device] = &shelf{bound: map[protocol.PrekeyID][32]byte{}, claims: map[[16]byte][]byte{}}
	n.syncPrekeys()
	return n
}

// addDevice adds a node that is one more device of an account. The rendezvous
// does not know of it until publish.
func (w *world) addDevice(of *node) *node {
	w.t.Helper()
	id := *of.e.Identity()
	id.DSK, id.DIK, id.Host = key.NewDevice(), key.NewIdentity(), key.NewHost()
	cert := id.Cert
	cert.Signing, cert.Identity, cert.PeerID, cert.Name = id.DSK.Public(), id.DIK.Public(), id.Host.Public().PeerID(), "second"
	var err error
	id.Cert, err = account.NewCert(id.AIK, cert)
	w.check(err)
	id.Device = id.Cert.DeviceID()
	id.Chain, err = id.Chain.AddDevice(w.now, id.AIK, id.Cert)
	w.check(err)
	n := &node{w: w, name: of.name, kv: memory.New()}
	w.check(n.kv.Update(context.Background(), func(tx store.Tx) error { return Init(tx, &id) }))
	n.load()
	w.nodes = append(w.nodes, n)
	w.home.devices[id.Device] = &shelf{bound: map[protocol.PrekeyID][32]byte{}, claims: map[[16]byte][]byte{}}
	n.syncPrekeys()
	return n
}

// publish gives a chain to the rendezvous and tells everybody that it changed.
func (w *world) publish(name string, chain *account.Chain) {
	w.t.Helper()
	w.home.names[name].chain = chain.Bytes()
	for _, n := range w.nodes {
		n.do(func(tx store.Tx) (Hint, error) { return n.e.Changed(tx, w.now, chain.Account()) })
	}
}

func (w *world) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatalf("%v", err)
	}
}

// load is a start of the process: everything but the store is gone.
func (n *node) load() {
	n.w.t.Helper()
	n.hint, n.next = Hint{}, time.Time{}
	n.w.check(n.kv.Update(context.Background(), func(tx store.Tx) (err error) {
		if n.e, err = Load(tx); err != nil {
			return err
		}
		_, _, err = n.e.Hello(tx)
		return err
	}))
	n.view(func(tx store.Tx) (err error) {
		if n.hint.Outbox, err = n.e.QueuedDevices(tx); err != nil {
			return err
		}
		n.hint.Lookup, err = n.e.Wanted(tx)
		return err
	})
}

// update runs one call of the engine and keeps its hints.
func (n *node) update(fn func(store.Tx) (Hint, error)) error {
	var hint Hint
	err := n.kv.Update(context.Background(), func(tx store.Tx) (err error) {
		hint, err = fn(tx)
		if err == nil && n.crash != nil && n.crash() {
			panic(crashed{})
		}
		return err
	})
	if err == nil {
		n.hint.Merge(hint)
	}
	return err
}

func (n *node) do(fn func(store.Tx) (Hint, error)) {
	n.w.t.Helper()
	n.w.check(n.update(fn))
}

func (n *node) view(fn func(store.Tx) error) {
	n.w.t.Helper()
	n.w.check(n.kv.View(context.Background(), fn))
}

func (n *node) account() protocol.AccountID { return n.e.Identity().Account }
func (n *node) device() protocol.DeviceID   { return n.e.Identity().Device }

// ---- what people do

func (n *node) ask(other *node) {
	n.w.t.Helper()
	f := n.w.home.look(other.name, true)
	n.do(func(tx store.Tx) (Hint, error) { return n.e.Add(tx, n.w.now, f, "hello") })
}

func (n *node) accept(other *node) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return n.e.Accept(tx, n.w.now, other.account()) })
}

// befriend makes two nodes contacts.
func (w *world) befriend(a, b *node) {
	w.t.Helper()
	a.ask(b)
	w.settle()
	b.accept(a)
	w.settle()
	if r := a.contact(b).Relation; r != Accepted {
		w.t.Fatalf("%s is %q to %s", b.name, r, a.name)
	}
}

func (n *node) send(to *node, text string) protocol.MsgID {
	n.w.t.Helper()
	id := protocol.NewMsgID()
	n.w.check(n.trySend(to, id, text))
	return id
}

func (n *node) trySend(to *node, id protocol.MsgID, text string) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.Compose(tx, n.w.now, to.account(), id, text) })
}

func (n *node) contact(other *node) (c Contact) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		c, err = n.e.Contact(tx, other.account())
		return err
	})
	return c
}

func (n *node) history(with *node) (list []Message) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		before := uint64(0)
		for {
			page, err := n.e.History(tx, with.account(), before, 1000)
			if err != nil {
				return err
			}
			list = append(slices.Clone(page), list...)
			if len(page) < 1000 {
				return nil
			}
			before = page[0].Position
		}
	})
	return list
}

func (n *node) message(id protocol.MsgID) (m Message) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		m, err = n.e.Message(tx, id)
		return err
	})
	return m
}

func (n *node) events(kind Kind) (list []Event) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		for after := uint64(0); ; {
			page, err := n.e.Events(tx, after, 1000)
			if err != nil || len(page) == 0 {
				return err
			}
			for _, ev := range page {
				if ev.Kind == kind {
					list = append(list, ev)
				}
			}
			after = page[len(page)-1].Seq
		}
	})
	return list
}

func (n *node) counts() (queued, waiting int) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		queued, waiting, err = n.e.Counts(tx)
		return err
	})
	return queued, waiting
}

func (n *node) rows(table byte) (rows []store.Pair) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{table}, store.PrefixEnd([]byte{table})) {
			if err != nil {
				return err
			}
			rows = append(rows, pair)
		}
		return nil
	})
	return rows
}

func texts(list []Message) (out []string) {
	for _, m := range list {
		out = append(out, m.Text)
	}
	return out
}

// ---- what programs do

// settle lets everything happen that can happen now, and what is due within
// the next second.
func (w *world) settle() {
	w.t.Helper()
	for round := 0; ; round++ {
		busy := false
		for _, n := range w.nodes {
			busy = n.step() || busy
		}
		if !busy {
			return
		}
		if round > 2000 {
			w.t.Fatalf("the world does not settle")
		}
		w.now = w.now.Add(20 * time.Millisecond)
	}
}

// pass lets time pass, with everything that happens meanwhile.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	for end := w.now.Add(d); w.now.Before(end); {
		for _, n := range w.nodes { // what was refused is tried again
			n.view(func(tx store.Tx) error {
				list, err := n.e.QueuedDevices(tx)
				n.hint.Merge(Hint{Outbox: list})
				return err
			})
		}
		w.settle()
		next := w.now.Add(10 * time.Minute)
		if next.After(end) {
			next = end
		}
		for _, n := range w.nodes {
			if !n.next.IsZero() && n.next.Before(next) {
				next = n.next
			}
		}
		w.now = maxTime(next, w.now.Add(time.Millisecond))
	}
	w.settle()
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// step does what a node does when it is woken, and tells whether it did
// anything.
func (n *node) step() bool {
	n.w.t.Helper()
	busy := false
	if n.hint.Tick || n.next.IsZero() || !n.w.now.Before(n.next.Add(-time.Second)) {
		if due := !n.next.IsZero() && !n.w.now.Before(n.next); due || n.hint.Tick || n.next.IsZero() {
			n.tick()
		}
		busy = !n.w.now.Before(n.next.Add(-time.Second))
	}
	h := n.hint
	n.hint = Hint{}
	if n.offline {
		n.hint.Lookup, n.hint.Refresh, n.hint.Prekeys = h.Lookup, h.Refresh, h.Prekeys
	} else {
		busy = n.look(h) || busy
		if h.Prekeys {
			n.syncPrekeys()
		}
		busy = n.fetch() || busy
	}
	for _, d := range h.Outbox {
		if n.flush(d) {
			busy = true
		} else {
			n.hint.outbox(d)
		}
	}
	return busy
}

func (n *node) tick() {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (h Hint, err error) {
		n.next, h, err = n.e.Tick(tx, n.w.now)
		return h, err
	})
	n.hint.Tick = false
}

func (n *node) look(h Hint) bool {
	n.w.t.Helper()
	busy := false
	for prekeys, list := range map[bool][]protocol.AccountID{true: h.Lookup, false: h.Refresh} {
		for _, a := range list {
			n.lookUp(a, prekeys)
			busy = true
		}
	}
	return busy
}

func (n *node) lookUp(a protocol.AccountID, prekeys bool) {
	n.w.t.Helper()
	f := n.w.home.lookAccount(a, prekeys)
	if f == nil {
		n.lookupFailed(a, protocol.Refuse(protocol.UnknownAccount, ""))
		return
	}
	err := n.update(func(tx store.Tx) (Hint, error) { return n.e.SetAccount(tx, n.w.now, f) })
	if err != nil {
		n.lookupFailed(a, err)
	}
}

func (n *node) lookupFailed(a protocol.AccountID, cause error) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) { return Hint{Tick: true}, n.e.LookupFailed(tx, n.w.now, a, cause) })
}

// flush sends what is queued for a device, directly or to its mailbox. False:
// neither can be reached now.
func (n *node) flush(to protocol.DeviceID) bool {
	n.w.t.Helper()
	var queue []Queued
	n.view(func(tx store.Tx) (err error) {
		queue, err = n.e.Queue(tx, to, 0, 1<<20, 64)
		return err
	})
	peer := n.w.nodeOf(to)
	direct := peer != nil && !n.away && !peer.away
	if !direct && n.offline {
		return false
	}
	for _, q := range queue {
		n.sent = append(n.sent, q.Envelope)
		if direct {
			n.deliver(peer, q)
		} else {
			n.putMail(q)
		}
	}
	return true
}

func (w *world) nodeOf(d protocol.DeviceID) *node {
	for _, n := range w.nodes {
		if n.device() == d {
			return n
		}
	}
	return nil
}

// deliver hands an envelope to the peer's engine, and the answer back.
func (n *node) deliver(peer *node, q Queued) {
	n.w.t.Helper()
	what := arrives
	if n.fate != nil {
		what = n.fate()
	}
	switch what {
	case lost:
		return
	case astray:
		n.w.stray = append(n.w.stray, stray{n, peer, q.Envelope})
		return
	case delayed:
		n.putMail(q)
		return
	case repeated:
		peer.receive(q.Envelope, n.device(), Direct)
	}
	code := peer.receive(q.Envelope, n.device(), Direct)
	if what == ackLost {
		return
	}
	n.answered(q, code, n.delivered)
}

func (n *node) delivered(q Queued) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.Delivered(tx, n.w.now, q.To, []protocol.EnvelopeID{q.ID}, Direct)
	})
}

func (n *node) putMail(q Queued) {
	n.w.t.Helper()
	n.answered(q, n.w.home.put(n, q), func(q Queued) {
		n.do(func(tx store.Tx) (Hint, error) {
			return n.e.Stored(tx, n.w.now, q.To, []protocol.EnvelopeID{q.ID})
		})
	})
}

func (n *node) answered(q Queued, code protocol.Code, ok func(Queued)) {
	n.w.t.Helper()
	if code == protocol.OK {
		ok(q)
		return
	}
	n.do(func(tx store.Tx) (Hint, error) {
		return n.e.Refused(tx, n.w.now, q.To, q.ID, protocol.Refuse(code, ""))
	})
}

// receive is what a node does with an envelope that came.
func (n *node) receive(env []byte, from protocol.DeviceID, via Path) protocol.Code {
	n.w.t.Helper()
	o, err := n.open(env)
	if need, ok := errors.AsType[*NeedAccount](err); ok {
		n.lookUp(need.Account, false)
		o, err = n.open(env)
	}
	if refusal, ok := errors.AsType[*protocol.Error](err); ok {
		return refusal.Code
	}
	if errors.As(err, new(*NeedAccount)) {
		return protocol.Unavailable
	}
	n.w.check(err)
	o.From = from
	var code protocol.Code
	n.do(func(tx store.Tx) (h Hint, err error) {
		code, h, err = n.e.Receive(tx, n.w.now, o, via)
		return h, err
	})
	return code
}

func (n *node) open(env []byte) (o Opened, err error) {
	err = n.kv.View(context.Background(), func(tx store.Tx) (err error) {
		o, err = n.e.Open(tx, n.w.now, env)
		return err
	})
	return o, err
}

// fetch takes the node's mail.
func (n *node) fetch() bool {
	n.w.t.Helper()
	s := n.w.home.devices[n.device()]
	before := len(s.mail)
	for _, env := range slices.Clone(s.mail) {
		if code := n.receive(env, protocol.DeviceID{}, Mailbox); code == protocol.Unavailable || code == protocol.RateLimited {
			continue
		}
		i := slices.IndexFunc(s.mail, func(m []byte) bool { return &m[0] == &env[0] })
		s.mail = slices.Delete(s.mail, i, i+1)
	}
	return len(s.mail) < before
}

// syncPrekeys uploads what the plan asks for. It returns how many requests it
// made.
func (n *node) syncPrekeys() (requests int) {
	n.w.t.Helper()
	have := n.w.home.counts(n.device())
	for range 3 {
		up := n.plan(have)
		if up == nil {
			return requests
		}
		requests++
		var got *wire.PrekeyCounts
		if got = n.w.home.upload(n.device(), up); got == nil {
			return requests
		}
		if !n.stored(up, got) {
			return requests
		}
		have = got
	}
	n.w.t.Fatalf("uploads do not end")
	return requests
}

func (n *node) plan(have *wire.PrekeyCounts) (up *wire.UploadPrekeys) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (h Hint, err error) {
		up, err = n.e.PrekeyPlan(tx, n.w.now, have)
		return Hint{Tick: true}, err
	})
	return up
}

func (n *node) stored(up *wire.UploadPrekeys, got *wire.PrekeyCounts) (again bool) {
	n.w.t.Helper()
	n.do(func(tx store.Tx) (h Hint, err error) {
		again, err = n.e.PrekeysStored(tx, n.w.now, up, got)
		return h, err
	})
	return again
}

// ---- the rendezvous

// rendezvous keeps names, chains, prekeys and mail, and may be told to lie.
type rendezvous struct {
	w       *world
	names   map[string]*entry
	devices map[protocol.DeviceID]*shelf

	tamper   func(*wire.Found)            // changes answers
	conflict func(protocol.PrekeyID) bool // pretends that ids are bound to other keys
	deaf     bool                         // stores uploads and does not answer
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
}

func (r *rendezvous) look(name string, prekeys bool) *wire.Found {
	e := r.names[name]
	if e == nil {
		return nil
	}
	f := &wire.Found{Name: name, Chain: e.chain, NowMs: uint64(r.w.now.UnixMilli())}
	if prekeys {
		for _, n := range r.w.nodes {
			if n.account() == e.account {
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
	if len(up.GetSignedRecord()) > 0 {
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

func (r *rendezvous) put(from *node, q Queued) protocol.Code {
	s := r.devices[q.To]
	if s == nil {
		return protocol.UnknownDevice
	}
	to := r.w.nodeOf(q.To)
	if q.Kind == wire.MailKind_MESSAGE && !to.allows(from.account()) {
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
