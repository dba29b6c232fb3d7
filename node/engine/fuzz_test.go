package engine

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// FuzzReceive hands bytes of anybody to the engine. They are no error and no
// message.
func FuzzReceive(f *testing.F) {
	w, a, b := pair(f)
	w.settle()
	a.send(b, "text")
	f.Add(a.queue(b)[0].Envelope)
	f.Add(opening(w, a, b))
	f.Add([]byte{1, 1})
	f.Add([]byte{})
	before, genuine := len(b.history(a)), a.queue(b)[0].Envelope
	f.Fuzz(func(t *testing.T, env []byte) {
		w.t = t
		if bytes.Equal(env, genuine) {
			return
		}
		o, err := b.open(env)
		if err != nil && protocol.CodeOf(err) != protocol.RateLimited && !errors.As(err, new(*NeedAccount)) {
			t.Fatal(err)
		}
		if err != nil {
			return
		}
		undo := errors.New("undo")
		err = b.kv.Update(context.Background(), func(tx store.Tx) error {
			code, _, err := b.e.Receive(tx, w.now, o, Mailbox)
			if err != nil {
				return err
			}
			if code == protocol.OK && len(b.history(a)) != before {
				t.Error("a message of nobody")
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
	})
}

// FuzzContent hands what a contact may put into a valid envelope to the
// engine: it must take it or refuse it, without an error of the store.
func FuzzContent(f *testing.F) {
	w, a, b := pair(f)
	w.settle()
	id := make([]byte, 16)
	for _, c := range []*wire.Content{
		{MsgId: id, Seq: 1, Body: &wire.Content_Text{Text: &wire.Text{Text: "x"}}},
		{MsgId: id, Seq: 1<<64 - 1, SentMs: 1<<64 - 1, Body: &wire.Content_Text{Text: &wire.Text{Text: "x"}}},
		{MsgId: id, Body: &wire.Content_Receipt{Receipt: &wire.Receipt{Delivered: [][]byte{id, nil}, Read: [][]byte{id}}}},
		{MsgId: id, Body: &wire.Content_ContactRequest{ContactRequest: &wire.ContactRequest{Name: "alice", Display: "\x1b"}}},
		{MsgId: id, Body: &wire.Content_ContactAccept{}},
		{MsgId: id, Body: &wire.Content_Repair{Repair: &wire.Repair{SessionId: id}}},
		{MsgId: id, Seq: 2, Body: &wire.Content_Text{Text: &wire.Text{Text: "x", ReplyTo: &wire.Ref{Author: id, MsgId: id}, Mentions: [][]byte{id, nil}, LastsMs: 1<<64 - 1, Gone: true}}},
		{MsgId: id, Body: &wire.Content_Action{Action: &wire.Action{To: (Ref{b.account(), protocol.MsgID{1}}).wire(), AtMs: 1<<64 - 1, What: &wire.Action_React{React: "👍🏽"}}}},
		{MsgId: id, Body: &wire.Content_Action{Action: &wire.Action{To: (Ref{a.account(), protocol.MsgID{1}}).wire(), AtMs: 1, What: &wire.Action_Edit{}}}},
		{MsgId: id, Body: &wire.Content_Action{Action: &wire.Action{AtMs: 1, What: &wire.Action_TimerMs{TimerMs: 1<<64 - 1}}}},
		{MsgId: id, Body: &wire.Content_Action{}}, {MsgId: id, Body: &wire.Content_OwnAction{}},
		{MsgId: id}, {},
	} {
		plain, err := proto.Marshal(c)
		w.check(err)
		f.Add(plain)
	}
	var sending session.State
	a.do(func(tx store.Tx) (Hint, error) {
		x, err := a.e.begin(tx, w.now)
		if err != nil {
			return Hint{}, err
		}
		d, err := x.device(b.device())
		if err != nil {
			return Hint{}, err
		}
		sending, _, err = x.sendingSession(d)
		return Hint{}, err
	})
	f.Fuzz(func(t *testing.T, plain []byte) {
		w.t = t
		if len(plain) > protocol.MaxText {
			return
		}
		_, env, err := sending.Encrypt(w.now, plain)
		if err != nil {
			t.Fatal(err)
		}
		o, err := b.open(env)
		if err != nil {
			t.Fatal(err)
		}
		undo := errors.New("undo")
		err = b.kv.Update(context.Background(), func(tx store.Tx) error {
			code, _, err := b.e.Receive(tx, w.now, o, Direct)
			if err != nil {
				return err
			}
			if code != protocol.OK && code != protocol.BadRequest && code != protocol.NotContact && code != protocol.Unavailable {
				t.Errorf("code %v", code)
			}
			if _, _, err := b.e.Tick(tx, w.now.Add(time.Hour)); err != nil {
				return err
			}
			return undo
		})
		if !errors.Is(err, undo) {
			t.Fatal(err)
		}
	})
}

// decoders are all kinds of rows.
var decoders = map[string]func() row{
	"peer":     func() row { return new(peerRow) },
	"device":   func() row { return new(deviceRow) },
	"history":  func() row { return new(historyRow) },
	"item":     func() row { return new(itemRow) },
	"event":    func() row { return new(eventRow) },
	"index":    func() row { return new(indexRow) },
	"receipts": func() row { return new(receiptRow) },
	"reason":   func() row { return new(reasonRow) },
	"counts":   func() row { return new(countsRow) },
	"clock":    func() row { return new(clockRow) },
	"pair":     func() row { return new(pairRow) },
	"prekeys":  func() row { return new(prekeysRow) },
	"ledger":   func() row { return new(ledgerRow) },
	"given":    func() row { return new(givenRow) },
	"log":      func() row { return new(logAlarmRow) },
	"heard":    func() row { return new(heardRow) },
	"mirror":   func() row { return new(mirrorRow) },
	"packed":   func() row { return new(packedRow) },
	"newest":   func() row { return new(newestRow) },

	"account key": func() row { return new(accountKeyRow) },
	"RSA":         func() row { return new(rsaRow) },
	"start":       func() row { return new(startRow) },
	"swap":        func() row { return new(swapRow) },
	"reborn":      func() row { return new(rebornRow) },

	"room":          func() row { return new(roomRow) },
	"room chain":    func() row { return new(roomChainRow) },
	"room link":     func() row { return new(roomLinkRow) },
	"room receiver": func() row { return new(roomReceiverRow) },
	"room out":      func() row { return new(roomOutRow) },
	"room key":      func() row { return new(roomKeyRow) },

	"message with extras": func() row { return new(historyRow) },
	"change":              func() row { return new(eventRow) },
	"room action":         func() row { return new(roomOutRow) },
	"mark":                func() row { return new(markRow) },
	"early action":        func() row { return new(earlyActionRow) },
	"settings":            func() row { return new(settingsRow) },
}

// FuzzRows reads damaged rows: an error or a row that reads the same again,
// never a panic and never more memory than the row is long.
func FuzzRows(f *testing.F) {
	w, a, b := pair(f)
	b.away = true
	a.send(b, "text")
	w.settle()
	for _, n := range w.nodes {
		n.view(func(tx store.Tx) error {
			for pair, err := range tx.Scan([]byte{0}, nil) {
				if err != nil {
					return err
				}
				if len(pair.Value) < 1000 {
					f.Add(pair.Value)
				}
			}
			return nil
		})
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for name, make := range decoders {
			r := make()
			if err := r.decode(b); err != nil {
				if !errors.Is(err, store.ErrDamaged) {
					t.Errorf("%s: %v", name, err)
				}
				continue
			}
			again := make()
			if err := again.decode(r.encode()); err != nil {
				t.Errorf("%s: %v after %x", name, err, b)
			}
			if !bytes.Equal(again.encode(), r.encode()) {
				t.Errorf("%s: %x is not stable", name, b)
			}
		}
		if _, err := decodeIdentity(b); err != nil && !errors.Is(err, store.ErrDamaged) {
			t.Error(err)
		}
	})
}

// TestRowsRoundTrip writes rows with every field set and reads them.
func TestRowsRoundTrip(t *testing.T) {
	newcomer, err := NewNewcomerWith(start, "phone", keytest.RSA(t, 0))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		var id [32]byte
		copy(id[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "id"))
		text := rapid.String().Draw(t, "text")
		at := start.Add(time.Duration(rapid.Int64Range(0, 1e15).Draw(t, "at"))).Truncate(time.Millisecond)
		n := rapid.Uint64().Draw(t, "n")
		yes := rapid.Bool().Draw(t, "yes")
		msg := protocol.MsgID(id[:16])
		rows := map[string]row{
			"peer": &peerRow{relation: Blocked, before: Accepted, verified: yes, changed: !yes, known: yes, name: "name", display: text,
				note: text, since: at, checked: at, lookupAt: at, tries: 3, problem: text, problemAt: at, alarm: text, position: n,
				readTo: n, readWant: n, unread: 7, queued: 8, request: msg, devices: []peerDevice{{id, at}, {id, time.Time{}}}},
			"device": &deviceRow{account: id, revoked: yes, sentSeq: n, next: n, held: 1, waiting: 2, run: 3, heard: at, resent: at, highest: n, headSent: at, headSize: n,
				repair: session.Repair{}.UnknownSession(), repairing: yes, failed: protocol.SessionID(msg), reseal: n,
				sessions: []knownSession{{session.Info{ID: protocol.SessionID(msg), Gen: n, Confirmed: yes, Initiator: !yes, Reset: yes, Created: at}, at, at}}, renewing: yes},
			"history": &historyRow{id: msg, mine: yes, late: !yes, state: StateHole, via: Relayed, device: id, number: n, copies: 9,
				sent: at, recorded: at, problem: text, steps: []Step{{at, "queued", text}, {at, "read", ""}}, text: text},
			"item": &itemRow{account: id, id: msg, number: n, seq: n, position: n, kind: wire.MailKind_REQUEST, receipt: yes, accountKey: !yes, urgent: yes, roomKeys: !yes,
				since: at, stored: at, envelope: id, content: []byte(text), sealed: []byte(text)},
			"event":    &eventRow{time: at, kind: KindNotice, account: id, position: n, cause: text, text: text},
			"index":    &indexRow{account: id, position: n, number: n},
			"receipts": &receiptRow{due: at, delivered: []protocol.MsgID{msg, msg}, read: []protocol.MsgID{msg}},
			"reason":   &reasonRow{since: at, reason: text},
			"counts": &countsRow{events: n, items: n, queued: n, waiting: n, listed: 1, incoming: 2, visitors: 3, troubles: 4,
				troubledAt: at, renewBefore: at},
			"clock":  &clockRow{last: at, destroyAfter: at},
			"pair":   &pairRow{keepUntil: at, pair: []byte(text)},
			"ledger": &ledgerRow{hash: id, entry: []byte(text)},
			"given":  &givenRow{nonce: msg, prekey: protocol.PrekeyID(msg), at: at},
			"log": &logAlarmRow{At: at, Ended: at, Problem: text, Held: id[:], Shown: msg[:], Evidence: []byte(text),
				Entry: directory.Inclusion{Index: n, Leaf: directory.Leaf{Label: id, Account: id, Seq: n, Head: id}, Proof: directory.Proof{id, id}}},
			"heard":  &heardRow{at: at, size: n, ahead: id[:], reads: n, told: protocol.EnvelopeID(id)},
			"mirror": &mirrorRow{gen: n, size: n, head: id[:], reads: n, accepted: at, dropped: id[:], problem: text, told: text},
			"packed": &packedRow{items: id[:]},
			"newest": &newestRow{index: n},
			"prekeys": &prekeysRow{signed: protocol.PrekeyID(msg), signedPending: yes, signedAt: at, rotateAt: at, fallback: yes,
				published: 1, cap: 2, lastUpload: at, problem: text, uploads: n, kept: 3, resetting: yes, resetAt: at, conflicts: 4,
				notBefore: at, liveAt: at, signedUsed: yes, fallbacks: 5, rsaWanted: yes, rsaRotateAt: at, rsaLive: id, conflictAt: at},
			"account key": &accountKeyRow{private: id[:], mine: yes, created: at, replaced: at},
			"RSA":         &rsaRow{private: []byte(text), created: at, keepUntil: at},
			"start":       &startRow{ctr: n, start: [16]byte(msg), welcomed: yes, refused: yes},
			"swap":        &swapRow{device: id, number: n},
			"reborn":      &rebornRow{newcomer: newcomer, chain: []byte(text)},
			"room": &roomRow{stage: RoomJoined, home: Home{Peer: id[:], Addrs: []string{text, text}}, by: id, name: text, problem: text, since: at, made: yes,
				joining: !yes, known: yes, seq: n, head: id, toldSeq: n, toldHead: id, aheadSeq: n, aheadHead: id, aheadBy: id,
				fork: forkStands, accusers: []protocol.AccountID{id}, ignored: []protocol.AccountID{id, id}, cursor: n, position: n, readTo: n, unread: 1, queued: 2, sent: n},
			"room link":     &roomLinkRow{joins: yes, founder: id, seed: []byte(text)},
			"room chain":    &roomChainRow{distribution: []byte(text), epoch: n, since: n, next: id, all: yes, left: 3},
			"room receiver": &roomReceiverRow{shown: n, seen: n, waiting: 1, held: 2, receiver: []byte(text)},
			"room out":      &roomOutRow{position: max(n, 1), epoch: n, sealed: []byte(text), number: n, void: []uint64{n, n}},
			"room key":      &roomKeyRow{fresh: yes, key: id[:], by: protocol.AccountID(id)},
			"message with extras": &historyRow{id: msg, mine: yes, state: StateRead, device: id, sent: at, recorded: at, text: text,
				extras: extras{reply: Ref{id, msg}, mentions: []protocol.AccountID{id, id}, edited: at, lasts: time.Duration(n%1000+1) * time.Hour,
					expires: at, marked: yes, pinned: !yes, deleted: yes, hidden: !yes, gone: yes}},
			"change":       &eventRow{time: at, kind: KindChanged, account: id, position: n, cause: text, by: id},
			"room action":  &roomOutRow{epoch: n, sealed: []byte(text), number: n, void: []uint64{n}, content: []byte(text)},
			"mark":         &markRow{at: at, by: id, text: text},
			"early action": &earlyActionRow{may: powers{react: yes, edit: !yes, moderate: yes, manage: !yes}, action: []byte(text)},
			"settings":     &settingsRow{timer: time.Duration(n%1000) * time.Hour, timerBy: id, timerAt: at, quiet: at, quietAt: at},
		}
		for name, want := range rows {
			got := decoders[name]()
			if err := got.decode(want.encode()); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !bytes.Equal(got.encode(), want.encode()) {
				t.Fatalf("%s: %+v, want %+v", name, got, want)
			}
			for i := range want.encode() { // cut short anywhere
				if err := decoders[name]().decode(want.encode()[:i]); err == nil {
					t.Fatalf("%s cut to %d bytes is read", name, i)
				}
			}
		}
		if len(rows) != len(decoders) {
			t.Fatal("a kind of row is missing")
		}
	})
}
