package account

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

// year10000 is the first second that cannot be encoded.
var year10000 = time.Unix(253402300800, 0)

var start = time.Unix(1_800_000_000, 0).UTC()

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// owner is somebody with an account and all its keys.
type owner struct {
	aik   key.AccountPrivate
	rk    key.RecoveryPrivate
	chain *Chain
}

func newOwner(t testing.TB) *owner {
	t.Helper()
	o := &owner{aik: key.NewAccount(), rk: key.NewRecovery()}
	c, err := Create(start, o.aik, o.rk.Public())
	check(t, err)
	o.chain = c
	return o
}

// fields is a certificate for new keys, not signed yet.
func (o *owner) fields(name string) Cert {
	return Cert{
		Account: o.chain.Account(), Signing: key.NewDevice().Public(), Identity: key.NewIdentity().Public(),
		PeerID: key.NewHost().Public().PeerID(), MinProto: 1, MaxProto: 1,
		Created: start, NotAfter: start.AddDate(1, 0, 0), Name: name,
	}
}

func (o *owner) cert(t testing.TB, name string) Cert {
	t.Helper()
	c, err := NewCert(o.aik, o.fields(name))
	check(t, err)
	return c
}

func (o *owner) addDevice(t testing.TB, name string) Cert {
	t.Helper()
	cert := o.cert(t, name)
	next, err := o.chain.AddDevice(start, o.aik, cert)
	check(t, err)
	o.chain = next
	return cert
}

func TestCertRoundTrip(t *testing.T) {
	o := newOwner(t)
	for _, name := range []string{"", "laptop", "Телефон 📱", strings.Repeat("x", protocol.MaxDisplay)} {
		cert := o.cert(t, name)
		b := cert.Marshal()
		back, err := ParseCert(b)
		check(t, err)
		if !bytes.Equal(back.Marshal(), b) || back.DeviceID() != cert.DeviceID() || back.Name != name || !back.NotAfter.Equal(cert.NotAfter) {
			t.Errorf("%q: came back as %+v", name, back)
		}
		check(t, back.Verify(o.aik.Public(), start))
	}
}

func TestNewCertRefuses(t *testing.T) {
	o := newOwner(t)
	for name, change := range map[string]func(*Cert){
		"no signing key":   func(c *Cert) { c.Signing = key.DevicePublic{} },
		"no identity key":  func(c *Cert) { c.Identity = key.IdentityPublic{} },
		"no peer id":       func(c *Cert) { c.PeerID = nil },
		"foreign peer id":  func(c *Cert) { c.PeerID = bytes.Repeat([]byte{0x12}, 34) },
		"no versions":      func(c *Cert) { c.MinProto, c.MaxProto = 0, 0 },
		"versions swapped": func(c *Cert) { c.MinProto = 2 },
		"no life":          func(c *Cert) { c.NotAfter = c.Created },
		"before 1970":      func(c *Cert) { c.Created = time.Unix(-1, 0) },
		"year 10000":       func(c *Cert) { c.NotAfter = year10000 },
		"long name":        func(c *Cert) { c.Name = strings.Repeat("x", protocol.MaxDisplay+1) },
		"not UTF-8":        func(c *Cert) { c.Name = "\xff" },
		"line break":       func(c *Cert) { c.Name = "a\nb" },
		"tab":              func(c *Cert) { c.Name = "a\tb" },
		"C1 control":       func(c *Cert) { c.Name = "a\u009bb" },
		"right to left":    func(c *Cert) { c.Name = "a\u202eb" },
		"isolate":          func(c *Cert) { c.Name = "a\u2066b" },
		"line separator":   func(c *Cert) { c.Name = "a\u2028b" },
		"zero width":       func(c *Cert) { c.Name = "a\u200bb" },
		"byte order mark":  func(c *Cert) { c.Name = "\ufeffa" },
		"tag character":    func(c *Cert) { c.Name = "a\U000e0041" },
	} {
		fields := o.fields("x")
		change(&fields)
		if _, err := NewCert(o.aik, fields); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := NewCert(key.AccountPrivate{}, o.fields("x")); !errors.Is(err, key.ErrInvalid) {
		t.Errorf("zero account key: %v", err)
	}
}

// Which names are valid does not depend on the Unicode tables a program was
// built with: else two releases would not agree on whether an account exists.
func TestNamesOutliveUnicode(t *testing.T) {
	o := newOwner(t)
	for _, name := range []string{"not assigned yet: \u0378", "private: \ue000", "no-break: \u00a0"} {
		if _, err := ParseCert(o.cert(t, name).Marshal()); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// Each byte of a certificate matters.
func TestCertDamaged(t *testing.T) {
	o := newOwner(t)
	b := o.cert(t, "laptop").Marshal()
	for i := range b {
		for bit := range 8 {
			bad := bytes.Clone(b)
			bad[i] ^= 1 << bit
			if c, err := ParseCert(bad); err == nil && c.Verify(o.aik.Public(), start) == nil {
				t.Fatalf("bit %d of byte %d does not matter", bit, i)
			}
		}
	}
	for n := range b {
		if _, err := ParseCert(b[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if _, err := ParseCert(append(bytes.Clone(b), 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestCertVerify(t *testing.T) {
	o := newOwner(t)
	cert := o.cert(t, "laptop")
	if err := cert.Verify(o.aik.Public(), cert.NotAfter); err != nil {
		t.Errorf("in its last second: %v", err)
	}
	if err := cert.Verify(o.aik.Public(), cert.NotAfter.Add(time.Second)); !errors.Is(err, ErrExpired) {
		t.Errorf("expired: %v", err)
	}
	if err := cert.Verify(key.NewAccount().Public(), start); !errors.Is(err, key.ErrSignature) {
		t.Errorf("other account: %v", err)
	}
	if err := (Cert{}).Verify(o.aik.Public(), start); err == nil {
		t.Error("zero certificate verifies")
	}
}

// The device id depends on the account and both keys, and on nothing that
// changes when the certificate is renewed.
func TestDeviceID(t *testing.T) {
	o := newOwner(t)
	c := o.cert(t, "laptop")
	same := c
	same.Name, same.NotAfter, same.MaxProto = "desktop", c.NotAfter.AddDate(1, 0, 0), 9
	if same.DeviceID() != c.DeviceID() {
		t.Error("renewal changes the id")
	}
	for name, change := range map[string]func(*Cert){
		"account":  func(c *Cert) { c.Account[0] ^= 1 },
		"signing":  func(c *Cert) { c.Signing = key.NewDevice().Public() },
		"identity": func(c *Cert) { c.Identity = key.NewIdentity().Public() },
	} {
		other := c
		change(&other)
		if other.DeviceID() == c.DeviceID() {
			t.Errorf("id does not depend on %s", name)
		}
	}
}

func TestSafetyNumber(t *testing.T) {
	a, b := newOwner(t).chain.Account(), newOwner(t).chain.Account()
	n := SafetyNumber(a, b, "alice", "bob")
	if n != SafetyNumber(b, a, "bob", "alice") {
		t.Error("the two sides see different numbers")
	}
	groups := strings.Fields(n)
	if len(groups) != 12 || len(n) != 71 {
		t.Errorf("%q is not 12 groups", n)
	}
	for _, g := range groups {
		var x int
		if _, err := fmt.Sscanf(g, "%05d", &x); err != nil || len(g) != 5 {
			t.Errorf("group %q", g)
		}
	}
	for name, other := range map[string]string{
		"account": SafetyNumber(a, newOwner(t).chain.Account(), "alice", "bob"),
		"name":    SafetyNumber(a, b, "alice", "bop"),
		"swapped": SafetyNumber(a, b, "bob", "alice"),
	} {
		if other == n {
			t.Errorf("%s does not matter", name)
		}
	}
}

func BenchmarkSafetyNumber(b *testing.B) {
	for b.Loop() {
		SafetyNumber(protocol.AccountID{1}, protocol.AccountID{2}, "alice", "bob")
	}
}
