package account

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// then makes the chain longer.
func (o *owner) then(t testing.TB) func(*Chain, error) {
	return func(c *Chain, err error) {
		t.Helper()
		check(t, err)
		o.chain = c
	}
}

// fill does what a thief with the account key can do: he renews one certificate
// with ever shorter names, then replaces the key, until nothing fits.
func (o *owner) fill(t testing.TB) {
	t.Helper()
	devices := o.chain.Standing()
	cert := devices[len(devices)-1]
	for n := protocol.MaxDisplay; n >= 0; {
		cert.Name = strings.Repeat("x", n)
		renewed, err := NewCert(o.aik, cert)
		check(t, err)
		next, err := o.chain.AddDevice(start, o.aik, renewed)
		if err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			n--
			continue
		}
		o.chain = next
	}
	for {
		aik := key.NewAccount()
		next, err := o.chain.RotateAIK(start, o.aik, aik)
		if err != nil {
			if !errors.Is(err, ErrFull) {
				t.Fatal(err)
			}
			return
		}
		o.chain, o.aik = next, aik
	}
}

// recoverAll is the longest recovery: both keys are replaced, every device the
// account may have is revoked, the account key is replaced again, and a device
// with the longest name is added.
func (o *owner) recoverAll(t testing.TB) {
	t.Helper()
	aik, rk, stolen := key.NewAccount(), key.NewRecovery(), o.chain.Standing()
	o.then(t)(o.chain.RecoverAIK(start, o.rk, aik))
	o.then(t)(o.chain.RotateRK(start, o.rk, rk))
	o.aik, o.rk = aik, rk
	for _, cert := range stolen {
		o.then(t)(o.chain.RevokeDevice(start, o.aik, cert.DeviceID(), Lost, start))
	}
	next := key.NewAccount()
	o.then(t)(o.chain.RotateAIK(start, o.aik, next))
	o.aik = next
	o.addDevice(t, strings.Repeat("x", protocol.MaxDisplay))
}

func (o *owner) fillDevices(t testing.TB) {
	t.Helper()
	for len(o.chain.Standing()) < protocol.MaxDevices {
		o.addDevice(t, "d")
	}
}

// Whoever stole a device has the account key. However much he writes, the
// recovery key takes the account back, with all its devices revoked: four times,
// if each new account key is stolen too.
func TestAccountKeyCannotFillTheChain(t *testing.T) {
	o := newOwner(t)
	o.fillDevices(t)
	o.fill(t)
	if n := len(o.chain.Bytes()); n > accountRoom || n < accountRoom-500 {
		t.Fatalf("the account key filled %d bytes", n)
	}
	for range (protocol.MaxChain - accountRoom) / recoveryRoom {
		before := len(o.chain.Bytes())
		o.recoverAll(t)
		if n := len(o.chain.Bytes()) - before; n > recoveryRoom {
			t.Fatalf("a recovery has %d bytes", n)
		}
		if len(o.chain.Standing()) != 1 {
			t.Fatal("stolen devices are left")
		}
		reparse(t, o.chain)
		o.fill(t)
	}
	for range 3 { // what was left over each time may carry one more
		aik := key.NewAccount()
		next, err := o.chain.RecoverAIK(start, o.rk, aik)
		if errors.Is(err, ErrFull) {
			return
		}
		check(t, err)
		o.chain, o.aik = next, aik
		o.fill(t)
	}
	t.Errorf("a chain of %d bytes still grows", len(o.chain.Bytes()))
}

// Recoveries of a chain that has room use up nothing of what later ones need.
func TestEarlyRecoveriesCostNothing(t *testing.T) {
	o := newOwner(t)
	o.addDevice(t, "laptop")
	for range 10 {
		o.recoverAll(t)
	}
	o.fillDevices(t)
	o.fill(t)
	if n := len(o.chain.Bytes()); n > accountRoom {
		t.Fatalf("the account key filled %d bytes", n)
	}
	o.recoverAll(t)
	reparse(t, o.chain)
}

// The recovery key may be replaced in a full chain, and a recovery still fits.
func TestRecoveryKeyRotatesInAFullChain(t *testing.T) {
	o := newOwner(t)
	o.fillDevices(t)
	o.fill(t)
	next := key.NewRecovery()
	o.then(t)(o.chain.RotateRK(start, o.rk, next))
	o.rk = next
	if _, err := o.chain.RotateAIK(start, o.aik, key.NewAccount()); !errors.Is(err, ErrFull) {
		t.Errorf("the account key got room: %v", err)
	}
	o.recoverAll(t)
	reparse(t, o.chain)
}

// A chain is read by the same rule by which it is built: statements that are
// good in all but their place beyond the bound are refused.
func TestChainTooLongIsRefused(t *testing.T) {
	if _, err := ParseChain(make([]byte, protocol.MaxChain+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("too long: %v", err)
	}
	o := newOwner(t)
	o.addDevice(t, "laptop")
	o.fill(t)
	next := key.NewAccount()
	intro := o.chain.next(start, opRotateAIK)
	sig, err := next.Sign(labelRotate, intro.introduction(next.Public().Bytes())...)
	check(t, err)
	rotate := func(k signing, signer []byte) []byte {
		s := o.forge(t, k, signer, func(s *statement) { s.op, s.body = opRotateAIK, append(next.Public().Bytes(), sig...) })
		return key.AppendLP(o.chain.Bytes(), s.marshal())
	}
	if _, err := ParseChain(rotate(o.aik, o.aik.Public().Bytes())); !errors.Is(err, ErrFull) {
		t.Errorf("by the account key: %v", err)
	}
	c, err := ParseChain(rotate(o.rk, o.rk.Public().Bytes()))
	check(t, err)
	if !bytes.HasPrefix(c.Bytes(), o.chain.Bytes()) {
		t.Error("the recovered chain does not extend the full one")
	}
}
