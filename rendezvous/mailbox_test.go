package rendezvous

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
)

func item(to *device, kind wire.MailKind, envelope []byte) *wire.PutItem {
	return &wire.PutItem{Device: to.id[:], Envelope: envelope, Kind: kind}
}

// put stores items and returns their codes.
func (d *device) put(items ...*wire.PutItem) (codes []protocol.Code) {
	d.t.Helper()
	for _, r := range d.must(&wire.Request{Call: &wire.Request_Put{Put: &wire.Put{Items: items}}}).GetPutResults().GetResults() {
		codes = append(codes, protocol.Code(r.GetCode()))
	}
	if len(codes) != len(items) {
		d.t.Fatalf("%d results for %d items", len(codes), len(items))
	}
	return codes
}

func (d *device) fetch(after uint64, max uint32) *wire.Mail {
	d.t.Helper()
	return d.must(&wire.Request{Call: &wire.Request_Fetch{Fetch: &wire.Fetch{After: after, Max: max}}}).GetMail()
}

func (d *device) ack(envelopes ...[]byte) {
	d.t.Helper()
	a := &wire.Ack{}
	for _, e := range envelopes {
		id := protocol.IDOf(e)
		a.Ids = append(a.Ids, id[:])
	}
	d.must(&wire.Request{Call: &wire.Request_Ack{Ack: a}})
}

func expectCodes(t testing.TB, got []protocol.Code, want ...protocol.Code) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("codes %v, want %v", got, want)
	}
}

// Mail waits for a device that is away, is told to one that is there, stays
// until it is acknowledged, and is stored once however often it is put.
func TestMailbox(t *testing.T) {
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	one, two, three := []byte("one"), []byte("two"), []byte("three")

	expectCodes(t, alice.put(item(bob, wire.MailKind_MESSAGE, one), item(bob, wire.MailKind_MESSAGE, two)), protocol.OK, protocol.OK)
	bobs := bob.link()
	if !bobs.welcome.GetMail() {
		t.Error("the welcome does not tell of waiting mail")
	}
	bobs.settled()
	expectCodes(t, alice.put(item(bob, wire.MailKind_MESSAGE, two), item(bob, wire.MailKind_MESSAGE, three)), protocol.OK, protocol.OK)
	bobs.await("hint", func(h *wire.Hint) bool { return h.GetMail() })

	mail := bob.fetch(0, 0)
	var got [][]byte
	for _, m := range mail.GetItems() {
		got = append(got, m.GetEnvelope())
		if m.GetStoredMs() != uint64(s.clock.Now().UnixMilli()) {
			t.Errorf("stored at %d", m.GetStoredMs())
		}
	}
	if !slices.EqualFunc(got, [][]byte{one, two, three}, bytes.Equal) || mail.GetMore() {
		t.Fatalf("fetched %q, more %v", got, mail.GetMore())
	}
	if m := bob.fetch(mail.GetItems()[1].GetCursor(), 0); len(m.GetItems()) != 1 || !bytes.Equal(m.GetItems()[0].GetEnvelope(), three) {
		t.Errorf("after the second: %v", m)
	}
	if m := bob.fetch(0, 1); len(m.GetItems()) != 1 || !m.GetMore() {
		t.Errorf("one at a time: %v", m)
	}
	alice.ack(one) // not alice's to acknowledge
	bob.ack(one, three, []byte("unknown"))
	bob.ack(one)
	if m := bob.fetch(0, 0); len(m.GetItems()) != 1 || !bytes.Equal(m.GetItems()[0].GetEnvelope(), two) {
		t.Errorf("after the acknowledgement: %v", m)
	}
	if m := alice.fetch(0, 0); len(m.GetItems()) != 0 {
		t.Errorf("alice got %v", m)
	}
	waiting, err := s.store.MailboxUsage(t.Context(), bob.id)
	if err != nil || waiting.Count != 1 {
		t.Errorf("waiting %v, %v", waiting, err)
	}
}

func TestPutRefused(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, stranger := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "stranger")
	befriend(alice, bob)
	alice.setContacts(bob, stranger) // one-sided: the stranger has not accepted alice
	nobody := newDevice(t, s, "nobody")
	const message, request = wire.MailKind_MESSAGE, wire.MailKind_REQUEST
	short := &wire.PutItem{Device: []byte{1}, Envelope: []byte("x")}
	expectCodes(t, alice.put(
		item(stranger, message, []byte("to a non-contact")),
		item(bob, message, []byte("to a contact")),
		item(nobody, message, []byte("to an unknown device")),
		item(bob, message, nil),
		item(bob, message, make([]byte, protocol.MaxEnvelope+1)),
		item(stranger, request, make([]byte, maxRequest+1)),
		item(bob, 99, []byte("unknown kind")),
		short,
		item(alice, message, []byte("to an own device")),
	), protocol.NotContact, protocol.OK, protocol.UnknownDevice, protocol.BadRequest, protocol.TooLarge,
		protocol.TooLarge, protocol.BadRequest, protocol.BadRequest, protocol.OK)
	expectCodes(t, stranger.put(item(alice, message, []byte("alice lists the stranger"))), protocol.OK)

	for name, n := range map[string]int{"none": 0, "too many": maxPutItems + 1} {
		t.Run(name, func(t *testing.T) {
			items := slices.Repeat([]*wire.PutItem{item(bob, message, []byte("x"))}, n)
			alice.refused(protocol.TooLarge, &wire.Request{Call: &wire.Request_Put{Put: &wire.Put{Items: items}}})
		})
	}
	if m := stranger.fetch(0, 0); len(m.GetItems()) != 0 {
		t.Errorf("the stranger got %v", m)
	}
}

func TestContactRequests(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	const request = wire.MailKind_REQUEST
	first := []byte("may I?")
	expectCodes(t, alice.put(item(bob, request, first), item(bob, request, []byte("or"))), protocol.OK, protocol.RequestPending)
	expectCodes(t, alice.put(item(bob, request, first)), protocol.OK) // a retry
	expectCodes(t, alice.put(item(bob, request, []byte("please?"))), protocol.RequestPending)
	bob.ack(first)
	expectCodes(t, alice.put(item(bob, request, []byte("please?"))), protocol.OK)

	phone := bob.second() // a device that came later gets one too
	expectCodes(t, alice.put(item(bob, request, []byte("you?")), item(phone, request, []byte("you?"))), protocol.RequestPending, protocol.OK)
	expectCodes(t, alice.put(item(phone, request, []byte("now?"))), protocol.RequestPending)

	// Ten an hour, thirty a day; six are used up.
	ask := func() *wire.PutResult {
		to := member(t, s, fmt.Sprintf("person_%d", s.clock.Now().UnixNano()%1e9))
		s.clock.add(time.Nanosecond)
		return alice.must(&wire.Request{Call: &wire.Request_Put{Put: &wire.Put{Items: []*wire.PutItem{item(to, request, []byte("hi"))}}}}).GetPutResults().GetResults()[0]
	}
	for range 4 {
		if r := ask(); r.GetCode() != 0 {
			t.Fatalf("refused early: %v", r)
		}
	}
	r := ask()
	if protocol.Code(r.GetCode()) != protocol.RateLimited || r.GetRetryAfterMs() == 0 {
		t.Fatalf("the eleventh: %v", r)
	}
	s.clock.add(time.Duration(r.GetRetryAfterMs()) * time.Millisecond)
	if r := ask(); r.GetCode() != 0 {
		t.Errorf("after the advised wait: %v", r)
	}
}

func TestQuotas(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Limits.MailboxCount, c.Limits.SenderCount = 2, 3 })
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	for _, d := range []*device{bob, carol} {
		d.setContacts(alice)
	}
	const message = wire.MailKind_MESSAGE
	expectCodes(t, alice.put(item(bob, message, []byte("1")), item(bob, message, []byte("2")), item(bob, message, []byte("3"))),
		protocol.OK, protocol.OK, protocol.MailboxFull)
	expectCodes(t, alice.put(item(carol, message, []byte("1")), item(carol, message, []byte("2"))), protocol.OK, protocol.SenderFull)
	bob.ack([]byte("1"))
	expectCodes(t, alice.put(item(carol, message, []byte("2"))), protocol.OK)
}

// The fullest answers still fit a frame, and nothing is left out.
func TestFetchInPages(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	const n = 11
	for i := range n {
		e := bytes.Repeat([]byte{byte(i)}, protocol.MaxEnvelope)
		expectCodes(t, alice.put(item(bob, wire.MailKind_MESSAGE, e)), protocol.OK)
	}
	var seen int
	var cursor uint64
	for {
		m := bob.fetch(cursor, 0)
		for _, it := range m.GetItems() {
			if it.GetEnvelope()[0] != byte(seen) {
				t.Fatalf("item %d holds %d", seen, it.GetEnvelope()[0])
			}
			seen, cursor = seen+1, it.GetCursor()
		}
		if !m.GetMore() {
			break
		}
	}
	if seen != n {
		t.Errorf("fetched %d of %d", seen, n)
	}
}

func TestMailExpires(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	alice.put(item(bob, wire.MailKind_MESSAGE, []byte("late")))
	s.clock.add(protocol.MailboxTTL + time.Second)
	if m := bob.fetch(0, 0); len(m.GetItems()) != 0 {
		t.Errorf("expired mail: %v", m)
	}
}

func TestAckTooMany(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	ids := slices.Repeat([][]byte{make([]byte, 32)}, maxAcks+1)
	alice.refused(protocol.TooLarge, &wire.Request{Call: &wire.Request_Ack{Ack: &wire.Ack{Ids: ids}}})
	alice.refused(protocol.BadRequest, &wire.Request{Call: &wire.Request_Ack{Ack: &wire.Ack{Ids: [][]byte{{1}}}}})
}
