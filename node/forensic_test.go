package node_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	badgerdb "github.com/dgraph-io/badger/v4"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

// secretsOf returns what somebody whose node does not run keeps secret, by what
// it is and which one.
func secretsOf(t *testing.T, p *nodetest.Person) map[string][]byte {
	t.Helper()
	secrets := map[string][]byte{}
	add := func(what string, id, b []byte) {
		if len(bytes.Trim(b, "\x00")) > 0 {
			secrets[fmt.Sprintf("%s %x", what, id[:4])] = bytes.Clone(b)
		}
	}
	err := p.WithStore(func(tx store.Tx) error {
		e, err := engine.Load(tx)
		if err != nil {
			return err
		}
		member, err := e.Membership(tx)
		if err != nil {
			return err
		}
		add("account key", member.AIK.Public().Bytes(), member.AIK.Bytes())
		for pair, err := range tx.Scan(nil, nil) {
			if err != nil {
				return err
			}
			id, v := pair.Key[1:], pair.Value
			switch pair.Key[0] {
			case 'S', 'O': // the row ends with the private halves
				what := map[byte]string{'S': "signed prekey", 'O': "one-time prekey"}[pair.Key[0]]
				add(what+", X25519", id, v[len(v)-96:len(v)-64])
				add(what+", ML-KEM", id, v[len(v)-64:])
			case 'R': // the row begins with the primes
				add("RSA key", id, v[8:264])
			case 's': // SPEC "Stored session"
				add("session, root key", id, v[100:132])
				add("session, ratchet key", id, v[132:164])
				add("session, sending chain", id, v[196:228])
				add("session, receiving chain", id, v[260:292])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return secrets
}

// heldIn tells which secrets stand in b.
func heldIn(b []byte, secrets map[string][]byte) (found []string) {
	begin := map[uint64]string{} // by their first bytes: there is much to look through
	for what, s := range secrets {
		begin[binary.LittleEndian.Uint64(s)] = what
	}
	for at := range max(0, len(b)-7) {
		what, ok := begin[binary.LittleEndian.Uint64(b[at:])]
		if ok && bytes.HasPrefix(b[at:], secrets[what]) {
			found = append(found, what)
		}
	}
	return found
}

// copyOf copies a data directory, for a thief.
func copyOf(t *testing.T, p *nodetest.Person) *nodetest.Person {
	t.Helper()
	stolen := &nodetest.Person{Name: "thief of " + p.Name, Config: p.Config}
	stolen.Config.Dir = filepath.Join(t.TempDir(), "copy")
	if out, err := exec.Command("cp", "-a", p.Config.Dir, stolen.Config.Dir).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return stolen
}

// readable returns the values of a data directory that its secret opens, every
// version of every row that is still somewhere in the store's files.
func readable(t *testing.T, p *nodetest.Person) (values [][]byte) {
	t.Helper()
	dir := copyOf(t, p).Config.Dir
	db, err := badgerdb.Open(badgerdb.DefaultOptions(filepath.Join(dir, "store")).WithLogger(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	v, err := vault.Open(dir, p.Config.Secret)
	if err != nil {
		t.Fatal(err)
	}
	below := memory.New()
	kv, err := v.Seal(below, engine.Ephemeral)
	if err != nil {
		t.Fatal(err)
	}
	open := func(key, sealed []byte) (value []byte, err error) {
		if err = below.Update(t.Context(), func(tx store.Tx) error { return tx.Set(key, sealed) }); err != nil {
			return nil, err
		}
		err = kv.View(t.Context(), func(tx store.Tx) (err error) {
			value, err = tx.Get(key)
			return err
		})
		return value, err
	}
	err = db.View(func(txn *badgerdb.Txn) error {
		it := txn.NewIterator(badgerdb.IteratorOptions{AllVersions: true})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			sealed, err := it.Item().ValueCopy(nil)
			if err != nil {
				return err
			}
			if key := it.Item().Key(); len(key) < 2 || len(sealed) < 4 { // the store's own, or deleted
				continue
			}
			// The store puts a byte before each key and a checksum behind each value.
			value, err := open(it.Item().KeyCopy(nil)[1:], sealed[:len(sealed)-4])
			if err == nil {
				values = append(values, value)
			} else if !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrNotFound) {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return values
}

// replaceWrap starts a node whose clock jumped and stops it when it has given
// its wrap key up, after all that was due was done.
func replaceWrap(t *testing.T, net *nodetest.Net, p *nodetest.Person) {
	t.Helper()
	old := wrapFile(t, p)
	p.Start()
	net.Wait("the wrap key is replaced", func() bool {
		now := wrapFile(t, p)
		return !bytes.Equal(now, old) && len(now) == len(old) // longer while both keys are there
	})
	p.Stop()
}

// A node has lived: sessions were opened and replaced, its RSA key, signed
// prekey and account key rotated, a device was revoked, and the time of what was
// sealed to the old keys is over. Of the keys that are destroyed then nothing is
// left: neither in clear in any file, nor in any row that the secret opens,
// however old; and no row of before opens.
func TestKLC04_NothingOfDestroyedKeysIsLeft(t *testing.T) {
	t.Parallel()
	clock := &jumps{}
	net := nodetest.NewWith(t, 2, clock.options())
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	desk := bob.Link("desk", false)
	const marker = "MARKER that both wrote"
	exchange := func() {
		t.Helper()
		net.Wait("alice's is delivered", reached(alice, alice.Say(bob, marker).ID, api.Delivered))
		net.Wait("bob's is delivered", reached(bob, bob.Say(alice, marker).ID, api.Delivered))
	}
	exchange()
	bob.Stop()
	before, sealed := secretsOf(t, bob), sealedRows(t, bob)
	if n := opening(t, bob, sealed); n != len(sealed) {
		t.Fatalf("%d of %d rows open before", n, len(sealed))
	}
	bob.Start()
	sessions := len(entries(t, bob, ledger.Session, ledger.Created))
	clock.jump(11 * time.Minute) // a look-up was made lately
	if _, err := alice.RotateKeys(t.Context(), api.RotateRequest{What: api.RotateSessions}); err != nil {
		t.Fatal(err)
	}
	net.Wait("a new session is there", func() bool {
		exchange()
		return len(entries(t, bob, ledger.Session, ledger.Created)) > sessions
	})
	if _, err := bob.RevokeDevice(t.Context(), "desk", "lost"); err != nil {
		t.Fatal(err)
	}
	if err := desk.Ended(); !errors.Is(err, engine.ErrRevoked) {
		t.Fatal(err)
	}
	if _, err := bob.RotateKeys(t.Context(), api.RotateRequest{What: api.RotateAll}); err != nil {
		t.Fatal(err)
	}
	net.Wait("the RSA key is replaced", func() bool { return len(entries(t, bob, ledger.RSA, ledger.Replaced)) == 1 })
	alice.Stop()
	bob.Stop()
	clock.jump(prekey.OneTimeKeep + 24*time.Hour)
	alice.Start()
	bob.Start()
	for _, p := range net.People[:2] { // nothing is sealed to keys that were not confirmed for so long
		net.Wait(p.Name+" may write again", func() bool {
			to := map[string]string{"alice": "bob", "bob": "alice"}[p.Name]
			_, err := p.Send(t.Context(), api.SendRequest{To: to, Text: marker})
			return err == nil
		})
	}
	exchange()
	bob.Stop()
	clock.jump(7 * time.Hour) // a clock that went on so far is not believed at once
	bob.Start()
	for _, kind := range []ledger.Kind{ledger.RSA, ledger.Signed, ledger.OneTime, ledger.Account, ledger.Session} {
		net.Wait(string(kind)+" destroyed", func() bool { return len(entries(t, bob, kind, ledger.Destroyed)) > 0 })
	}
	bob.Stop()
	replaceWrap(t, net, bob)

	left := secretsOf(t, bob)
	destroyed := map[string][]byte{}
	for what, s := range before {
		if !bytes.Equal(left[what], s) {
			destroyed[what] = s
		}
	}
	for _, kind := range []string{"account key", "signed prekey, X25519", "signed prekey, ML-KEM", "one-time prekey, X25519",
		"one-time prekey, ML-KEM", "RSA key", "session, root key", "session, ratchet key", "session, receiving chain"} {
		if !slices.ContainsFunc(slices.Collect(maps.Keys(destroyed)), func(what string) bool { return strings.HasPrefix(what, kind) }) {
			t.Errorf("no %s was destroyed: the test does not test", kind)
		}
	}
	checkFiles(t, bob.Config.Dir, destroyed, left, []byte(marker))
	values := readable(t, bob)
	if all := slices.Concat(values...); !bytes.Contains(all, []byte(marker)) || len(heldIn(all, left)) < len(left) {
		t.Errorf("of %d secrets that are kept %d are found, and the text %v: the test does not test", len(left), len(heldIn(all, left)), bytes.Contains(all, []byte(marker)))
	} else if found := heldIn(all, destroyed); len(found) > 0 {
		t.Errorf("rows that open hold %q", found)
	}
	if n := opening(t, bob, sealed); n != 0 {
		t.Errorf("%d of %d rows of before open", n, len(sealed))
	}
}

// checkFiles looks for secrets and a text in clear in every file below dir.
func checkFiles(t *testing.T, dir string, destroyed, left map[string][]byte, text []byte) {
	t.Helper()
	files := 0
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		files++
		b, err := os.ReadFile(path)
		b = bytes.TrimRight(b, "\x00") // the part of logs that is not written yet
		if found := slices.Concat(heldIn(b, destroyed), heldIn(b, left)); len(found) > 0 {
			t.Errorf("%s holds %q", path, found)
		}
		if bytes.Contains(b, text) {
			t.Errorf("%s holds a text", path)
		}
		return err
	})
	if err != nil || files < 5 {
		t.Errorf("searched %d files, %v", files, err)
	}
}

// burglar has a copy of somebody's data directory and of what opens it.
type burglar struct{ sessions []session.State }

func burgle(t *testing.T, p *nodetest.Person) *burglar {
	t.Helper()
	b := &burglar{}
	err := copyOf(t, p).WithStore(func(tx store.Tx) error {
		for pair, err := range tx.Scan([]byte{'s'}, []byte{'s' + 1}) {
			if err != nil {
				return err
			}
			s, err := session.ParseState(pair.Value)
			if err != nil {
				return err
			}
			b.sessions = append(b.sessions, s)
		}
		return nil
	})
	if err != nil || len(b.sessions) == 0 {
		t.Fatalf("%d sessions, %v", len(b.sessions), err)
	}
	return b
}

// reads tells how many recorded envelopes the stolen sessions open; each goes on
// from what it read.
func (b *burglar) reads(envs [][]byte) (n int) {
	for _, env := range envs {
		for i, s := range b.sessions {
			if next, _, err := s.Decrypt(time.Now(), env); err == nil {
				b.sessions[i] = next
				n++
				break
			}
		}
	}
	return n
}

// Who records all traffic, and copies the whole directory of a node at a moment,
// reads nothing of before; and nothing any more after a full round trip.
func TestKLC07_RecordedTrafficAndAStolenDirectory(t *testing.T) {
	t.Parallel()
	net := nodetest.New(t, 2)
	alice, bob := net.People[0], net.People[1]
	net.Befriend(alice, bob)
	roundTrip := func() {
		t.Helper()
		net.Wait("alice's is delivered", reached(alice, alice.Say(bob, "there").ID, api.Delivered))
		net.Wait("bob's is delivered", reached(bob, bob.Say(alice, "and back").ID, api.Delivered))
	}
	roundTrip()

	atFirst, before := recorded(t, net, alice, bob)
	if n := atFirst.reads(before); n != len(before) {
		t.Fatalf("a copy from before they came reads %d of %d messages", n, len(before))
	}
	roundTrip()
	late, next := recorded(t, net, alice, bob)
	if n := late.reads(before); n != 0 {
		t.Errorf("KLC-06: a later copy reads %d messages of before", n)
	}
	if n := late.reads(next); n != len(next) {
		t.Fatalf("the thief reads %d of the %d messages that come next: the test does not test", n, len(next))
	}
	roundTrip()
	roundTrip()
	_, healed := recorded(t, net, alice, bob)
	if n := late.reads(healed); n != 0 {
		t.Errorf("the thief still reads %d messages after a round trip", n)
	}
}

// recorded returns a copy of bob's directory, and then what alice sends him as
// it is on the wire: it waits in her store while nobody can be reached.
func recorded(t *testing.T, net *nodetest.Net, alice, bob *nodetest.Person) (thief *burglar, envs [][]byte) {
	t.Helper()
	to := bob.Whoami().Device
	bob.Stop()
	thief = burgle(t, bob)
	net.Home.Stop()
	net.Wait("alice is alone", func() bool { return !alice.Up() })
	var last string
	for range 3 {
		last = alice.Say(bob, "recorded").ID
	}
	alice.Stop()
	err := alice.WithStore(func(tx store.Tx) error {
		e, err := engine.Load(tx)
		if err != nil {
			return err
		}
		devices, err := e.QueuedDevices(tx)
		if err != nil {
			return err
		}
		for _, d := range devices {
			if d.String() != to {
				continue
			}
			queue, err := e.Queue(tx, time.Now(), d, 0, 1<<20, 100)
			if err != nil {
				return err
			}
			for _, q := range queue {
				envs = append(envs, q.Envelope)
			}
		}
		return nil
	})
	if err != nil || len(envs) < 3 {
		t.Fatalf("%d envelopes recorded, %v", len(envs), err)
	}
	net.Home.Start()
	alice.Start()
	bob.Start()
	net.Wait("what was recorded is delivered", reached(alice, last, api.Delivered))
	return thief, envs
}
