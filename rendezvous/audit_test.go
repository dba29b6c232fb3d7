package rendezvous

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/store"
)

// wholeAudit reads all that a query picks.
func wholeAudit(t rapid.TB, src AuditSource, q AuditQuery) (all []AuditEntry) {
	t.Helper()
	for {
		page, err := src.Audit(context.Background(), q)
		if err != nil || page.Broken != nil {
			t.Fatalf("%v, %v", page.Broken, err)
		}
		all = append(all, page.Entries...)
		if page.Seen == q.After {
			return all
		}
		q.After = page.Seen
	}
}

// auditSays checks what the journal says after the entry with number n.
func auditSays(t testing.TB, src AuditSource, n uint64, want ...string) []AuditEntry {
	t.Helper()
	var got []string
	entries := wholeAudit(t, src, AuditQuery{After: n})
	for _, e := range entries {
		got = append(got, strings.Join(strings.Fields(fmt.Sprint(e.Kind, " ", e.What, " ", e.Who, " ", e.Name, " ", e.Note)), " "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the journal says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	return entries
}

func (ts *testServer) auditHead(t testing.TB) uint64 {
	t.Helper()
	head, err := ts.store.AuditHead(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head.N
}

// TestAuditOfLiars: who says each day to have seen a huge log does not keep what
// others have seen out of the journal.
func TestAuditOfLiars(t *testing.T) {
	s := startServer(t, nil)
	liar, honest := newDevice(t, s, "mallory"), newDevice(t, s, "alice")
	for _, d := range []*device{liar, honest} {
		d.must(d.registerRequest(nil))
		d.greet()
	}
	n := s.auditHead(t)
	for _, d := range []*device{liar, liar, honest, honest} {
		seen := lookupRequest("alice", nil)
		seen.GetLookup().LogSize = 1000
		d.call(seen)
	}
	auditSays(t, s, n,
		"host set_back mallory this device says that the directory log had 1000 entries; it has 2",
		"host set_back alice this device says that the directory log had 1000 entries; it has 2")
}

// TestAudit: what becomes of a device, from its registration to its revocation,
// is in the journal, and so is the host; no secret is, and no address.
func TestAudit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir, c.Open = dir, false })
	first := signer(t, s.issuer)
	auditSays(t, s, 0, "token_key signing "+first.ID, "host started joining by invite")
	n := s.auditHead(t)

	token, expires, err := s.storeInvite(t.Context(), protocol.AccountID{}, 2, time.Hour)
	mustDo(t, err)
	hash := store.InviteHash(token[:])
	alice := newDevice(t, s, "alice")
	alice.must(alice.registerRequest(token[:]))
	alice.greet()
	auditSays(t, s, n,
		fmt.Sprintf("invite made %x for 2, until %s", hash[:8], expires.Format(time.RFC3339)),
		fmt.Sprintf("account registered alice alice invite %x", hash[:8]), "device added alice")
	n = s.auditHead(t)

	alice.publish(3)
	given := alice.must(tokenRequest("relay")).GetToken().GetToken()
	phone := alice.second()
	old := alice.aik
	alice.aik = key.NewAccount()
	alice.chain = alice.then(alice.chain.RotateAIK(s.clock.Now(), old, alice.aik))
	alice.update(alice.without(phone))
	prekey, err := s.store.SignedPrekey(t.Context(), alice.id, s.clock.Now())
	mustDo(t, err)
	entries := auditSays(t, s, n,
		"prekey published alice "+prekey.ID.String(),
		"token issued alice "+first.ID+" relay",
		"account changed alice statement 2", "device added alice",
		"account changed alice statement 4", "account key_replaced alice", "device revoked alice")
	if e := entries[6]; e.Account != alice.owner || e.Device != phone.id || !e.Time().Equal(s.clock.Now()) {
		t.Errorf("revoked: %+v", e)
	}
	n = s.auditHead(t)

	// Refusals, each once a day.
	eventually(t, "the phone is cut off", func() bool { return !phone.connected() })
	phone.reconnect()
	for range 3 {
		phone.refused(protocol.Revoked, tokenRequest("relay"))
		clone, back := alice.helloOf(7, 9), alice.helloOf(0, 0)
		alice.dialLink(clone)
		alice.dialLink(back)
	}
	alice.greet()
	seen := lookupRequest("alice", nil)
	seen.GetLookup().LogSize = 1000
	alice.call(seen)
	s.clock.add(25 * time.Hour)
	phone.refused(protocol.Revoked, tokenRequest("relay"))
	auditSays(t, s, n,
		"device refused alice", "device cloned alice", "device rolled_back alice",
		"host set_back alice this device says that the directory log had 1000 entries; it has 3",
		"device refused alice")
	n = s.auditHead(t)

	if _, err := s.RotateKeys(t.Context()); err != nil {
		t.Fatal(err)
	}
	next := newest(t, s.issuer)
	if _, err := s.RevokeKey(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	const rotated, revoked = " the operator asked for a rotation", " the operator revoked a key"
	auditSays(t, s, n, "token_key published "+next.ID+rotated, "token_key revoked "+first.ID+revoked, "token_key signing "+next.ID+revoked)
	n = s.auditHead(t)
	all, err := json.Marshal(wholeAudit(t, s, AuditQuery{}))
	mustDo(t, err)

	s.stopNow()
	for range 2 { // it may be read as often as one likes
		stopped, err := OpenAudit(t.Context(), dir, slog.New(slog.DiscardHandler))
		mustDo(t, err)
		auditSays(t, stopped, n, "host stopped")
		if c, err := VerifyAudit(t.Context(), stopped, ledger.Chain{}); err != nil || c.N != n+1 {
			t.Errorf("%+v, %v", c, err)
		}
		mustDo(t, stopped.Close())
	}
	for name, secret := range map[string]string{
		"invite token": hex.EncodeToString(token[:]), "token": given, "end of the token": given[len(given)-20:],
		"seed": hex.EncodeToString(first.Seed[:]), "address": "127.0.0.1", "peer": alice.host.ID().String(), "device's name": "laptop",
	} {
		if bytes.Contains(all, []byte(secret)) {
			t.Errorf("the journal holds the %s:\n%s", name, all)
		}
	}
}

// newest is the key that was published last.
func newest(t testing.TB, i *issuer) store.SigningKey {
	t.Helper()
	keys, _, err := i.store.SigningKeys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return keys[len(keys)-1]
}

// TestAuditTakenBack: a rotation that fails its self-test shows in the journal.
func TestAuditTakenBack(t *testing.T) {
	c := newClock()
	i := newTestIssuer(t, c)
	first := signer(t, i)
	c.add(time.Hour)
	fetch := i.fetch
	i.fetch = func(context.Context) ([]byte, error) { return nil, errors.New("nobody answers") }
	if err := i.rotate(t.Context()); !errors.Is(err, errSelfTest) {
		t.Fatal(err)
	}
	i.fetch = fetch
	src := &StoppedAudit{store: i.store.(store.Rendezvous)}
	entries := wholeAudit(t, src, AuditQuery{})
	if len(entries) != 3 || entries[0].Name != first.ID || entries[1].What != audit.Published ||
		entries[2].What != audit.RolledBack || entries[2].Name != entries[1].Name {
		t.Errorf("%+v", entries)
	}
}

// muteStore writes no entries by themselves, as if the disk were full.
type muteStore struct{ store.Rendezvous }

func (muteStore) Note(context.Context, time.Time, audit.Event) error { return store.ErrFull }

// TestUnnoted: a token that cannot be noted is not given; a refusal happens all
// the same, and the rendezvous starts and stops.
func TestUnnoted(t *testing.T) {
	s := startServer(t, func(c *Config) { c.wrap = func(s store.Rendezvous) store.Rendezvous { return muteStore{s} } })
	alice := member(t, s, "alice")
	alice.refused(protocol.Unavailable, tokenRequest("relay"))
	if code := alice.dialLink(alice.helloOf(7, 9)).welcome.GetCode(); protocol.Code(code) != protocol.DeviceCloned {
		t.Errorf("a clone: %v", protocol.Code(code))
	}
}

// TestTokensAreLimited: each is noted for ever, so a device gets few.
func TestTokensAreLimited(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	for range 30 {
		alice.must(tokenRequest("relay"))
	}
	if resp := alice.refused(protocol.RateLimited, tokenRequest("http")); resp.GetRetryAfterMs() == 0 {
		t.Error("it is not told when to come back")
	}
}

// TestAuditQueries: a query picks what it says, in pages, of however many.
func TestAuditQueries(t *testing.T) {
	t.Parallel()
	src, _, r := auditOf(t)
	start := newClock().Now()
	for i := range auditScan + 3*auditBatch {
		e := audit.Event{Kind: audit.Token, What: audit.Issued, Account: protocol.AccountID{byte(i % 3)}}
		if i%1000 == 7 {
			e.Kind = audit.Prekey
		}
		mustDo(t, r.Note(t.Context(), start.Add(time.Duration(i)*time.Second), e))
	}
	all := wholeAudit(t, src, AuditQuery{})
	if n := auditScan + 3*auditBatch + 2; len(all) != n {
		t.Fatalf("%d entries of %d", len(all), n)
	}
	rapid.Check(t, func(t *rapid.T) {
		q := AuditQuery{
			After:   uint64(rapid.IntRange(0, len(all)+1).Draw(t, "after")),
			Account: rapid.SampledFrom([]string{"", "", "alice", protocol.AccountID{2}.String()}).Draw(t, "account"),
			Kind:    rapid.SampledFrom([]audit.Kind{"", audit.Token, audit.Prekey, audit.Host}).Draw(t, "kind"),
		}
		if rapid.Bool().Draw(t, "since") {
			q.Since = start.Add(time.Duration(rapid.IntRange(0, len(all)).Draw(t, "seconds")) * time.Second)
		}
		account := map[string]byte{"alice": 1}[q.Account]
		if account == 0 {
			account = 2
		}
		want := slices.DeleteFunc(slices.Clone(all), func(e AuditEntry) bool {
			return e.N <= q.After || e.Time().Before(q.Since) || q.Kind != "" && e.Kind != q.Kind || q.Account != "" && e.Account[0] != account
		})
		got := wholeAudit(t, src, q)
		if !slices.Equal(got, want) {
			t.Fatalf("%+v picks %d entries, want %d", q, len(got), len(want))
		}
		for _, e := range got {
			if (e.Who == "alice") != (e.Account == protocol.AccountID{1}) {
				t.Fatalf("who: %+v", e)
			}
		}
	})
	page, err := src.Audit(t.Context(), AuditQuery{Kind: audit.Host})
	if err != nil || page.Seen != auditScan || len(page.Entries) != 0 {
		t.Errorf("a page looks at %d entries, %v", page.Seen, err)
	}
	if page, err := src.Audit(t.Context(), AuditQuery{Account: "nobody"}); !errors.Is(err, ErrNotFound) {
		t.Errorf("%+v, %v, want ErrNotFound", page, err)
	}
}

// TestOpenAudit: what is no rendezvous is not touched, and one that runs is not
// read behind its back.
func TestOpenAudit(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	if _, err := OpenAudit(t.Context(), t.TempDir(), log); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an empty directory: %v", err)
	}
	dir := t.TempDir()
	s := startServer(t, func(c *Config) { c.Dir = dir })
	if _, err := OpenAudit(t.Context(), dir, log); !errors.Is(err, store.ErrLocked) {
		t.Errorf("one that runs: %v", err)
	}
	admin := NewAdmin(dir)
	var viaSocket []AuditEntry
	eventually(t, "the admin socket answers", func() bool {
		page, err := admin.Audit(t.Context(), AuditQuery{Since: s.clock.Now().Add(-time.Hour), Kind: audit.Host})
		viaSocket = page.Entries
		return err == nil
	})
	if direct := wholeAudit(t, s, AuditQuery{Kind: audit.Host}); len(direct) != 1 || !slices.Equal(direct, viaSocket) {
		t.Errorf("%+v, over the socket %+v", direct, viaSocket)
	}
	if c, err := VerifyAudit(t.Context(), admin, ledger.Chain{}); err != nil || c.N != s.auditHead(t) {
		t.Errorf("%+v, %v", c, err)
	}
	st, err := admin.Status(t.Context())
	if err != nil || st.Audit.N != s.auditHead(t) || st.Audit.Bytes == 0 {
		t.Errorf("%+v, %v", st.Audit, err)
	}
}
