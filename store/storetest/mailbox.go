package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

func letter(from protocol.AccountID, to protocol.DeviceID, text string) store.Mail {
	envelope := []byte(text)
	return store.Mail{
		To: to, From: from, ID: protocol.IDOf(envelope), Kind: store.Message,
		Envelope: envelope, Expires: start.Add(protocol.MailboxTTL),
	}
}

func request(from protocol.AccountID, to protocol.DeviceID, text string) store.Mail {
	m := letter(from, to, text)
	m.Kind = store.Request
	return m
}

func deliver(t testing.TB, r store.Rendezvous, q store.Quotas, mail ...store.Mail) []protocol.Code {
	t.Helper()
	codes, err := r.Put(ctx, mail, q)
	ok(t, err)
	return codes
}

func fetch(t testing.TB, r store.Rendezvous, device protocol.DeviceID, after uint64, now time.Time) []store.Stored {
	t.Helper()
	mail, err := r.Fetch(ctx, device, after, 1000, 1<<20, now)
	ok(t, err)
	return mail
}

func texts(mail []store.Stored) (s []string) {
	for _, m := range mail {
		s = append(s, string(m.Envelope))
	}
	return s
}

func ack(t testing.TB, r store.Rendezvous, device protocol.DeviceID, envelopes ...string) int {
	t.Helper()
	var ids []protocol.EnvelopeID
	for _, e := range envelopes {
		ids = append(ids, protocol.IDOf([]byte(e)))
	}
	n, err := r.Ack(ctx, device, ids)
	ok(t, err)
	return n
}

func usage(t testing.TB, r store.Rendezvous, device protocol.DeviceID, sender protocol.AccountID) [2]store.Usage {
	t.Helper()
	box, err := r.MailboxUsage(ctx, device)
	ok(t, err)
	sent, err := r.SenderUsage(ctx, sender)
	ok(t, err)
	return [2]store.Usage{box, sent}
}

func testMailboxOrder(t *testing.T, r store.Rendezvous) {
	alice, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	other := deviceID("alice", 1)
	equal(t, "empty mailbox", len(fetch(t, r, device, 0, start)), 0)
	deliver(t, r, store.Quotas{}, letter(bob, device, "1"), letter(bob, other, "x"), letter(alice, device, "2"))
	deliver(t, r, store.Quotas{}, letter(bob, device, "3"))
	mail := fetch(t, r, device, 0, start)
	equal(t, "mail", texts(mail), []string{"1", "2", "3"})
	equal(t, "first", mail[0].Mail, letter(bob, device, "1"))
	equal(t, "second", mail[1].Mail, letter(alice, device, "2"))
	equal(t, "mail of the other device", texts(fetch(t, r, other, 0, start)), []string{"x"})
	equal(t, "after the first", texts(fetch(t, r, device, mail[0].Seq, start)), []string{"2", "3"})
	equal(t, "after the last", len(fetch(t, r, device, mail[2].Seq, start)), 0)

	// Acknowledged out of order; the cursor never goes back, not even when the
	// box was empty in between.
	equal(t, "acked", ack(t, r, device, "2", "unknown", "2"), 1)
	equal(t, "mail", texts(fetch(t, r, device, 0, start)), []string{"1", "3"})
	equal(t, "acked", ack(t, r, device, "1", "3"), 2)
	equal(t, "acked for another device", ack(t, r, device, "x"), 0)
	deliver(t, r, store.Quotas{}, letter(bob, device, "4"))
	later := fetch(t, r, device, mail[2].Seq, start)
	equal(t, "mail after the old cursor", texts(later), []string{"4"})
}

func testFetchLimits(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	for i := range 10 {
		deliver(t, r, store.Quotas{}, letter(bob, device, fmt.Sprintf("%d%0*d", i, 99, 0))) // 100 bytes
	}
	for _, c := range []struct{ limit, maxBytes, want int }{
		{100, 1 << 20, 10}, {3, 1 << 20, 3}, {100, 350, 3}, {100, 300, 3}, {100, 1, 1}, {1, 1, 1}, {10, 1000, 10},
	} {
		mail, err := r.Fetch(ctx, device, 0, c.limit, c.maxBytes, start)
		ok(t, err)
		equal(t, fmt.Sprintf("items with %+v", c), len(mail), c.want)
	}
}

func testMailboxIdempotence(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	for range 3 { // the same envelope waits once, also within one call
		codes := deliver(t, r, store.Quotas{RecipientCount: 1}, letter(bob, device, "1"), letter(bob, device, "1"))
		equal(t, "codes", codes, []protocol.Code{protocol.OK, protocol.OK})
	}
	equal(t, "mail", texts(fetch(t, r, device, 0, start)), []string{"1"})
	equal(t, "usage", usage(t, r, device, bob), [2]store.Usage{{Count: 1, Bytes: 1}, {Count: 1, Bytes: 1}})
	ack(t, r, device, "1")
	ack(t, r, device, "1")
	equal(t, "usage", usage(t, r, device, bob), [2]store.Usage{})
	deliver(t, r, store.Quotas{}, letter(bob, device, "1")) // acknowledged ids are not remembered
	equal(t, "mail", texts(fetch(t, r, device, 0, start)), []string{"1"})
}

func testQuotas(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	bob, bobs := person(t, r, "bob")
	carol, _ := person(t, r, "carol")
	const (
		yes    = protocol.OK
		full   = protocol.MailboxFull
		sender = protocol.SenderFull
	)
	for _, c := range []struct {
		q    store.Quotas
		want []protocol.Code // for three envelopes of 10, 20, 30 bytes from bob to alice
	}{
		{store.Quotas{}, []protocol.Code{yes, yes, yes}},
		{store.Quotas{RecipientCount: 2}, []protocol.Code{yes, yes, full}},
		{store.Quotas{RecipientBytes: 59}, []protocol.Code{yes, yes, full}},
		{store.Quotas{RecipientBytes: 45}, []protocol.Code{yes, yes, full}},
		{store.Quotas{RecipientBytes: 60}, []protocol.Code{yes, yes, yes}},
		{store.Quotas{RecipientBytes: 15}, []protocol.Code{yes, full, full}},
		{store.Quotas{SenderCount: 1}, []protocol.Code{yes, sender, sender}},
		{store.Quotas{SenderBytes: 40}, []protocol.Code{yes, yes, sender}},
	} {
		var mail []store.Mail
		for i := range 3 {
			mail = append(mail, letter(bob, device, fmt.Sprintf("%0*d", 10+10*i, i)))
		}
		equal(t, fmt.Sprintf("codes with %+v", c.q), deliver(t, r, c.q, mail...), c.want)
		for _, m := range mail {
			ack(t, r, device, string(m.Envelope))
		}
		equal(t, "usage after acknowledgement", usage(t, r, device, bob), [2]store.Usage{})
	}

	// The sender's quota is over all mailboxes, and another's is another's.
	q := store.Quotas{SenderCount: 2}
	deliver(t, r, q, letter(bob, device, "1"), letter(bob, deviceID("alice", 1), "2"))
	equal(t, "third", deliver(t, r, q, letter(bob, bobs, "3"), letter(carol, bobs, "4")), []protocol.Code{sender, yes})
	equal(t, "usage", usage(t, r, device, bob), [2]store.Usage{{Count: 1, Bytes: 1}, {Count: 2, Bytes: 2}})
}

// testRoomMailQuotas: mail of rooms counts by itself for its sender, and as any mail and
// by itself in the mailbox, until it is gone.
func testRoomMailQuotas(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	carol, _ := person(t, r, "carol")
	ofRoom := func(from protocol.AccountID, text string) store.Mail {
		m := letter(from, device, text)
		m.Kind = store.OfRoom
		return m
	}
	const (
		yes    = protocol.OK
		full   = protocol.MailboxFull
		sender = protocol.SenderFull
	)
	for i, c := range []struct {
		q    store.Quotas
		want []protocol.Code // for a, b, d of rooms and a text of bob's, then one of rooms and a text of carol's
	}{
		{store.Quotas{RoomSenderCount: 2, SenderCount: 1}, []protocol.Code{yes, yes, sender, yes, yes, yes}},
		{store.Quotas{RoomSenderBytes: 1, SenderBytes: 4}, []protocol.Code{yes, sender, sender, yes, yes, yes}},
		{store.Quotas{RoomRecipientCount: 2}, []protocol.Code{yes, yes, full, yes, full, yes}},
		{store.Quotas{RoomRecipientBytes: 2}, []protocol.Code{yes, yes, full, yes, full, yes}},
		{store.Quotas{RecipientCount: 2}, []protocol.Code{yes, yes, full, full, full, full}},
	} {
		mail := []store.Mail{ofRoom(bob, "a"), ofRoom(bob, "b"), ofRoom(bob, "d"), letter(bob, device, "text"), ofRoom(carol, "e"), letter(carol, device, "more")}
		equal(t, fmt.Sprintf("codes with %+v", c.q), deliver(t, r, c.q, mail...), c.want)
		if i%2 == 0 {
			for _, m := range mail {
				ack(t, r, device, string(m.Envelope))
			}
		} else if _, err := r.Sweep(ctx, start.Add(protocol.MailboxTTL)); err != nil {
			t.Fatal(err)
		}
		equal(t, "usage when all is gone", usage(t, r, device, bob), [2]store.Usage{})
	}
}

func testMailToNobody(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	codes := deliver(t, r, store.Quotas{}, letter(bob, deviceID("nobody", 0), "1"), letter(bob, device, "2"))
	equal(t, "codes", codes, []protocol.Code{protocol.UnknownDevice, protocol.OK})
	equal(t, "usage", usage(t, r, device, bob), [2]store.Usage{{Count: 1, Bytes: 1}, {Count: 1, Bytes: 1}})
}

func testMailExpiry(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	for i := range 500 { // more than one step of a sweep
		m := letter(bob, device, fmt.Sprintf("%03d", i))
		m.Expires = start.Add(time.Hour)
		if i%100 == 50 {
			m.Expires = start.Add(2 * time.Hour)
		}
		deliver(t, r, store.Quotas{}, m)
	}
	left := []string{"050", "150", "250", "350", "450"}
	late := start.Add(time.Hour)
	equal(t, "before", len(fetch(t, r, device, 0, late.Add(-time.Second))), 500)
	equal(t, "expired mail is not fetched", texts(fetch(t, r, device, 0, late)), left)
	n, err := r.Sweep(ctx, late)
	ok(t, err)
	equal(t, "swept", n, 495)
	equal(t, "mail", texts(fetch(t, r, device, 0, start)), left)
	equal(t, "usage", usage(t, r, device, bob), [2]store.Usage{{Count: 5, Bytes: 15}, {Count: 5, Bytes: 15}})
	n, err = r.Sweep(ctx, late.Add(time.Minute))
	ok(t, err)
	equal(t, "swept again", n, 0)
	n, err = r.Sweep(ctx, late.Add(time.Hour))
	ok(t, err)
	equal(t, "swept at last", n, 5)
	equal(t, "usage", usage(t, r, device, bob), [2]store.Usage{})
}

// testContactRequests: of one account, one request waits at each device.
func testContactRequests(t *testing.T, r store.Rendezvous) {
	alice, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	carol, _ := person(t, r, "carol")
	other := deviceID("alice", 1)
	yes, pending := protocol.OK, protocol.RequestPending

	codes := deliver(t, r, store.Quotas{}, request(bob, device, "hi"))
	equal(t, "to one device", codes, []protocol.Code{yes})
	codes = deliver(t, r, store.Quotas{}, request(bob, device, "hi"), request(bob, other, "hi there"))
	equal(t, "again, and to a device that came later", codes, []protocol.Code{yes, yes})
	dave, _ := person(t, r, "dave")
	codes = deliver(t, r, store.Quotas{}, request(carol, deviceID("dave", 0), "1"), request(carol, deviceID("dave", 0), "2"),
		request(carol, deviceID("dave", 1), "3"), request(carol, deviceID("dave", 1), "4"), request(dave, device, "5"))
	equal(t, "one per device at once", codes, []protocol.Code{yes, pending, yes, pending, yes})
	codes = deliver(t, r, store.Quotas{},
		request(bob, device, "hi"),        // a retry
		request(bob, device, "hello?"),    // another one
		letter(bob, device, "no request"), // is not our business here
		request(carol, device, "from carol"),
		request(alice, deviceID("bob", 0), "from alice"))
	equal(t, "later", codes, []protocol.Code{yes, pending, yes, yes, yes})

	ack(t, r, device, "hi")
	codes = deliver(t, r, store.Quotas{}, request(bob, other, "2"), request(bob, device, "2"))
	equal(t, "one device has read it", codes, []protocol.Code{pending, yes})
	ack(t, r, other, "hi there")
	equal(t, "the other has", deliver(t, r, store.Quotas{}, request(bob, other, "3")), []protocol.Code{yes})
	_, err := r.Sweep(ctx, start.Add(protocol.MailboxTTL))
	ok(t, err)
	equal(t, "after it expired", deliver(t, r, store.Quotas{}, request(bob, other, "4")), []protocol.Code{yes})
	full := deliver(t, r, store.Quotas{RecipientCount: 1}, request(carol, other, "5"))
	equal(t, "refused for another reason", full, []protocol.Code{protocol.MailboxFull})
	equal(t, "does not count", deliver(t, r, store.Quotas{}, request(carol, other, "5")), []protocol.Code{yes})
}

// testMailboxModel puts, fetches, acknowledges and expires at random and
// compares with lists in memory.
func testMailboxModel(t *testing.T, r store.Rendezvous) {
	type box []store.Mail
	_, first := person(t, r, "alice")
	boxes := map[protocol.DeviceID]box{first: nil, deviceID("alice", 1): nil}
	devices := []protocol.DeviceID{first, deviceID("alice", 1)}
	senders := []protocol.AccountID{accountID("bob"), accountID("carol")}
	q := store.Quotas{RecipientCount: 8, SenderCount: 12}
	now := start

	sentBy := func(from protocol.AccountID) (n int) {
		for _, b := range boxes {
			for _, m := range b {
				if m.From == from {
					n++
				}
			}
		}
		return n
	}
	put := func(m store.Mail) protocol.Code {
		b := boxes[m.To]
		switch {
		case slices.ContainsFunc(b, func(o store.Mail) bool { return o.ID == m.ID }):
			return protocol.OK
		case len(b) == q.RecipientCount:
			return protocol.MailboxFull
		case sentBy(m.From) == q.SenderCount:
			return protocol.SenderFull
		}
		boxes[m.To] = append(b, m)
		return protocol.OK
	}
	rapid.Check(t, func(t *rapid.T) {
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			device := rapid.SampledFrom(devices).Draw(t, "device")
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				var mail []store.Mail
				for range rapid.IntRange(1, 4).Draw(t, "items") {
					m := letter(rapid.SampledFrom(senders).Draw(t, "from"), device, fmt.Sprint(rapid.IntRange(0, 30).Draw(t, "text")))
					m.Expires = now.Add(time.Duration(rapid.IntRange(1, 5).Draw(t, "hours")) * time.Hour)
					mail = append(mail, m)
				}
				var want []protocol.Code
				for _, m := range mail {
					want = append(want, put(m))
				}
				codes, err := r.Put(ctx, mail, q)
				if err != nil || !slices.Equal(codes, want) {
					t.Fatalf("put: %v, %v, want %v", codes, err, want)
				}
			case 2:
				var ids []protocol.EnvelopeID
				for range rapid.IntRange(1, 4).Draw(t, "acks") {
					ids = append(ids, protocol.IDOf(fmt.Append(nil, rapid.IntRange(0, 30).Draw(t, "text"))))
				}
				want := 0
				for _, id := range ids {
					kept := slices.DeleteFunc(slices.Clone(boxes[device]), func(m store.Mail) bool { return m.ID == id })
					want += len(boxes[device]) - len(kept)
					boxes[device] = kept
				}
				if n, err := r.Ack(ctx, device, ids); err != nil || n != want {
					t.Fatalf("ack: %d, %v, want %d", n, err, want)
				}
			case 3:
				now = now.Add(time.Duration(rapid.IntRange(0, 120).Draw(t, "minutes")) * time.Minute)
				want := 0
				for d, b := range boxes {
					boxes[d] = slices.DeleteFunc(slices.Clone(b), func(m store.Mail) bool { return !m.Expires.After(now) })
					want += len(b) - len(boxes[d])
				}
				if n, err := r.Sweep(ctx, now); err != nil || n != want {
					t.Fatalf("sweep: %d, %v, want %d", n, err, want)
				}
			}
			if err := sameMail(r, device, boxes[device], now); err != nil {
				t.Fatal(err)
			}
		}
		for _, from := range senders {
			u, err := r.SenderUsage(ctx, from)
			if err != nil || u.Count != sentBy(from) {
				t.Fatalf("sender's usage %+v, %v, want %d", u, err, sentBy(from))
			}
		}
	})
}

func sameMail(r store.Rendezvous, device protocol.DeviceID, want []store.Mail, now time.Time) error {
	got, err1 := r.Fetch(ctx, device, 0, 1000, 1<<20, now)
	u, err2 := r.MailboxUsage(ctx, device)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	same := slices.EqualFunc(got, want, func(a store.Stored, b store.Mail) bool {
		return a.ID == b.ID && a.From == b.From && bytes.Equal(a.Envelope, b.Envelope)
	})
	if !same || u.Count != len(want) {
		return fmt.Errorf("mail %q and usage %+v, want %d items", texts(got), u, len(want))
	}
	return nil
}
