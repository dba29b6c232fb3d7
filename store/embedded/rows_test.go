package embedded

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// roundTrip reads what v writes, and refuses every part of it.
func roundTrip[T any, R row[T]](t *testing.T, v T) {
	t.Helper()
	var w, again writer
	R(&v).encode(&w)
	got, err := parse[T, R](w)
	if err != nil {
		t.Fatalf("%T: %v", v, err)
	}
	R(&got).encode(&again)
	if !bytes.Equal(w, again) {
		t.Errorf("%T: wrote %x, then %x", v, w, again)
	}
	for n := range w {
		if _, err := parse[T, R](w[:n]); !errors.Is(err, store.ErrDamaged) {
			t.Errorf("%T cut after %d of %d bytes: %v, want ErrDamaged", v, n, len(w), err)
		}
	}
	if _, err := parse[T, R](append(w, 0)); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("%T with a byte too many: %v, want ErrDamaged", v, err)
	}
}

func TestRows(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	key := [32]byte{1, 2, 3}
	roundTrip(t, accountRow{ID: key, Name: "alice", Chain: []byte("chain"), ChainSeq: 300, ChainHead: key, Entry: 1000, Created: now, InvitedBy: key})
	roundTrip(t, deviceRow{ID: key, Account: key, PeerID: []byte("peer"), Cert: []byte("cert"), Created: now, Revoked: true, Guest: true})
	roundTrip(t, inviteRow{Hash: key, By: key, Uses: 500, Used: 3, Created: now, Expires: now})
	roundTrip(t, storeRow{StoreID: [16]byte{4}, Counter: 1 << 60, Start: [16]byte{5}})
	roundTrip(t, signedRow{{ID: protocol.PrekeyID{5}, Key: key, Record: []byte("record"), RSA: []byte("rsa"), Created: now, Expires: now}, {}})
	roundTrip(t, stockRow{next: 1, end: 300, waiting: 299, bound: 400})
	roundTrip(t, oneTimeRow{id: protocol.PrekeyID{5}, expires: now, record: []byte("record")})
	roundTrip(t, boundRow{key: key, n: 7, expires: now})
	roundTrip(t, claimRow{signed: protocol.PrekeyID{5}, oneTime: true, n: 9, until: now})
	roundTrip(t, boxRow{count: 1, bytes: 2, next: 300, head: 4, earliest: now})
	roundTrip(t, mailRow{from: key, id: key, kind: store.Request, expires: now, envelope: []byte("envelope")})
	roundTrip(t, waitingRow{seq: 1, size: 2, from: key, kind: store.Message, expires: now})
	roundTrip(t, usageRow{count: 1, bytes: 1 << 40})
	size := sizeRow(1 << 40)
	roundTrip(t, size)
	roundTrip(t, leafRow{Label: key, Account: key, Seq: 1 << 60, Head: key})
	roundTrip(t, signingKeyRow{ID: "id", Public: key[:], Seed: key, State: store.KeySigning, Published: now})
	roundTrip(t, changeRow{At: now, Steps: []store.KeyStep{{ID: "a", State: store.KeyRetiring}, {ID: "b", State: store.KeyGone}}})
	roundTrip(t, auditHeadRow{N: 1 << 60, Hash: key, Bytes: 300})
	roundTrip(t, untilRow{until: now})
	roundTrip(t, roomRow{creator: key, seq: 300, head: key, logBytes: 1, members: 5, count: 2, bytes: 3, cursor: 1000, first: 4, earliest: now})
	roundTrip(t, roomEntryRow{cursor: 300, entry: []byte("entry")})
	roundTrip(t, roomMailRow{device: key, number: 300, by: key, expires: now, message: []byte("message")})
	roundTrip(t, roomNumberRow{cursor: 300, id: key})
}

func FuzzRows(f *testing.F) {
	f.Add([]byte("\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		parse[accountRow](b)
		parse[deviceRow](b)
		parse[signedRow](b)
		parse[mailRow](b)
		parse[waitingRow](b)
		parse[claimRow](b)
		parse[storeRow](b)
		parse[signingKeyRow](b)
		parse[changeRow](b)
		parse[auditHeadRow](b)
		parse[roomRow](b)
		parse[roomEntryRow](b)
		parse[roomMailRow](b)
		parseAudit(store.Pair{Key: b, Value: b})
	})
}
