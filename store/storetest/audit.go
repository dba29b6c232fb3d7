package storetest

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/store"
)

// journal reads the whole journal, some entries at a time, and checks that each
// follows the one before, up to the head.
func journal(r store.Audit) (all []audit.Entry, err error) {
	head, err := r.AuditHead(ctx)
	if err != nil {
		return nil, err
	}
	var c ledger.Chain
	for c.N < head.N {
		page, err := r.AuditEntries(ctx, c.N, 7)
		if err != nil || len(page) == 0 {
			return nil, fmt.Errorf("after entry %d of %d: %d, %w", c.N, head.N, len(page), err)
		}
		for _, e := range page {
			if err := c.Next(e); err != nil {
				return nil, err
			}
		}
		all = append(all, page...)
	}
	if c.Head != head.Hash {
		return nil, fmt.Errorf("the last of %d entries has another hash than the head", c.N)
	}
	return all, nil
}

// tell is an event in a line: kind, act, name and note.
func tell(e audit.Event) string {
	return strings.Join(strings.Fields(fmt.Sprint(e.Kind, " ", e.What, " ", e.Name, " ", e.Note)), " ")
}

// journalAdded checks what was added to the journal after the first n entries.
func journalAdded(t testing.TB, r store.Audit, n int, want ...string) []audit.Entry {
	t.Helper()
	all, err := journal(r)
	ok(t, err)
	var got []string
	for _, e := range all[min(n, len(all)):] {
		got = append(got, tell(e.Event))
	}
	equal(t, "entries", strings.Join(got, "\n"), strings.Join(want, "\n"))
	return all
}

func testAudit(t *testing.T, r store.Rendezvous) {
	head, err := r.AuditHead(ctx)
	ok(t, err)
	equal(t, "head of an empty journal", head, store.AuditHead{})
	entries, err := r.AuditEntries(ctx, 0, 10)
	ok(t, err)
	equal(t, "entries of an empty journal", len(entries), 0)

	alice, device := accountID("alice"), deviceID("alice", 0)
	events := []audit.Event{
		{TimeMs: start.UnixMilli(), Kind: audit.Host, What: audit.Started},
		{TimeMs: start.UnixMilli() + 7, Kind: audit.Token, What: audit.Issued, Account: alice, Device: device, Name: "key", Note: "relay"},
		{TimeMs: start.UnixMilli() - 7, Kind: audit.Relay, What: audit.Approved, Name: strings.Repeat("x", 1000)}, // a clock that was set back
	}
	var bytes uint64
	for _, e := range events {
		ok(t, r.Note(ctx, e.Time(), e))
		head, err := r.AuditHead(ctx)
		ok(t, err)
		if head.Bytes < bytes+80 {
			t.Errorf("%d bytes after %d", head.Bytes, bytes)
		}
		bytes = head.Bytes
	}
	all := journalAdded(t, r, 0, "host started", "token issued key relay", "relay approved "+strings.Repeat("x", audit.MaxName))
	equal(t, "entry", all[1].Event, events[1])
	for _, c := range []struct {
		after uint64
		max   int
		want  []audit.Entry
	}{{0, 2, all[:2]}, {1, 1, all[1:2]}, {2, 9, all[2:]}, {3, 9, nil}, {math.MaxUint64, 9, nil}, {0, 0, nil}} {
		got, err := r.AuditEntries(ctx, c.after, c.max)
		ok(t, err)
		equal(t, fmt.Sprintf("%d entries after %d", c.max, c.after), got, c.want)
	}
}

// testAuditOfAccounts: what happens to accounts is in the journal, once, and
// nothing else is.
func testAuditOfAccounts(t *testing.T, r store.Rendezvous) {
	n := 0
	added := func(want ...string) []audit.Entry {
		t.Helper()
		all := journalAdded(t, r, n, want...)
		all, n = all[n:], len(all)
		return all
	}
	token := store.InviteHash([]byte("token"))
	name := fmt.Sprintf("%x", token[:8])
	inv := store.Invite{Hash: token, Uses: 2, Created: start, Expires: start.Add(time.Hour)}
	ok(t, r.CreateInvite(ctx, inv))
	ok(t, r.CreateInvite(ctx, inv))
	added("invite made " + name + " for 2, until 2026-03-01T13:00:00Z")

	p := registration("alice", 2)
	p.Invite = &token
	ok(t, r.Register(ctx, p))
	ok(t, r.Register(ctx, p))
	for i, e := range added("account registered alice invite "+name, "device added", "device added") {
		equal(t, "account", e.Account, p.Account)
		equal(t, "time", e.Time(), p.Now)
		if i > 0 {
			equal(t, "device", e.Device, p.Devices[i-1].ID)
		}
	}
	person(t, r, "bob")
	added("account registered bob without an invite", "device added", "device added")
	ok(t, r.RevokeInvite(ctx, token, start))
	refused(t, r.RevokeInvite(ctx, token, start), protocol.InviteInvalid)
	added("invite withdrawn " + name)

	longer := chain("alice", 4, 0, 2)
	longer.Devices[0].Cert = []byte("renewed")
	longer.Revoked = []protocol.DeviceID{deviceID("alice", 1), deviceID("alice", 9)}
	longer.LastKey, longer.LastRecovery = 4, 3
	ok(t, r.SetChain(ctx, longer))
	ok(t, r.SetChain(ctx, longer))
	refused(t, r.SetChain(ctx, chain("alice", 2)), protocol.ChainConflict)
	stolen := chain("bob", 2, 0)
	stolen.Devices = append(stolen.Devices, newDevice("alice", 0)) // refused after much was noted
	refused(t, r.SetChain(ctx, stolen), protocol.DeviceExists)
	all := added("account changed statement 4", "account recovered", "account key_replaced",
		"device revoked", "device revoked", "device renewed", "device added")
	equal(t, "revoked", all[4].Device, deviceID("alice", 9))
	equal(t, "renewed", all[5].Device, deviceID("alice", 0))
	equal(t, "added", all[6].Device, deviceID("alice", 2))

	last := chain("alice", 5)
	last.LastKey, last.LastRecovery, last.Closed = 4, 3, true // the first two are known
	ok(t, r.SetChain(ctx, last))
	added("account changed statement 5", "account closed")
}

// testAuditOfKeys: the same for prekeys and for the keys of tokens.
func testAuditOfKeys(t *testing.T, r store.Rendezvous) {
	alice, device := person(t, r, "alice")
	n := 3
	added := func(want ...string) []audit.Entry {
		t.Helper()
		all := journalAdded(t, r, n, want...)
		all, n = all[n:], len(all)
		return all
	}
	for _, k := range []int{2, 2, 3, 1, 3} { // 1 is older than those that are kept
		ok(t, r.PutSigned(ctx, device, signed(k, 0), start))
	}
	all := added("prekey published "+signed(2, 0).ID.String(), "prekey replaced "+signed(3, 0).ID.String())
	equal(t, "account", all[1].Account, alice)
	equal(t, "device", all[1].Device, device)
	refused(t, r.PutSigned(ctx, deviceID("nobody", 0), signed(4, 0), start), protocol.UnknownDevice)
	_, err := r.PutOneTime(ctx, device, oneTimes(0, 5), 100, start)
	ok(t, err)
	_, err = r.Claim(ctx, claim(accountID("bob"), device, 1))
	ok(t, err)
	ok(t, r.CheckStore(ctx, device, store.StoreStart{Counter: 1}))
	ok(t, r.SetContacts(ctx, alice, []protocol.AccountID{accountID("bob")}))
	deliver(t, r, store.Quotas{}, letter(accountID("bob"), device, "one"))
	ack(t, r, device, "one")
	added() // nothing is written for each message

	for i, change := range []struct {
		why  store.KeyCause
		keys []store.SigningKey
	}{
		{store.KeyDue, []store.SigningKey{tokenKey(1, store.KeySigning)}},
		{store.KeyAsked, []store.SigningKey{tokenKey(2, store.KeyPublished)}},
		{store.KeyDue, []store.SigningKey{tokenKey(1, store.KeyRetiring), tokenKey(2, store.KeySigning)}},
		{store.KeyTakenBack, []store.SigningKey{tokenKey(1, store.KeySigning), tokenKey(2, store.KeyGone)}},
		{store.KeyRevoked, []store.SigningKey{tokenKey(1, store.KeyGone), tokenKey(3, store.KeySigning)}},
		{store.KeyDue, []store.SigningKey{tokenKey(3, store.KeyRetiring), tokenKey(4, store.KeySigning)}},
		{store.KeyDue, []store.SigningKey{tokenKey(3, store.KeyGone)}},
	} {
		ok(t, r.ChangeSigningKeys(ctx, uint64(i), change.keys, change.why, start))
	}
	if err := r.ChangeSigningKeys(ctx, 0, nil, store.KeyDue, start); !errors.Is(err, store.ErrOvertaken) {
		t.Error(err)
	}
	refused(t, r.ChangeSigningKeys(ctx, 7, []store.SigningKey{tokenKey(4, store.KeyGone)}, store.KeyDue, start), protocol.BadRequest)
	added(
		"token_key signing key 1",
		"token_key published key 2 the operator asked for a rotation",
		"token_key retiring key 1", "token_key signing key 2",
		"token_key signing key 1 a rotation was taken back", "token_key rolled_back key 2 a rotation was taken back",
		"token_key revoked key 1 the operator revoked a key", "token_key signing key 3 the operator revoked a key",
		"token_key retiring key 3", "token_key signing key 4",
		"token_key gone key 3")
}

// testAuditRace: entries that are made at the same time are all there, each once.
func testAuditRace(t *testing.T, r store.Rendezvous) {
	const people = 32
	codes := together(people, func(i int) error {
		name := fmt.Sprint("racer", i)
		return errors.Join(r.Register(ctx, registration(name, 1)), r.Note(ctx, start, audit.Event{Kind: audit.Token, What: audit.Issued, Name: name}))
	})
	equal(t, "codes", codes, map[protocol.Code]int{protocol.OK: people})
	all, err := journal(r)
	ok(t, err)
	equal(t, "entries", len(all), 3*people)
	for i := range people {
		name := fmt.Sprint("racer", i)
		named := slices.DeleteFunc(slices.Clone(all), func(e audit.Entry) bool { return e.Name != name })
		equal(t, "entries of "+name, len(named), 2)
	}
}

// testAuditModel: whatever the order of calls, the journal is what they did.
func testAuditModel(t *testing.T, r store.Rendezvous) {
	seq := map[string]uint64{}
	var want []string
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		for range rapid.IntRange(0, 8).Draw(rt, "calls") {
			name := fmt.Sprint(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(rt, "name"), round)
			to := uint64(rapid.IntRange(1, 5).Draw(rt, "seq"))
			key := rapid.IntRange(1, 4).Draw(rt, "key")
			switch {
			case seq[name] == 0:
				ok(t, r.Register(ctx, registration(name, 1)))
				seq[name] = 1
				want = append(want, "account registered "+name+" without an invite", "device added")
			case to > seq[name]:
				ok(t, r.SetChain(ctx, chain(name, to, 0)))
				seq[name] = to
				want = append(want, fmt.Sprint("account changed statement ", to))
			case to < seq[name]:
				refused(t, r.SetChain(ctx, chain(name, to, 0)), protocol.ChainConflict)
			default:
				before, _ := r.SignedPrekey(ctx, deviceID(name, 0), start) // none: the zero value
				ok(t, r.PutSigned(ctx, deviceID(name, 0), signed(key, 0), start))
				now, err := r.SignedPrekey(ctx, deviceID(name, 0), start)
				ok(t, err)
				if now.ID != before.ID {
					what := map[bool]string{true: "published ", false: "replaced "}[before.ID == protocol.PrekeyID{}]
					want = append(want, "prekey "+what+now.ID.String())
				}
			}
		}
		head, err := r.AuditHead(ctx)
		ok(t, err)
		equal(t, "number", head.N, uint64(len(want)))
	})
	journalAdded(t, r, 0, want...)
}
