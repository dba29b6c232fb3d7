package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/store"
	"github.com/parley-chat/parley/store/memory"
)

func (w *world) newcomer(name string) *Newcomer {
	w.t.Helper()
	n, err := NewNewcomerWith(w.now, name, w.rsa)
	w.check(err)
	return n
}

// change runs what makes a longer chain of the own account.
func (n *node) change(fn func(store.Tx) ([]byte, error)) (chain []byte, err error) {
	err = n.update(func(tx store.Tx) (h Hint, err error) {
		chain, err = fn(tx)
		return h, err
	})
	return chain, err
}

// upload gives a chain to the rendezvous, as far as it extends what is there.
func (n *node) upload(chain []byte) protocol.Code {
	n.w.t.Helper()
	next, err := account.ParseChain(chain)
	n.w.check(err)
	held, err := account.ParseChain(n.w.home.names[n.name].chain)
	n.w.check(err)
	if !next.Extends(held) {
		return protocol.ChainConflict
	}
	if next.Seq() > held.Seq() {
		n.w.publish(n.name, next)
	}
	return protocol.OK
}

func (n *node) setOwnChain(chain []byte) error {
	return n.update(func(tx store.Tx) (Hint, error) { return n.e.SetOwnChain(tx, n.w.now, chain) })
}

func (n *node) ownDevices() (list []OwnDevice) {
	n.w.t.Helper()
	n.view(func(tx store.Tx) (err error) {
		list, err = n.e.OwnDevices(tx, n.w.now)
		return err
	})
	return list
}

func (n *node) membership() (m Membership, err error) {
	err = n.kv.View(context.Background(), func(tx store.Tx) (err error) {
		m, err = n.e.Membership(tx)
		return err
	})
	return m, err
}

// threeDevices is alice with three devices that know of each other.
func threeDevices(t testing.TB) (w *world, a, a2, a3 *node) {
	w = newWorld(t)
	a = w.add("alice")
	a2 = w.addDevice(a)
	w.check(a.setOwnChain(a2.chain().Bytes()))
	a3 = w.addDevice(a)
	w.publish("alice", a3.chain())
	for _, n := range []*node{a, a2} {
		w.check(n.setOwnChain(a3.chain().Bytes()))
	}
	return w, a, a2, a3
}

func TestDeviceRequest(t *testing.T) {
	w := newWorld(t)
	r := w.newcomer("phone").Request()
	b := r.Marshal()
	got, err := ParseDeviceRequest(b)
	if err != nil || !bytes.Equal(got.Marshal(), b) || got.Name != "phone" {
		t.Fatalf("%+v, %v", got, err)
	}
	for i := range b {
		if _, err := ParseDeviceRequest(b[:i]); !errors.Is(err, ErrBadRequest) {
			t.Errorf("cut to %d bytes: %v", i, err)
		}
	}
	for name, bad := range map[string][]byte{
		"longer": append(bytes.Clone(b), 0), "version": append([]byte{2}, b[1:]...),
		"control character": append(bytes.Clone(b[:len(b)-1]), '\x1b'),
	} {
		if _, err := ParseDeviceRequest(bad); !errors.Is(err, ErrBadRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParseDeviceRequest: what is read can be certified, and is written the
// same again.
func FuzzParseDeviceRequest(f *testing.F) {
	n, err := NewNewcomerWith(start, "phone", keytest.RSA(f, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(n.Request().Marshal())
	f.Add([]byte{1})
	aik := key.NewAccount()
	c, err := account.Create(start, aik, key.NewRecovery().Public())
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseDeviceRequest(b)
		if err != nil {
			return
		}
		if !bytes.Equal(r.Marshal(), b) {
			t.Errorf("%x is written as %x", b, r.Marshal())
		}
		if _, err := CertifyDevice(start, c, aik, r); err != nil {
			t.Error(err)
		}
	})
}

func TestInitMemberRefuses(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	other := w.add("other")
	good, err := a.membership()
	w.check(err)
	n := w.newcomer("phone")
	good.Chain, err = a.change(func(tx store.Tx) ([]byte, error) { return a.e.Certify(tx, w.now, n.Request()) })
	w.check(err)
	rk := key.NewRecovery()
	cases := map[string]func(*Membership, *Newcomer) error{
		"a device that is not certified": func(m *Membership, _ *Newcomer) error { m.Chain = a.chain().Bytes(); return ErrBadMembership },
		"another account key":            func(m *Membership, _ *Newcomer) error { m.AIK = other.aik(); return ErrBadMembership },
		"no account key":                 func(m *Membership, _ *Newcomer) error { m.AIK = key.AccountPrivate{}; return ErrBadMembership },
		"another recovery key":           func(m *Membership, _ *Newcomer) error { m.RK = &rk; return ErrBadMembership },
		"another peer id":                func(_ *Membership, n *Newcomer) error { n.Host = key.NewHost(); return ErrBadMembership },
		"no chain":                       func(m *Membership, _ *Newcomer) error { m.Chain = nil; return account.ErrMalformed },
		"bad name":                       func(m *Membership, _ *Newcomer) error { m.Name = "A"; return ErrBadName },
	}
	for name, spoil := range cases {
		m, who := good, *n
		want := spoil(&m, &who)
		kv := memory.New()
		err := kv.Update(t.Context(), func(tx store.Tx) error { return InitMember(tx, w.now, &who, m) })
		if !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	err = a.kv.Update(t.Context(), func(tx store.Tx) error { return InitMember(tx, w.now, n, good) })
	if !errors.Is(err, ErrExists) {
		t.Errorf("a store with an identity: %v", err)
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	m, err := a.membership()
	w.check(err)
	for _, v := range []any{m, &m, *w.newcomer("phone"), w.newcomer("phone"), *a.e.Identity(), Founder{}} {
		if got := fmt.Sprintf("%v %+v %#v", v, v, v); got != "redacted redacted redacted" {
			t.Errorf("%T prints %q", v, got)
		}
	}
}

func TestTooManyDevices(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	for i := range protocol.MaxDevices {
		chain, err := a.change(func(tx store.Tx) ([]byte, error) {
			return a.e.Certify(tx, w.now, w.newcomer("more").Request())
		})
		if full := i == protocol.MaxDevices-1; full != errors.Is(err, ErrTooManyDevices) {
			t.Fatalf("device %d: %v", i+2, err)
		} else if !full {
			w.check(a.setOwnChain(chain))
		}
	}
	if got := len(a.ownDevices()); got != protocol.MaxDevices {
		t.Errorf("%d devices", got)
	}
}

// Two devices know each other as siblings, are told of new ones, and the own
// account is no contact and on no list.
func TestKLC10_OwnDevices(t *testing.T) {
	w, a, a2, a3 := threeDevices(t)
	for _, n := range []*node{a, a2, a3} {
		this := 0
		for _, d := range n.ownDevices() {
			if d.This {
				this++
			}
		}
		if len(n.ownDevices()) != 3 || this != 1 {
			t.Errorf("devices %+v", n.ownDevices())
		}
		c := n.contact(n)
		if c.Relation != Self || len(c.Devices) != 2 {
			t.Errorf("the own account is %q with %d other devices", c.Relation, len(c.Devices))
		}
		n.view(func(tx store.Tx) error {
			contacts, err := n.e.Contacts(tx)
			list, _, err2 := n.e.AllowList(tx)
			if len(contacts)+len(list) != 0 {
				t.Errorf("%d contacts, %d allowed", len(contacts), len(list))
			}
			return errors.Join(err, err2)
		})
	}
	if got := notices(a, NoticeDeviceAdded); got != 2 {
		t.Errorf("%d notices of two new devices", got)
	}
	if err := a.trySend(a, protocol.NewMsgID(), "to myself"); err == nil {
		t.Error("wrote to the own account")
	}
	w.settle()
}

func notices(n *node, code string) (count int) {
	for _, ev := range n.events(KindNotice) {
		if ev.Cause == code {
			count++
		}
	}
	return count
}

func TestRenameAndRenew(t *testing.T) {
	w, a, a2, _ := threeDevices(t)
	chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Rename(tx, w.now, a2.device(), "tablet") })
	w.check(err)
	w.check(a.setOwnChain(chain))
	if a.ownDevices()[1].Name != "tablet" {
		t.Errorf("%+v", a.ownDevices())
	}
	if _, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Rename(tx, w.now, a2.device(), "\x00") }); !errors.Is(err, ErrBadDeviceName) {
		t.Error(err)
	}
	renew := func() []byte {
		chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Renew(tx, w.now) })
		w.check(err)
		return chain
	}
	if renew() != nil {
		t.Error("fresh certificates are renewed")
	}
	w.now = w.now.Add(certLife - renewBefore + time.Hour)
	due := false
	for range 20 { // the clock made a jump: sweeps wait for it to settle
		a.tick()
		due = due || a.hint.Chain
		w.now = w.now.Add(time.Hour)
	}
	if !due {
		t.Error("nobody asks for the renewal")
	}
	before := a.self().Cert
	w.check(a.setOwnChain(renew()))
	for _, d := range a.ownDevices() {
		if d.NotAfter.Sub(w.now) < certLife-time.Second {
			t.Errorf("%s ends %v", d.Name, d.NotAfter)
		}
	}
	if after := a.self().Cert; !after.NotAfter.After(before.NotAfter) || after.DeviceID() != before.DeviceID() || !after.Created.Equal(before.Created) {
		t.Error("the renewed certificate is not in force without a restart")
	}
	if renew() != nil {
		t.Error("renewed twice")
	}
}

// A certificate that has ended is renewed too: its device may have been off.
func TestRenewAnExpiredDevice(t *testing.T) {
	w, a, a2, _ := threeDevices(t)
	w.now = w.now.Add(2 * certLife)
	if got := len(a.chain().Devices(w.now)); got != 0 {
		t.Fatalf("%d devices are valid", got)
	}
	chain, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Renew(tx, w.now) })
	w.check(err)
	w.check(a.setOwnChain(chain))
	if _, err := account.ParseChain(chain); err != nil || len(a.contact(a).Devices) != 2 || a2.setOwnChain(chain) != nil {
		t.Error("the other devices are not back")
	}
}

func TestOwnChainRefuses(t *testing.T) {
	w, a, _, a3 := threeDevices(t)
	b := w.add("bob")
	one, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Rename(tx, w.now, a3.device(), "one") })
	w.check(err)
	other, err := a.change(func(tx store.Tx) ([]byte, error) { return a.e.Rename(tx, w.now, a3.device(), "two") })
	w.check(err)
	old := a.chain().Bytes()
	w.check(a.setOwnChain(one))
	w.check(a.setOwnChain(one))
	for _, c := range []struct {
		chain []byte
		want  error
	}{{other, ErrChainFork}, {old, ErrChainFork}, {b.chain().Bytes(), ErrBadAnswer}, {nil, ErrBadAnswer}} {
		if err := a.setOwnChain(c.chain); !errors.Is(err, c.want) {
			t.Errorf("%v, want %v", err, c.want)
		}
	}
}

// Recovery: with the recovery key and the chain alone the account goes on at a
// new device, and all old ones are revoked.
func TestRecoverAccount(t *testing.T) {
	w, a, a2, _ := threeDevices(t)
	rk, n := a.recovery(), w.newcomer("recovered")
	got, err := RecoverAccount(w.now, a.chain(), rk, n.Request())
	w.check(err)
	chain := got.Chain
	kv := memory.New()
	w.check(kv.Update(t.Context(), func(tx store.Tx) error {
		return InitMember(tx, w.now, n, Membership{Name: "alice", Chain: chain.Bytes(), AIK: got.AIK, RK: &got.RK})
	}))
	if got := chain.Devices(w.now); len(got) != 1 || got[0].Name != "recovered" || chain.Account() != a.account() {
		t.Errorf("devices %+v", got)
	}
	w.check(a2.setOwnChain(chain.Bytes()))
	if !a2.hint.Revoked {
		t.Error("an old device goes on")
	}
	if _, err := RecoverAccount(w.now, a.chain(), key.NewRecovery(), n.Request()); err == nil {
		t.Error("any recovery key will do")
	}
	if _, err := RecoverAccount(w.now, chain, rk, w.newcomer("thief").Request()); err == nil {
		t.Error("a recovery key serves twice")
	}
}

func TestConfirmRecovery(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	if len(a.recovery().Bytes()) != 32 {
		t.Fatal("no recovery key")
	}
	a2 := w.link(a) // with the recovery key, as if restored from a backup
	w.settle()
	if len(a2.recovery().Bytes()) != 32 {
		t.Fatal("no recovery key on the restored device")
	}
	a2.offline, a2.away = true, true
	a.do(func(tx store.Tx) (Hint, error) { return a.e.ConfirmRecovery(tx, w.now) })
	w.settle()
	a2.offline, a2.away = false, false
	w.pass(time.Minute)
	for _, n := range []*node{a, a2} {
		if n.recovery().Bytes() != nil {
			t.Error("the recovery key is still there")
		}
		if m, err := n.membership(); err != nil || m.RK != nil {
			t.Errorf("%v", err)
		}
	}
	a.do(func(tx store.Tx) (Hint, error) { return a.e.ConfirmRecovery(tx, w.now) }) // again
}

// A device of the account cannot have another destroy a key that is in use.
func TestForgetIsForTheRecoveryKey(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice")
	a.do(func(tx store.Tx) (Hint, error) {
		x, err := a.e.begin(tx, w.now)
		if err != nil {
			return Hint{}, err
		}
		if err := x.forgetRecoveryKey(a.aik().Public().Bytes()); err != nil {
			return Hint{}, err
		}
		return x.end()
	})
	if a.aik().Bytes() == nil {
		t.Error("the account key is gone")
	}
}
