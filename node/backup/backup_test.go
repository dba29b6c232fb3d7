package backup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"filippo.io/age"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/protocol/words"
)

var created = time.UnixMilli(1_800_000_000_123).UTC()

// secret is the recovery words of alice.
func secret(t testing.TB) Secret { return FromWords(recoveryKey(t, "alice recovery")) }

func accountKey(t testing.TB, name string) key.AccountPrivate {
	t.Helper()
	k, err := key.ParseAccount(keytest.Seed(name, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func recoveryKey(t testing.TB, name string) key.RecoveryPrivate {
	t.Helper()
	k, err := key.ParseRecovery(keytest.Seed(name, 32))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func chain(t testing.TB, name string) *account.Chain {
	t.Helper()
	c, err := account.Create(created, accountKey(t, name), recoveryKey(t, name+" recovery").Public())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// sample is what alice has: two contacts, one of them verified, and five
// messages with him. It is the same every time.
func sample(t testing.TB) (Head, []*wire.Past) {
	t.Helper()
	rk := recoveryKey(t, "alice recovery")
	h := Head{Created: created, Member: engine.Membership{
		Name: "alice", Display: "Alice Ä.",
		Home:  engine.Home{Peer: keytest.Seed("home", 38), Addrs: []string{"/dns4/chat.example.org/tcp/4001", "/ip4/192.0.2.7/udp/4001/quic-v1"}},
		Chain: chain(t, "alice").Bytes(), AIK: accountKey(t, "alice"), RK: &rk,
	}}
	bob, carol := chain(t, "bob"), chain(t, "carol")
	for _, c := range []*wire.ContactState{
		{Name: "bob", Display: "Bob", Relation: wire.Relation_ACCEPTED, Verified: true, SinceMs: 1_700_000_000_000, ChangedMs: 1_700_000_000_001, Chain: bob.Bytes()},
		{Name: "carol", Relation: wire.Relation_BLOCKED, Note: "hello?", SinceMs: 1_700_000_000_000, ChangedMs: 1_700_000_000_002, Chain: carol.Bytes()},
	} {
		id := bob.Account()
		if c.Name == "carol" {
			id = carol.Account()
		}
		c.Account = id[:]
		h.Member.Contacts = append(h.Member.Contacts, c)
	}
	return h, []*wire.Past{past(bob.Account(), 5, 3), past(bob.Account(), 2, 2)}
}

// past is n messages, from number newest on down.
func past(with protocol.AccountID, newest, n int) *wire.Past {
	p := &wire.Past{With: with[:]}
	for i := newest; i > newest-n; i-- {
		p.Messages = append(p.Messages, &wire.PastMessage{
			MsgId: keytest.Seed(fmt.Sprint("message", i), 16), Device: keytest.Seed("device", 32), Mine: i%2 == 0,
			Text: fmt.Sprintf("line %d\nand ⁂", i), SentMs: 1_700_000_000_000, RecordedMs: 1_700_000_000_001, State: uint32(1 + i%6),
		})
	}
	return p
}

func write(t testing.TB, s Secret, h Head, history []*wire.Past) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := Create(&out, s, h)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range history {
		if err := w.Past(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func open(b []byte, s Secret) (*Backup, error) { return Open(bytes.NewReader(b), int64(len(b)), s) }

// same fails unless b is a backup of exactly this.
func same(t *testing.T, b *Backup, h Head, history []*wire.Past) {
	t.Helper()
	if got, want := b.Head.marshal(), h.marshal(); !bytes.Equal(got, want) {
		t.Error("the head is another")
	}
	if len(b.Member.Contacts) != len(h.Member.Contacts) {
		t.Fatalf("%d contacts, want %d", len(b.Member.Contacts), len(h.Member.Contacts))
	}
	for i, c := range b.Member.Contacts {
		if !proto.Equal(c, h.Member.Contacts[i]) {
			t.Errorf("contact %d is %v", i, c)
		}
	}
	for range 2 { // it can be read again
		i := 0
		for p, err := range b.History() {
			if err != nil {
				t.Fatal(err)
			}
			if i >= len(history) || !proto.Equal(p, history[i]) {
				t.Fatalf("messages %d are %v", i, p)
			}
			i++
		}
		if i != len(history) {
			t.Errorf("%d times messages, want %d", i, len(history))
		}
	}
}

func TestRoundTrip(t *testing.T) {
	h, history := sample(t)
	bare := h
	bare.Member.RK, bare.Member.Contacts, bare.Member.Display, bare.Member.Home.Addrs = nil, nil, "", nil
	for name, tt := range map[string]struct {
		secret  Secret
		head    Head
		history []*wire.Past
	}{
		"words":        {secret(t), h, history},
		"passphrase":   {FromPassphrase([]byte("correct horse battery")), h, history},
		"no history":   {secret(t), h, nil},
		"nothing else": {secret(t), bare, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b, err := open(write(t, tt.secret, tt.head, tt.history), tt.secret)
			if err != nil {
				t.Fatal(err)
			}
			same(t, b, tt.head, tt.history)
			if want := min(len(tt.history), 1); b.Conversations != want {
				t.Errorf("%d conversations, want %d", b.Conversations, want)
			}
		})
	}
}

// A backup of version 1 opens for ever. With -update the file is made anew;
// then old backups do not open any more, so do not.
func TestGoldenFile(t *testing.T) {
	h, history := sample(t)
	path := filepath.Join("testdata", "v1.parley")
	if keytest.Updating() {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(path, write(t, secret(t), h, history), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := open(file, secret(t))
	if err != nil {
		t.Fatal(err)
	}
	same(t, b, h, history)
}

func TestPassphraseInAnotherForm(t *testing.T) {
	h, _ := sample(t)
	decomposed, composed := "a\u0308pfel", "\u00e4pfel"
	b := write(t, FromPassphrase([]byte(decomposed)), h, nil)
	if _, err := open(b, FromPassphrase([]byte(composed))); err != nil {
		t.Error(err)
	}
}

func TestWrongSecret(t *testing.T) {
	h, history := sample(t)
	b := write(t, secret(t), h, history)
	for name, s := range map[string]Secret{
		"other words": FromWords(recoveryKey(t, "bob recovery")), "a passphrase": FromPassphrase([]byte("correct horse")),
		"empty": FromPassphrase(nil), "none": {},
	} {
		if got, err := open(b, s); !errors.Is(err, ErrWrongSecret) || got != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, s := range []Secret{{}, FromPassphrase(nil), FromWords(key.RecoveryPrivate{})} {
		if _, err := Create(new(bytes.Buffer), s, h); err == nil {
			t.Error("sealed with no secret")
		}
	}
}

func TestBadContentsAreNotWritten(t *testing.T) {
	for name, change := range map[string]func(h *Head, p *wire.Past){
		"name":            func(h *Head, _ *wire.Past) { h.Member.Name = "A" },
		"no rendezvous":   func(h *Head, _ *wire.Past) { h.Member.Home.Peer = nil },
		"another's chain": func(h *Head, _ *wire.Past) { h.Member.Chain = chain(t, "bob").Bytes() },
		"no chain":        func(h *Head, _ *wire.Past) { h.Member.Chain = nil },
		"recovery key": func(h *Head, _ *wire.Past) {
			rk := recoveryKey(t, "other")
			h.Member.RK = &rk
		},
		"time":            func(h *Head, _ *wire.Past) { h.Created = time.Time{} },
		"contact's chain": func(h *Head, _ *wire.Past) { h.Member.Contacts[0].Chain = h.Member.Chain },
		"contact's id":    func(h *Head, _ *wire.Past) { h.Member.Contacts[0].Account = nil },
		"relation":        func(h *Head, _ *wire.Past) { h.Member.Contacts[0].Relation = 77 },
		"no messages":     func(_ *Head, p *wire.Past) { p.Messages = nil },
		"state":           func(_ *Head, p *wire.Past) { p.Messages[0].State = 0 },
		"message id":      func(_ *Head, p *wire.Past) { p.Messages[0].MsgId = nil },
		"long text":       func(_ *Head, p *wire.Past) { p.Messages[0].Text = strings.Repeat("x", protocol.MaxText+1) },
	} {
		h, history := sample(t)
		change(&h, history[0])
		w, err := Create(new(bytes.Buffer), secret(t), h)
		if err == nil {
			err = w.Past(history[0])
		}
		if err == nil {
			t.Errorf("%s: written", name)
		}
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := FromPassphrase([]byte("hunter2 hunter2"))
	if text := fmt.Sprintf("%v %+v %#v %s", s, s, &s, []any{s}); strings.Contains(text, "hunter2") {
		t.Error(text)
	}
}

func TestTyped(t *testing.T) {
	h, _ := sample(t)
	rk := recoveryKey(t, "alice recovery")
	list, err := words.Recovery(rk.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	b := write(t, secret(t), h, nil)
	s, err := FromTyped([]byte("  " + strings.ToUpper(strings.Join(list, "\n")) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(b, s); err != nil {
		t.Errorf("words as they may be typed: %v", err)
	}
	id, err := age.NewScryptIdentity(strings.Join(list, " "))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := age.Decrypt(bytes.NewReader(b), id); err != nil {
		t.Errorf("the age program, with the words: %v", err)
	}
	list[0], list[1] = list[1], list[0]
	if _, err := FromTyped([]byte(strings.Join(list, " "))); !errors.Is(err, words.ErrChecksum) {
		t.Errorf("words in the wrong order: %v", err)
	}
	if _, err := FromTyped([]byte("four words and more")); err != nil {
		t.Errorf("a passphrase: %v", err)
	}
}
