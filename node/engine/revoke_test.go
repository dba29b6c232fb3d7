package engine

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/store"
)

// The account key goes with the device that knew it; the new one reaches the
// devices that stay, and is in no row that is not shredded.
func TestKLC09_RevokeRotatesTheAccountKey(t *testing.T) {
	w, a, a2, a3 := threeDevices(t)
	old := a.aik()
	chain, err := a.change(func(tx store.Tx) ([]byte, error) {
		return a.e.Revoke(tx, w.now, a2.device(), account.Lost)
	})
	w.check(err)
	if a.aik().Public() != old.Public() {
		t.Error("a key that no chain names is in force")
	}
	if code := a.upload(chain); code != protocol.OK {
		t.Fatal(code)
	}
	w.check(a.setOwnChain(chain))
	if a.aik().Public() == old.Public() || !a.chain().Revoked(a2.device()) || notices(a, NoticeDeviceRevoked) != 1 {
		t.Error("the device is not revoked with its key")
	}
	if n := len(a.rows(tableWaiting)); n != 1 {
		t.Errorf("%d contents for the device that stays", n)
	}
	seed := a.aik().Bytes()
	for table := range 256 {
		for _, row := range a.rows(byte(table)) {
			if bytes.Contains(row.Value, seed) && !strings.ContainsRune("IARSOs", rune(table)) {
				t.Errorf("the account key is in table %c", table)
			}
		}
	}
	a.view(func(tx store.Tx) error {
		wk, err := a.e.begin(tx, w.now)
		if err != nil {
			return err
		}
		item, err := decodeRow[itemRow](a.rows(tableWaiting)[0].Value)
		if err != nil {
			return err
		}
		plain, err := wk.plain(item, nil)
		if !bytes.Contains(plain, seed) {
			t.Error("what is sealed does not hold the key")
		}
		return err
	})
	if err := a3.setOwnChain(chain); err != nil {
		t.Fatal(err)
	}
	if _, err := a3.change(func(tx store.Tx) ([]byte, error) { return a3.e.Renew(tx, w.now) }); err != nil {
		t.Errorf("nothing to renew: %v", err)
	}
	if _, err := a3.membership(); !errors.Is(err, ErrNoAccountKey) {
		t.Errorf("without the key: %v", err)
	}
	a3.do(func(tx store.Tx) (Hint, error) {
		wk, err := a3.e.begin(tx, w.now)
		return Hint{}, errors.Join(err, wk.takeAccountKey(seed), wk.takeAccountKey(seed), wk.takeAccountKey(nil))
	})
	if _, err := a3.membership(); err != nil {
		t.Errorf("with the key: %v", err)
	}
	if n := len(a.rows(tableAccountKey)); n != 3 { // old, new, recovery
		t.Errorf("%d account keys", n)
	}
	w.nodes = []*node{a}
	for range 32 * 24 { // hours: nothing waits that is to be tried more often
		w.now = w.now.Add(time.Hour)
		w.settle()
	}
	if n := len(a.rows(tableAccountKey)); n != 2 {
		t.Errorf("%d account keys after a month", n)
	}
}

func TestRevokeRefuses(t *testing.T) {
	w := newWorld(t)
	a, b := w.add("alice"), w.add("bob")
	for _, c := range []struct {
		device protocol.DeviceID
		want   error
	}{{a.device(), ErrThisDevice}, {b.device(), ErrNotFound}} {
		_, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Revoke(tx, w.now, c.device, account.Lost) })
		if !errors.Is(err, c.want) {
			t.Errorf("%v", err)
		}
	}
}

// A crash after every step of a revocation: doing it again ends with the device
// revoked, and with the key in force here.
func TestRevokeSurvivesCrashes(t *testing.T) {
	for crash := range 4 {
		w, a, a2, _ := threeDevices(t)
		revoke := func() []byte {
			chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Revoke(tx, w.now, a2.device(), account.Lost) })
			w.check(err)
			return chain
		}
		steps := 0
		for !a.chain().Revoked(a2.device()) {
			if c := w.home.names["alice"].chain; len(c) > len(a.chain().Bytes()) { // as after Changed
				w.check(a.setOwnChain(c))
				continue
			}
			chain := revoke()
			if steps++; steps == crash {
				a.load()
				continue
			}
			if code := a.upload(chain); code != protocol.OK {
				t.Fatal(code)
			}
			if steps++; steps == crash {
				a.load()
				continue
			}
			w.check(a.setOwnChain(chain))
			if steps++; steps == crash {
				a.load()
			}
		}
		if _, err := a.membership(); err != nil {
			t.Errorf("crash %d: %v", crash, err)
		}
		if n := len(a.rows(tableAccountKey)); n != 3 {
			t.Errorf("crash %d: %d account keys", crash, n)
		}
		if n := len(a.rows(tableWaiting)); n != 1 {
			t.Errorf("crash %d: %d contents wait", crash, n)
		}
	}
}

func TestARevokedDeviceEnds(t *testing.T) {
	w, a, a2, _ := threeDevices(t)
	b := w.add("bob")
	w.publish("alice", a.chain())
	w.befriend(a2, b)
	a2.send(b, "before")
	w.settle()
	chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Revoke(tx, w.now, a2.device(), account.Lost) })
	w.check(err)
	a2.hint = Hint{}
	w.check(a2.setOwnChain(chain))
	if !a2.hint.Revoked || notices(a2, NoticeRevoked) != 1 {
		t.Error("the device is not told")
	}
	if _, err := a2.change(func(tx store.Tx) ([]byte, error) { _, err := Load(tx); return nil, err }); !errors.Is(err, ErrRevoked) {
		t.Errorf("it starts again: %v", err)
	}
	for more := true; more; {
		a2.do(func(tx store.Tx) (h Hint, err error) {
			more, err = Retire(tx, w.now)
			return h, err
		})
	}
	for _, table := range []byte{tableSession, tableOneTime, tableSigned, tableStock, tableReplay, tableAccountKey, tableRSA} {
		if n := len(a2.rows(table)); n != 0 {
			t.Errorf("%d rows in table %c", n, table)
		}
	}
	if got := texts(a2.history(b)); len(got) != 1 || got[0] != "before" {
		t.Errorf("history %q", got)
	}
	for _, row := range a2.rows(tableIdentity) {
		if bytes.Contains(row.Value, a2.e.id.DSK.Bytes()) {
			t.Error("a key is left")
		}
	}
}

// The last device of an account leaves it: contacts are told once, writing fails
// clearly, and the recovery words bring the account back.
func TestKLC13_LastDeviceLeaves(t *testing.T) {
	w, a, b := pair(t)
	a.away, a.offline = true, true
	waiting := b.send(a, "on its way")
	w.settle()
	chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Leave(tx, w.now, account.Compromised) })
	w.check(err)
	if code := a.upload(chain); code != protocol.OK {
		t.Fatal(code)
	}
	w.settle()
	if got := b.notices(NoticeNoDevice); got != 1 || b.notices(NoticeDeviceRevoked) != 0 {
		t.Errorf("bob was told %d times", got)
	}
	if m := b.message(waiting); m.State != StateFailed || m.Problem == "" {
		t.Errorf("what was on its way is %s", m.State)
	}
	if err := b.trySend(a, protocol.NewMsgID(), "anybody?"); err != ErrNoDevice {
		t.Errorf("writing: %v", err)
	}
	a.hint = Hint{}
	chainBack, a2 := w.recovered(a)
	befriendDevice(w, a2, b)
	w.publish("alice", chainBack)
	w.settle()
	if b.notices(NoticeDeviceAdded) != 1 || b.notices(NoticeRecovered) != 1 {
		t.Error("bob was not told that she is back")
	}
	b.send(a2, "welcome back")
	w.pass(time.Minute)
	if got := texts(a2.history(b)); len(got) != 1 || got[0] != "welcome back" {
		t.Errorf("the new device has %q", got)
	}
}

// A device that leaves in a hurry leaves the account key in force. The others
// replace it: a copy of what that device knew must not bring it back.
func TestKLC13_TheKeyOfADeviceThatLeftIsReplaced(t *testing.T) {
	w, a, a2, a3 := threeDevices(t)
	stolen := a2.aik()
	left, err := a2.change(func(tx store.Tx) ([]byte, error) { return a2.e.Leave(tx, w.now, account.Compromised) })
	w.check(err)
	w.nodes = []*node{a, a3}
	if code := a.upload(left); code != protocol.OK {
		t.Fatal(code)
	}
	for _, n := range []*node{a, a3} {
		n.hint = Hint{}
		w.check(n.setOwnChain(left))
		if !n.hint.Chain {
			t.Error("a device that stays does not want to change the chain")
		}
		n.restart() // it is not forgotten
	}
	next, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Renew(tx, w.now) })
	w.check(err)
	if code := a.upload(next); code != protocol.OK {
		t.Fatal(code)
	}
	w.check(a.setOwnChain(next))
	w.pass(time.Minute)
	if got := a3.aik().Public(); got == stolen.Public() || got != a.aik().Public() {
		t.Error("the devices that stay do not share a new account key")
	}
	if _, err := CertifyDevice(w.now, a3.chain(), stolen, w.newcomer("thief").Request()); err == nil {
		t.Error("the old account key still adds devices")
	}
	for _, n := range []*node{a, a3} {
		again, err := n.change(func(tx store.Tx) ([]byte, error) { return n.e.Renew(tx, w.now) })
		if err != nil || again != nil {
			t.Errorf("it is replaced again: %v", err)
		}
	}
}

// A stolen device can fill the place for account keys; the one that counts has
// room all the same.
func TestTheNextAccountKeyHasRoom(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	take := func(k key.AccountPrivate) {
		t.Helper()
		w.now = w.now.Add(time.Second)
		a.do(func(tx store.Tx) (Hint, error) {
			step, err := a.e.begin(tx, w.now)
			if err != nil {
				return Hint{}, err
			}
			if err := step.takeAccountKey(k.Bytes()); err != nil {
				return Hint{}, err
			}
			return step.end()
		})
	}
	inForce, last := a.aik(), key.NewAccount()
	for range 2 * maxAccountKeys {
		take(key.NewAccount())
	}
	take(last)
	kept := map[string]bool{}
	for _, row := range a.rows(tableAccountKey) {
		kept[string(row.Key)] = true
	}
	if !kept[string(keyAccountKey(inForce.Public().Bytes()))] || !kept[string(keyAccountKey(last.Public().Bytes()))] || len(kept) > maxAccountKeys {
		t.Errorf("%d keys, not those that count", len(kept))
	}
}
