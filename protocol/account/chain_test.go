package account

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// reparse reads the chain back and checks that nothing changed.
func reparse(t testing.TB, c *Chain) *Chain {
	t.Helper()
	back, err := ParseChain(c.Bytes())
	check(t, err)
	if !bytes.Equal(back.Bytes(), c.Bytes()) || back.Account() != c.Account() || back.Seq() != c.Seq() || back.Head() != c.Head() ||
		back.Signer() != c.Signer() || back.Recovery() != c.Recovery() || back.Closed() != c.Closed() ||
		back.Recoveries() != c.Recoveries() || back.Exposed() != c.Exposed() ||
		len(back.Devices(start)) != len(c.Devices(start)) {
		t.Fatal("a chain that was read differs from the one that was built")
	}
	return back
}

func TestChainLife(t *testing.T) {
	o := newOwner(t)
	if o.chain.Seq() != 0 || o.chain.Account() != protocol.AccountID(o.chain.Head()) || len(o.chain.Devices(start)) != 0 {
		t.Fatal("genesis")
	}
	laptop, phone := o.addDevice(t, "laptop"), o.addDevice(t, "phone")
	genesis := reparse(t, o.chain)
	if d := o.chain.Devices(start); len(d) != 2 || d[0].Name != "laptop" || d[1].Name != "phone" {
		t.Fatalf("devices %+v", d)
	}
	check(t, o.chain.Check(laptop, start))

	var err error
	o.chain, err = o.chain.RevokeDevice(start, o.aik, laptop.DeviceID(), Lost, start)
	check(t, err)
	if !o.chain.Revoked(laptop.DeviceID()) || o.chain.Revoked(phone.DeviceID()) || len(o.chain.Devices(start)) != 1 {
		t.Error("revocation")
	}
	if _, ok := o.chain.Device(laptop.DeviceID()); ok {
		t.Error("revoked device is found")
	}
	if err := o.chain.Check(laptop, start); !errors.Is(err, ErrUnknownDevice) {
		t.Errorf("revoked certificate: %v", err)
	}

	newAIK, newRK := key.NewAccount(), key.NewRecovery()
	o.chain, err = o.chain.RotateAIK(start, o.aik, newAIK)
	check(t, err)
	o.chain, err = o.chain.RotateRK(start, o.rk, newRK)
	check(t, err)
	if o.chain.Signer() != newAIK.Public() || o.chain.Recovery() != newRK.Public() {
		t.Error("rotation")
	}
	check(t, o.chain.Check(phone, start)) // certified by the old key, still valid
	third := key.NewAccount()
	o.chain, err = o.chain.RecoverAIK(start, newRK, third)
	check(t, err)
	o.chain, err = o.chain.Close(start, third)
	check(t, err)
	if !o.chain.Closed() || len(o.chain.Devices(start)) != 0 || o.chain.Check(phone, start) == nil {
		t.Error("closed account has devices")
	}
	last := reparse(t, o.chain)
	if !last.Extends(genesis) || genesis.Extends(last) || !last.Extends(last) || last.Extends(newOwner(t).chain) {
		t.Error("Extends")
	}
	if genesis.Seq() != 2 || len(genesis.Devices(start)) != 2 {
		t.Error("a longer chain changed the shorter one")
	}
}

// Only what the recovery key signed counts: a rotation by the old account key
// does not, nor does one of the recovery key itself.
func TestRecoveries(t *testing.T) {
	o := newOwner(t)
	want := func(n int) {
		t.Helper()
		if got := reparse(t, o.chain).Recoveries(); got != n {
			t.Fatalf("%d recoveries, want %d", got, n)
		}
	}
	next := func(c *Chain, err error) {
		t.Helper()
		check(t, err)
		o.chain = c
	}
	want(0)
	second, third, fourth, rk := key.NewAccount(), key.NewAccount(), key.NewAccount(), key.NewRecovery()
	next(o.chain.RotateAIK(start, o.aik, second))
	want(0)
	next(o.chain.RecoverAIK(start, o.rk, third))
	want(1)
	before := o.chain
	next(o.chain.RotateRK(start, o.rk, rk))
	want(1)
	next(o.chain.RecoverAIK(start, rk, fourth))
	want(2)
	next(o.chain.RotateAIK(start, fourth, key.NewAccount()))
	want(2)
	if before.Recoveries() != 1 {
		t.Error("a longer chain changed the shorter one")
	}
}

// Which statements end something, and which of these the recovery key signed.
func TestSecuredAndRecovered(t *testing.T) {
	o := newOwner(t)
	laptop := o.addDevice(t, "laptop")
	for _, f := range []struct {
		what               string
		change             func() (*Chain, error)
		secured, recovered bool
		rekeyed            bool
	}{
		{"a device", func() (*Chain, error) { return o.chain.AddDevice(start, o.aik, o.cert(t, "phone")) }, false, false, false},
		{"a renewal", func() (*Chain, error) { return o.chain.AddDevice(start, o.aik, laptop) }, false, false, false},
		{"a revocation", func() (*Chain, error) {
			return o.chain.RevokeDevice(start, o.aik, laptop.DeviceID(), Lost, start)
		}, true, false, false},
		{"a rotation", func() (*Chain, error) {
			old := o.aik
			o.aik = key.NewAccount()
			return o.chain.RotateAIK(start, old, o.aik)
		}, true, false, true},
		{"a recovery", func() (*Chain, error) {
			o.aik = key.NewAccount()
			return o.chain.RecoverAIK(start, o.rk, o.aik)
		}, true, true, true},
		{"other words", func() (*Chain, error) { return o.chain.RotateRK(start, o.rk, key.NewRecovery()) }, true, true, false},
		{"a device after that", func() (*Chain, error) { return o.chain.AddDevice(start, o.aik, o.cert(t, "tablet")) }, false, false, false},
		{"the end", func() (*Chain, error) { return o.chain.Close(start, o.aik) }, true, false, false},
	} {
		before := o.chain.Seq()
		next, err := f.change()
		check(t, err)
		o.chain = reparse(t, next)
		if s, r := o.chain.Secured(before), o.chain.Recovered(before); s != f.secured || r != f.recovered {
			t.Errorf("%s: secured %v, recovered %v", f.what, s, r)
		}
		if r, k := o.chain.LastRecovery() > before, o.chain.LastKey() > before; r != f.recovered || k != f.rekeyed {
			t.Errorf("%s: recovered %v, another key %v", f.what, r, k)
		}
		if o.chain.Secured(o.chain.Seq()) || o.chain.Recovered(o.chain.Seq()) {
			t.Errorf("%s: something came after the newest statement", f.what)
		}
	}
}

func TestRenewal(t *testing.T) {
	o := newOwner(t)
	old := o.addDevice(t, "laptop")
	renewed := old
	renewed.NotAfter, renewed.Name = old.NotAfter.AddDate(1, 0, 0), "desktop"
	renewed, err := NewCert(o.aik, renewed)
	check(t, err)
	o.chain, err = o.chain.AddDevice(start, o.aik, renewed)
	check(t, err)
	after := old.NotAfter.Add(time.Hour)
	if d := reparse(t, o.chain).Devices(after); len(d) != 1 || d[0].Name != "desktop" {
		t.Errorf("devices %+v", d)
	}
	if err := o.chain.Check(old, start); !errors.Is(err, ErrUnknownDevice) {
		t.Errorf("replaced certificate: %v", err)
	}
	check(t, o.chain.Check(renewed, after))
	if err := o.chain.Check(renewed, after.AddDate(1, 0, 0)); !errors.Is(err, ErrExpired) {
		t.Errorf("expired certificate: %v", err)
	}
	if len(o.chain.Devices(after.AddDate(1, 0, 0))) != 0 {
		t.Error("expired device is listed")
	}
}

// What a chain gives out can be changed by the caller without harm.
func TestChainIsImmutable(t *testing.T) {
	o := newOwner(t)
	cert := o.addDevice(t, "laptop")
	before := o.chain.Bytes()
	clear(o.chain.Bytes())
	clear(o.chain.Devices(start)[0].PeerID)
	held, _ := o.chain.Device(cert.DeviceID())
	clear(held.PeerID)
	check(t, o.chain.Check(cert, start))
	if !bytes.Equal(before, o.chain.Bytes()) {
		t.Error("changed")
	}
	one, err := o.chain.AddDevice(start, o.aik, o.cert(t, "one"))
	check(t, err)
	two, err := o.chain.AddDevice(start, o.aik, o.cert(t, "two"))
	check(t, err)
	if one.Devices(start)[1].Name != "one" || two.Devices(start)[1].Name != "two" {
		t.Error("two continuations share memory")
	}
}

func TestClockGoneBack(t *testing.T) {
	o := newOwner(t)
	c, err := o.chain.AddDevice(start.Add(-time.Hour), o.aik, o.cert(t, "laptop"))
	check(t, err)
	reparse(t, c)
}

// forge signs a statement that the chain's own methods would not make.
func (o *owner) forge(t testing.TB, k signing, signer []byte, change func(*statement)) statement {
	t.Helper()
	s := o.chain.next(start, opAddDevice)
	s.signer = [32]byte(signer)
	change(&s)
	check(t, s.sign(k))
	return s
}

func TestChainRefuses(t *testing.T) {
	o := newOwner(t)
	laptop := o.addDevice(t, "laptop")
	revoked := o.addDevice(t, "old")
	var err error
	o.chain, err = o.chain.RevokeDevice(start, o.aik, revoked.DeviceID(), Retired, start)
	check(t, err)
	stranger := newOwner(t)
	aik, rk := o.aik.Public().Bytes(), o.rk.Public().Bytes()
	newAIK := key.NewAccount()

	body := func(op op, b []byte) func(*statement) {
		return func(s *statement) { s.op, s.body = op, b }
	}
	good := o.cert(t, "good").Marshal()
	with := func(change func(*statement)) func(*statement) {
		return func(s *statement) { s.body = good; change(s) }
	}
	variant := func(change func(*Cert)) []byte {
		fields := o.fields("variant")
		change(&fields)
		c, err := NewCert(o.aik, fields)
		check(t, err)
		return c.Marshal()
	}
	rotation := func(k key.AccountPrivate, sig []byte) []byte { return append(k.Public().Bytes(), sig...) }
	introduced := func(change func(*statement)) []byte {
		s := o.chain.next(start, opRotateAIK)
		change(&s)
		sig, err := newAIK.Sign(labelRotate, s.introduction(newAIK.Public().Bytes())...)
		check(t, err)
		return sig
	}
	proper := introduced(func(*statement) {})
	newRK := key.NewRecovery()
	s := o.chain.next(start, opRotateRK)
	introRK, err := newRK.Sign(labelRotate, s.introduction(newRK.Public().Bytes())...)
	check(t, err)
	rotationRK := append(newRK.Public().Bytes(), introRK...)
	stolen, err := NewCert(stranger.aik, o.fields("stolen"))
	check(t, err)

	for name, f := range map[string]struct {
		key    signing
		signer []byte
		change func(*statement)
	}{
		"other account":            {o.aik, aik, with(func(s *statement) { s.account = stranger.chain.account })},
		"seq repeated":             {o.aik, aik, with(func(s *statement) { s.seq-- })},
		"seq skipped":              {o.aik, aik, with(func(s *statement) { s.seq++ })},
		"other predecessor":        {o.aik, aik, with(func(s *statement) { s.prev[0] ^= 1 })},
		"time before the last one": {o.aik, aik, with(func(s *statement) { s.time = start.Add(-time.Second) })},
		"time before 1970":         {o.aik, aik, with(func(s *statement) { s.time = time.Unix(-5, 0) })},
		"unknown operation":        {o.aik, aik, with(func(s *statement) { s.op = 7 })},
		"operation zero":           {o.aik, aik, with(func(s *statement) { s.op = 0 })},
		"second genesis":           {o.aik, aik, body(opGenesis, append(bytes.Clone(aik), rk...))},
		"stranger's signature":     {stranger.aik, stranger.aik.Public().Bytes(), with(func(*statement) {})},
		"stranger under our name":  {stranger.aik, aik, with(func(*statement) {})},
		"recovery key adds device": {o.rk, rk, with(func(*statement) {})},

		"no certificate":                  {o.aik, aik, body(opAddDevice, nil)},
		"certificate of another account":  {o.aik, aik, body(opAddDevice, variant(func(c *Cert) { c.Account = stranger.chain.account }))},
		"certificate by another account":  {o.aik, aik, body(opAddDevice, stranger.cert(t, "x").Marshal())},
		"certificate signed by another":   {o.aik, aik, body(opAddDevice, stolen.Marshal())},
		"revoked device again":            {o.aik, aik, body(opAddDevice, revoked.Marshal())},
		"signing key of another device":   {o.aik, aik, body(opAddDevice, variant(func(c *Cert) { c.Signing = laptop.Signing }))},
		"identity key of another device":  {o.aik, aik, body(opAddDevice, variant(func(c *Cert) { c.Identity = laptop.Identity }))},
		"peer of another device":          {o.aik, aik, body(opAddDevice, variant(func(c *Cert) { c.PeerID = laptop.PeerID }))},
		"peer of a revoked device":        {o.aik, aik, body(opAddDevice, variant(func(c *Cert) { c.PeerID = revoked.PeerID }))},
		"renewal with another peer":       {o.aik, aik, body(opAddDevice, variant(func(c *Cert) { c.Signing, c.Identity = laptop.Signing, laptop.Identity }))},
		"renewal with an older one":       {o.aik, aik, body(opAddDevice, variant(func(c *Cert) { *c = laptop; c.Created = start.Add(-time.Hour) }))},
		"revocation of nobody":            {o.aik, aik, body(opRevokeDevice, revokeBody(protocol.DeviceID{1}, Lost, start))},
		"revocation twice":                {o.aik, aik, body(opRevokeDevice, revokeBody(revoked.DeviceID(), Lost, start))},
		"revocation without reason":       {o.aik, aik, body(opRevokeDevice, revokeBody(laptop.DeviceID(), 0, start))},
		"revocation for unknown reason":   {o.aik, aik, body(opRevokeDevice, revokeBody(laptop.DeviceID(), 4, start))},
		"revocation cut short":            {o.aik, aik, body(opRevokeDevice, revokeBody(laptop.DeviceID(), Lost, start)[:40])},
		"revocation with more":            {o.aik, aik, body(opRevokeDevice, append(revokeBody(laptop.DeviceID(), Lost, start), 0))},
		"revocation by the recovery key":  {o.rk, rk, body(opRevokeDevice, revokeBody(laptop.DeviceID(), Lost, start))},
		"revocation in the year 10000":    {o.aik, aik, body(opRevokeDevice, revokeBody(laptop.DeviceID(), Lost, year10000))},
		"rotation without the new key":    {o.aik, aik, body(opRotateAIK, rotation(newAIK, make([]byte, 64)))},
		"rotation introduced elsewhere":   {o.aik, aik, body(opRotateAIK, rotation(newAIK, introduced(func(s *statement) { s.seq-- })))},
		"rotation introduced as recovery": {o.aik, aik, body(opRotateAIK, rotation(newAIK, introduced(func(s *statement) { s.op = opRotateRK })))},
		"rotation by a stranger":          {stranger.aik, stranger.aik.Public().Bytes(), body(opRotateAIK, rotation(newAIK, proper))},
		"rotation by the new key itself":  {newAIK, newAIK.Public().Bytes(), body(opRotateAIK, rotation(newAIK, proper))},
		"rotation cut short":              {o.aik, aik, body(opRotateAIK, rotation(newAIK, proper)[:95])},
		"recovery rotation by account":    {o.aik, aik, body(opRotateRK, rotationRK)},
		"recovery rotation by a stranger": {stranger.rk, stranger.rk.Public().Bytes(), body(opRotateRK, rotationRK)},
		"recovery rotation, wrong intro":  {o.rk, rk, body(opRotateRK, append(newRK.Public().Bytes(), proper...))},
		"end with a body":                 {o.aik, aik, body(opClose, []byte{1})},
		"end by the recovery key":         {o.rk, rk, body(opClose, nil)},
	} {
		s := o.forge(t, f.key, f.signer, f.change)
		raw := key.AppendLP(o.chain.Bytes(), s.marshal())
		if _, err := ParseChain(raw); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	// The same with nothing wrong is accepted.
	s = o.forge(t, o.aik, aik, with(func(*statement) {}))
	_, err = ParseChain(key.AppendLP(o.chain.Bytes(), s.marshal()))
	check(t, err)
	s = o.forge(t, o.aik, aik, body(opRotateAIK, rotation(newAIK, proper)))
	_, err = ParseChain(key.AppendLP(o.chain.Bytes(), s.marshal()))
	check(t, err)
	s = o.forge(t, o.rk, rk, body(opRotateRK, rotationRK))
	_, err = ParseChain(key.AppendLP(o.chain.Bytes(), s.marshal()))
	check(t, err)
}

func TestChainMethodsRefuse(t *testing.T) {
	o := newOwner(t)
	cert := o.addDevice(t, "laptop")
	closed, err := o.chain.Close(start, o.aik)
	check(t, err)
	for name, f := range map[string]func() (*Chain, error){
		"genesis with one key":   func() (*Chain, error) { return Create(start, o.aik, sameKey(t, o.aik)) },
		"genesis without key":    func() (*Chain, error) { return Create(start, key.AccountPrivate{}, o.rk.Public()) },
		"genesis, no recovery":   func() (*Chain, error) { return Create(start, o.aik, key.RecoveryPublic{}) },
		"zero key signs":         func() (*Chain, error) { return o.chain.Close(start, key.AccountPrivate{}) },
		"zero certificate":       func() (*Chain, error) { return o.chain.AddDevice(start, o.aik, Cert{}) },
		"rotation to same key":   func() (*Chain, error) { return o.chain.RotateAIK(start, o.aik, o.aik) },
		"rotation to zero key":   func() (*Chain, error) { return o.chain.RotateAIK(start, o.aik, key.AccountPrivate{}) },
		"recovery by stranger":   func() (*Chain, error) { return o.chain.RecoverAIK(start, key.NewRecovery(), key.NewAccount()) },
		"rk rotation to same":    func() (*Chain, error) { return o.chain.RotateRK(start, o.rk, o.rk) },
		"device after the end":   func() (*Chain, error) { return closed.AddDevice(start, o.aik, o.cert(t, "x")) },
		"second end":             func() (*Chain, error) { return closed.Close(start, o.aik) },
		"revocation after end":   func() (*Chain, error) { return closed.RevokeDevice(start, o.aik, cert.DeviceID(), Lost, start) },
		"revocation of stranger": func() (*Chain, error) { return o.chain.RevokeDevice(start, o.aik, protocol.DeviceID{}, Lost, start) },
	} {
		if c, err := f(); err == nil || c != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// sameKey is the account key's seed used as a recovery key.
func sameKey(t testing.TB, aik key.AccountPrivate) key.RecoveryPublic {
	rk, err := key.ParseRecovery(aik.Bytes())
	check(t, err)
	return rk.Public()
}

func TestDeviceLimit(t *testing.T) {
	o := newOwner(t)
	var last Cert
	for range protocol.MaxDevices {
		last = o.addDevice(t, "d")
	}
	if _, err := o.chain.AddDevice(start, o.aik, o.cert(t, "one more")); !errors.Is(err, ErrMalformed) {
		t.Errorf("one device too many: %v", err)
	}
	var err error
	o.chain, err = o.chain.RevokeDevice(start, o.aik, last.DeviceID(), Retired, start)
	check(t, err)
	o.addDevice(t, "in its place")
}

// Any change of any byte, and any cut but between statements, is refused.
func TestChainDamaged(t *testing.T) {
	o := newOwner(t)
	o.addDevice(t, "laptop")
	b := o.chain.Bytes()
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1 << (i % 8)
		if _, err := ParseChain(bad); err == nil {
			t.Fatalf("byte %d does not matter", i)
		}
	}
	whole := 0
	for n := range b {
		if _, err := ParseChain(b[:n]); err == nil {
			whole++
		}
	}
	if whole != 1 { // the genesis alone
		t.Errorf("%d cuts accepted", whole)
	}
}

// Whatever is built can be read, and every earlier chain is a beginning of it.
func TestChainProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		o := newOwner(t)
		history := []*Chain{o.chain}
		for _, act := range rapid.SliceOfN(rapid.IntRange(0, 4), 0, 8).Draw(rt, "acts") {
			o.act(t, rt, act)
			history = append(history, o.chain)
		}
		last := reparse(t, o.chain)
		for _, c := range history {
			if !last.Extends(c) || c.Account() != last.Account() {
				rt.Fatal("history was rewritten")
			}
		}
	})
}

func (o *owner) act(t testing.TB, rt *rapid.T, act int) {
	var err error
	now := start.Add(time.Duration(rapid.IntRange(-100, 100).Draw(rt, "minutes")) * time.Minute)
	devices := o.chain.Devices(start)
	switch {
	case act == 0 && len(devices) < protocol.MaxDevices:
		o.addDevice(t, "d")
	case act == 1 && len(devices) > 0:
		id := devices[rapid.IntRange(0, len(devices)-1).Draw(rt, "which")].DeviceID()
		o.chain, err = o.chain.RevokeDevice(now, o.aik, id, Compromised, now)
	case act == 2:
		next := key.NewAccount()
		o.chain, err = o.chain.RotateAIK(now, o.aik, next)
		o.aik = next
	case act == 3:
		next := key.NewAccount()
		o.chain, err = o.chain.RecoverAIK(now, o.rk, next)
		o.aik = next
	case act == 4:
		next := key.NewRecovery()
		o.chain, err = o.chain.RotateRK(now, o.rk, next)
		o.rk = next
	}
	check(t, err)
}
