package backup

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
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
		{Name: "carol", Relation: wire.Relation_BLOCKED, Note: "hello?", SinceMs: 1_700_000_000_000, ChangedMs: 1_700_000_000_002},
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

// TestEveryByteFlipped: no damage opens, and none makes us work for long.
func TestEveryByteFlipped(t *testing.T) {
	h, history := sample(t)
	s := secret(t)
	whole := write(t, s, h, history[:1])
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		got, err := open(b, s)
		if got != nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrWrongSecret) && !errors.Is(err, ErrNotBackup) {
			t.Fatalf("byte %d of %d: %v, %v", i, len(whole), got != nil, err)
		}
	}
}

func TestTruncatedFile(t *testing.T) {
	h, history := sample(t)
	s := secret(t)
	whole := write(t, s, h, history)
	for n := 0; n < len(whole); n += 7 {
		if got, err := open(whole[:n], s); got != nil || err == nil {
			t.Fatalf("the first %d of %d bytes open: %v", n, len(whole), err)
		}
	}
	if _, err := open(append(bytes.Clone(whole), 0), s); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
}

// inside decrypts a backup.
func inside(t testing.TB, b []byte) []byte {
	t.Helper()
	id, err := secret(t).identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(b), id)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// reseal makes an age file of what is inside one.
func reseal(t testing.TB, plain []byte) []byte {
	t.Helper()
	r, err := secret(t).recipient()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// boundaries are where the records of plain begin, and its end.
func boundaries(plain []byte) (at []int) {
	for i := len(magic) + 2; i < len(plain); {
		at = append(at, i)
		i += 5 + int(uint32(plain[i+1])<<24|uint32(plain[i+2])<<16|uint32(plain[i+3])<<8|uint32(plain[i+4]))
	}
	return append(at, len(plain))
}

// TestCutAtEachRecord: a file that somebody with the passphrase cut between two
// records, so that age has nothing to say, is not whole for us.
func TestCutAtEachRecord(t *testing.T) {
	h, history := sample(t)
	plain := inside(t, write(t, secret(t), h, history))
	at := boundaries(plain)
	if len(at) != 1+2+2+1+1 {
		t.Fatalf("%d boundaries", len(at))
	}
	for i, end := range at[:len(at)-1] {
		if _, err := open(reseal(t, plain[:end]), secret(t)); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut before record %d: %v", i, err)
		}
		next := at[i+1]
		left := append(bytes.Clone(plain[:end]), plain[next:]...)
		if _, err := open(reseal(t, left), secret(t)); !errors.Is(err, ErrDamaged) {
			t.Errorf("without record %d: %v", i, err)
		}
		twice := append(bytes.Clone(plain[:next]), plain[end:]...)
		if _, err := open(reseal(t, twice), secret(t)); !errors.Is(err, ErrDamaged) {
			t.Errorf("record %d twice: %v", i, err)
		}
	}
}

func TestNewerVersionAndOtherFiles(t *testing.T) {
	h, history := sample(t)
	plain := inside(t, write(t, secret(t), h, history))
	newer := bytes.Clone(plain)
	newer[len(magic)+1] = 2
	if _, err := open(reseal(t, newer), secret(t)); !errors.Is(err, ErrNewer) {
		t.Errorf("version 2: %v", err)
	}
	if _, err := open(reseal(t, []byte("my diary")), secret(t)); !errors.Is(err, ErrNotBackup) {
		t.Errorf("another age file: %v", err)
	}
	for _, b := range [][]byte{nil, []byte("PNG"), []byte(strings.Repeat("x", 5000))} {
		if _, err := open(b, secret(t)); !errors.Is(err, ErrNotBackup) {
			t.Errorf("another file: %v", err)
		}
	}
}

// TestWorkIsBounded: a file cannot ask for gigabytes of scrypt.
func TestWorkIsBounded(t *testing.T) {
	h, _ := sample(t)
	b := write(t, secret(t), h, nil)
	dear := bytes.Replace(b, []byte(" 10\n"), []byte(" 19\n"), 1)
	if bytes.Equal(b, dear) {
		t.Fatal("no work factor in the header")
	}
	if _, err := open(dear, secret(t)); !errors.Is(err, ErrDamaged) {
		t.Errorf("work factor 19: %v", err)
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

// FuzzParse: nothing inside an age file makes the parser panic or read for
// ever, and what it takes can be written, and is then the same.
func FuzzParse(f *testing.F) {
	h, history := sample(f)
	plain := inside(f, write(f, secret(f), h, history))
	f.Add(plain)
	for _, end := range boundaries(plain) {
		f.Add(plain[:end])
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		b, err := parse(bytes.NewReader(plain), int64(len(plain)))
		if err != nil {
			if b != nil {
				t.Error("part of a damaged backup")
			}
			return
		}
		h := b.Head
		again, err := parseHead(h.marshal())
		if err != nil {
			t.Fatal(err)
		}
		if again.Created != h.Created || !reflect.DeepEqual(again.Member.Home, h.Member.Home) {
			t.Error("the head changes")
		}
		messages := 0
		for p, err := range b.History() {
			if err != nil {
				t.Fatal(err)
			}
			messages += len(p.GetMessages())
		}
		if messages != b.Messages {
			t.Errorf("%d messages, and %d", messages, b.Messages)
		}
	})
}

// FuzzHead: what is read of a head is what is written.
func FuzzHead(f *testing.F) {
	h, _ := sample(f)
	f.Add(h.marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHead(b)
		if err == nil && !bytes.Equal(h.marshal(), b) {
			t.Error("another encoding of the same head")
		}
	})
}
