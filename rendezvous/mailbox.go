package rendezvous

import (
	"context"
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

const (
	maxPutItems = 256       // per call
	maxRequest  = 8 << 10   // bytes of a contact request
	maxFetch    = 256       // items per call
	maxMail     = 384 << 10 // bytes of envelopes per answer; one more still fits the frame
	maxAcks     = 4096      // ids per call
)

// put stores mail for devices that are away. Each item is judged by itself;
// those that are let through go to the store in one call, and nothing is
// answered before they are durable. The same envelope again is OK again.
func (s *Server) put(ctx context.Context, from store.Device, p *wire.Put, resp *wire.Response) error {
	items := p.GetItems()
	if len(items) == 0 || len(items) > maxPutItems {
		return protocol.Refuse(protocol.TooLarge, "1 to %d envelopes per call", maxPutItems)
	}
	results := make([]*wire.PutResult, len(items))
	check := putCheck{server: s, from: from, accounts: map[protocol.AccountID]error{}, requests: map[protocol.AccountID]error{}, rooms: map[protocol.AccountID]error{}}
	var mail []store.Mail
	var places []int // where the result of each of mail belongs
	for i, item := range items {
		m, err := check.item(ctx, item)
		if err == nil {
			mail, places = append(mail, m), append(places, i)
			continue
		}
		e := s.refusal(err)
		results[i] = &wire.PutResult{Code: uint32(e.Code), RetryAfterMs: p2p.Millis(e.RetryAfter)}
	}
	codes, err := s.storeMail(ctx, mail)
	if err != nil {
		return err
	}
	for k, code := range codes {
		results[places[k]] = &wire.PutResult{Code: uint32(code)}
	}
	resp.Result = &wire.Response_PutResults{PutResults: &wire.PutResults{Results: results}}
	return nil
}

// storeMail commits mail, then tells the recipients that are online.
func (s *Server) storeMail(ctx context.Context, mail []store.Mail) ([]protocol.Code, error) {
	if len(mail) == 0 {
		return nil, nil
	}
	l := s.cfg.Limits
	codes, err := s.store.Put(ctx, mail, store.Quotas{
		RecipientCount: l.MailboxCount, RecipientBytes: l.MailboxBytes,
		SenderCount: l.SenderCount, SenderBytes: l.SenderBytes,
		RoomRecipientCount: max(1, l.MailboxCount/2), RoomRecipientBytes: max(1, l.MailboxBytes/2),
		RoomSenderCount: l.RoomSenderCount, RoomSenderBytes: l.RoomSenderBytes,
	})
	if err != nil {
		return nil, fmt.Errorf("store mail: %w", err)
	}
	for k, code := range codes {
		if code != protocol.OK {
			continue
		}
		if to := s.presence.link(mail[k].To); to != nil {
			to.tellMail()
		}
	}
	return codes, nil
}

// putCheck judges the items of one call. It remembers what it found out about
// an account, since a message goes to all devices of it.
type putCheck struct {
	server   *Server
	from     store.Device
	accounts map[protocol.AccountID]error // whether they take the sender's messages
	requests map[protocol.AccountID]error // whether one more request may go to them
	rooms    map[protocol.AccountID]error // whether they are in a room with the sender
}

func (c *putCheck) item(ctx context.Context, item *wire.PutItem) (store.Mail, error) {
	to, err := parseID[protocol.DeviceID](item.GetDevice())
	if err != nil {
		return store.Mail{}, err
	}
	kind, limit := store.Message, protocol.MaxEnvelope
	switch item.GetKind() {
	case wire.MailKind_MESSAGE:
	case wire.MailKind_REQUEST:
		kind, limit = store.Request, maxRequest
	case wire.MailKind_ROOM:
		kind = store.OfRoom
	default:
		return store.Mail{}, protocol.Refuse(protocol.BadRequest, "unknown kind of mail")
	}
	size := len(item.GetEnvelope())
	if size == 0 {
		return store.Mail{}, protocol.Refuse(protocol.BadRequest, "empty envelope")
	}
	if size > limit {
		return store.Mail{}, protocol.Refuse(protocol.TooLarge, "envelope of %d bytes, at most %d", size, limit)
	}
	d, err := c.server.store.Device(ctx, to)
	if err != nil {
		return store.Mail{}, fmt.Errorf("find recipient: %w", err)
	}
	if d.Revoked {
		return store.Mail{}, protocol.Refuse(protocol.Revoked, "the recipient was revoked")
	}
	switch kind {
	case store.Message:
		err = once(c.accounts, d.Account, func() error { return c.accepted(ctx, d.Account) })
	case store.Request:
		err = once(c.requests, d.Account, func() error { return c.mayRequest() })
	case store.OfRoom:
		err = once(c.rooms, d.Account, func() error { return c.sharesRoom(ctx, d.Account) })
	}
	if err != nil {
		return store.Mail{}, err
	}
	return store.Mail{
		To: to, From: c.from.Account, ID: protocol.IDOf(item.GetEnvelope()), Kind: kind,
		Envelope: item.GetEnvelope(), Expires: c.server.now().Add(c.server.cfg.Limits.MailboxTTL),
	}, nil
}

func (c *putCheck) accepted(ctx context.Context, to protocol.AccountID) error {
	ok, err := c.server.accepts(ctx, to, c.from.Account)
	if err != nil {
		return err
	}
	if !ok {
		return protocol.Refuse(protocol.NotContact, "the recipient has not accepted the sender")
	}
	return nil
}

func (c *putCheck) sharesRoom(ctx context.Context, with protocol.AccountID) error {
	ok, err := c.server.store.ShareRoom(ctx, c.from.Account, with, true) // answers too, of who left
	if err != nil {
		return fmt.Errorf("read rooms: %w", err)
	}
	if !ok {
		return protocol.Refuse(protocol.NotContact, "the recipient is in no room with the sender, and was not lately")
	}
	return nil
}

// mayRequest counts a contact request to one account, whatever the number of
// its devices.
func (c *putCheck) mayRequest() error {
	r, id := c.server.rates, c.from.Account
	return take(c.server.now(), 1, "contact requests", r.requestsHour.get(id), r.requestsDay.get(id))
}

// once returns the answer known for key, or finds and remembers it.
func once(known map[protocol.AccountID]error, key protocol.AccountID, find func() error) error {
	err, ok := known[key]
	if !ok {
		err = find()
		known[key] = err
	}
	return err
}

// fetch returns waiting mail of the calling device, the oldest first.
func (s *Server) fetch(ctx context.Context, from store.Device, f *wire.Fetch, resp *wire.Response) error {
	count := int(min(f.GetMax(), maxFetch))
	if count == 0 {
		count = maxFetch
	}
	stored, err := s.store.Fetch(ctx, from.ID, f.GetAfter(), count, maxMail, s.now())
	if err != nil {
		return fmt.Errorf("fetch mail: %w", err)
	}
	mail := &wire.Mail{}
	size := 0
	for _, m := range stored {
		size += len(m.Envelope)
		mail.Items = append(mail.Items, &wire.MailItem{
			Cursor:   m.Seq,
			Envelope: m.Envelope,
			StoredMs: uint64(m.Expires.Add(-s.cfg.Limits.MailboxTTL).UnixMilli()),
		})
	}
	// Whatever stopped the store: it may have more when one more envelope
	// could have been too much.
	mail.More = len(stored) == count || size+protocol.MaxEnvelope > maxMail
	resp.Result = &wire.Response_Mail{Mail: mail}
	return nil
}

// ack removes mail the calling device has made durable.
func (s *Server) ack(ctx context.Context, from store.Device, a *wire.Ack, resp *wire.Response) error {
	if len(a.GetIds()) > maxAcks {
		return protocol.Refuse(protocol.TooLarge, "more than %d ids", maxAcks)
	}
	ids, err := parseIDs[protocol.EnvelopeID](a.GetIds())
	if err != nil {
		return err
	}
	if _, err := s.store.Ack(ctx, from.ID, ids); err != nil {
		return fmt.Errorf("acknowledge mail: %w", err)
	}
	resp.Result = &wire.Response_Acked{Acked: &wire.Acked{}}
	return nil
}
