package rendezvous

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/proof"
	"github.com/parley-chat/parley/protocol/wire"
)

func updateRequest(c *account.Chain) *wire.Request {
	return &wire.Request{Call: &wire.Request_UpdateChain{UpdateChain: &wire.UpdateChain{Chain: c.Bytes()}}}
}

// update uploads a longer chain of the device's account.
func (d *device) update(c *account.Chain) {
	d.t.Helper()
	d.must(updateRequest(c))
	d.chain = c
}

// newcomer is a further device of the account that is connected and that no
// chain certifies yet.
func (d *device) newcomer() *device {
	d.t.Helper()
	n := d.unconnected()
	n.host = newPeer(d.t, d.server, n.hosts)
	return n
}

// unconnected is a newcomer that only has its keys.
func (d *device) unconnected() *device {
	d.t.Helper()
	hostKey := key.NewHost()
	n := &device{t: d.t, server: d.server, name: d.name, chain: d.chain, aik: d.aik, rk: d.rk, dsk: key.NewDevice(), hosts: hostKey, owner: d.owner}
	now := d.server.clock.Now()
	var err error
	n.cert, err = account.NewCert(d.aik, account.Cert{
		Account: d.owner, Signing: n.dsk.Public(), Identity: key.NewIdentity().Public(), PeerID: hostKey.Public().PeerID(),
		MinProto: 1, MaxProto: 1, Created: now, NotAfter: now.Add(365 * 24 * time.Hour), Name: "phone",
	})
	if err != nil {
		d.t.Fatal(err)
	}
	n.id = n.cert.DeviceID()
	return n
}

// with is the device's chain with another device on it.
func (d *device) with(n *device) *account.Chain {
	d.t.Helper()
	return d.then(d.chain.AddDevice(d.server.clock.Now(), d.aik, n.cert))
}

// without is the device's chain with one device revoked.
func (d *device) without(n *device) *account.Chain {
	d.t.Helper()
	now := d.server.clock.Now()
	return d.then(d.chain.RevokeDevice(now, d.aik, n.id, account.Lost, now))
}

func (d *device) then(c *account.Chain, err error) *account.Chain {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

// second is a further device of the account that is a member.
func (d *device) second() *device {
	d.t.Helper()
	n := d.newcomer()
	n.update(d.with(n))
	n.greet()
	d.chain = n.chain
	return n
}

func (l *linkEnd) awaitChanged(of *device) {
	l.t.Helper()
	l.await("changed", func(h *wire.Hint) bool {
		return slices.ContainsFunc(h.GetChanged(), func(b []byte) bool { return bytes.Equal(b, of.owner[:]) })
	})
}

func (l *linkEnd) mustNotHearOfChanges() {
	l.t.Helper()
	for _, h := range l.settled() {
		if len(h.GetChanged()) > 0 {
			l.t.Errorf("told of changes: %v", h.GetChanged())
		}
	}
}

// A machine that is no member becomes one by the chain that certifies it; the
// account's devices and its contacts are told, and nobody else.
func TestKLC10_AddedDeviceIsAnnounced(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	admirer, listed := member(t, s, "admirer"), member(t, s, "listed")
	alice.setContacts(bob, listed)
	bob.setContacts(alice)
	admirer.setContacts(alice)
	alices, bobs, admirers, listeds := alice.link(), bob.link(), admirer.link(), listed.link()

	phone := alice.newcomer()
	phone.refused(protocol.NotMember, lookupRequest("bob", nil))
	longer := alice.with(phone)
	phone.must(updateRequest(longer))
	alices.awaitChanged(alice)
	bobs.awaitChanged(alice)
	admirers.mustNotHearOfChanges()
	listeds.mustNotHearOfChanges()

	phones := phone.link()
	phone.publish(2)
	found := bob.must(lookupRequest("alice", nonce())).GetFound()
	if !bytes.Equal(found.GetChain(), longer.Bytes()) || len(found.GetBundles()) != 1 {
		t.Errorf("found a chain of %d bytes and %d bundles", len(found.GetChain()), len(found.GetBundles()))
	}
	phone.must(updateRequest(longer)) // a retry
	alice.must(updateRequest(longer))
	for _, l := range []*linkEnd{alices, bobs, phones} {
		l.mustNotHearOfChanges()
	}
}

func TestUpdateChainRefused(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, eve := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "eve")
	phone, tablet, unknown := alice.newcomer(), alice.newcomer(), newDevice(t, s, "unknown")
	short, withPhone, withTablet := alice.chain, alice.with(phone), alice.with(tablet)
	s.clock.add(366 * 24 * time.Hour)
	phone.refused(protocol.BadRequest, updateRequest(withPhone)) // its certificate expired
	s.clock.add(-366 * 24 * time.Hour)
	phone.must(updateRequest(withPhone))

	cut := withPhone.Bytes()
	malformed := &wire.Request{Call: &wire.Request_UpdateChain{UpdateChain: &wire.UpdateChain{Chain: cut[:len(cut)-1]}}}
	for name, c := range map[string]struct {
		from *device
		req  *wire.Request
		code protocol.Code
	}{
		"malformed":                       {alice, malformed, protocol.BadRequest},
		"nothing":                         {alice, &wire.Request{Call: &wire.Request_UpdateChain{UpdateChain: &wire.UpdateChain{}}}, protocol.BadRequest},
		"shorter":                         {alice, updateRequest(short), protocol.ChainConflict},
		"fork":                            {tablet, updateRequest(withTablet), protocol.ChainConflict},
		"fork by a member":                {alice, updateRequest(withTablet), protocol.ChainConflict},
		"by a member of another account":  {eve, updateRequest(withPhone), protocol.BadRequest},
		"by a stranger":                   {unknown, updateRequest(withPhone), protocol.BadRequest},
		"of an account that is not known": {unknown, updateRequest(unknown.chain), protocol.UnknownAccount},
		"with somebody's peer id":         {bob, updateRequest(alice.then(withPhone.AddDevice(s.clock.Now(), alice.aik, stealPeer(t, alice, bob)))), protocol.DeviceExists},
	} {
		t.Run(name, func(t *testing.T) { c.from.refused(c.code, c.req) })
	}
	if found := bob.must(lookupRequest("alice", nil)).GetFound(); !bytes.Equal(found.GetChain(), withPhone.Bytes()) {
		t.Error("a refusal changed the chain")
	}
}

// stealPeer is a certificate of one account for the peer id of another's device.
func stealPeer(t *testing.T, d, from *device) account.Cert {
	t.Helper()
	now := d.server.clock.Now()
	cert, err := account.NewCert(d.aik, account.Cert{
		Account: d.owner, Signing: key.NewDevice().Public(), Identity: key.NewIdentity().Public(), PeerID: from.cert.PeerID,
		MinProto: 1, MaxProto: 1, Created: now, NotAfter: now.Add(time.Hour), Name: "stolen",
	})
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A renewed certificate replaces the old one, with the keys as they were.
func TestRenewedCertificateIsTakenOver(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	records := alice.publish(2)
	s.clock.add(300 * 24 * time.Hour)
	renewed := alice.cert
	renewed.Created, renewed.NotAfter = s.clock.Now(), s.clock.Now().Add(365*24*time.Hour)
	renewed, err := account.NewCert(alice.aik, renewed)
	if err != nil {
		t.Fatal(err)
	}
	alice.update(alice.then(alice.chain.AddDevice(s.clock.Now(), alice.aik, renewed)))
	d, err := s.store.Device(t.Context(), alice.id)
	if err != nil || !bytes.Equal(d.Cert, renewed.Marshal()) {
		t.Errorf("%v; the certificate is the old one: %v", err, bytes.Equal(d.Cert, alice.cert.Marshal()))
	}
	s.clock.add(-300 * 24 * time.Hour) // the prekeys have expired there
	if got := bob.claim(alice); !bytes.Equal(got.GetOneTimeRecord(), records[0]) {
		t.Error("the published prekeys did not survive")
	}
}

func TestChainUpdatesAreLimited(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	rotate := func() *account.Chain {
		next := key.NewAccount()
		c := alice.then(alice.chain.RotateAIK(s.clock.Now(), alice.aik, next))
		alice.aik = next
		return c
	}
	for range 20 {
		alice.update(rotate())
	}
	c := rotate()
	resp := alice.refused(protocol.RateLimited, updateRequest(c))
	alice.must(updateRequest(alice.chain)) // a retry is free
	s.clock.add(time.Duration(resp.GetRetryAfterMs()) * time.Millisecond)
	alice.update(c)
}

// rename renews the device's certificate under another name.
func (d *device) rename(n int) *account.Chain {
	d.t.Helper()
	cert := d.cert
	cert.Name = fmt.Sprint("name ", n)
	cert, err := account.NewCert(d.aik, cert)
	if err != nil {
		d.t.Fatal(err)
	}
	return d.then(d.chain.AddDevice(d.server.clock.Now(), d.aik, cert))
}

// recover replaces the account key by the recovery key and revokes devices.
func (d *device) recover(lost ...*device) {
	d.t.Helper()
	now := d.server.clock.Now()
	d.aik = key.NewAccount()
	d.chain = d.then(d.chain.RecoverAIK(now, d.rk, d.aik))
	for _, l := range lost {
		d.chain = d.without(l)
	}
}

// Each statement counts, however many come at once.
func TestStatementsAreLimited(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	for n := range 15 {
		alice.chain = alice.rename(n)
	}
	alice.must(updateRequest(alice.chain))
	for n := range 6 {
		alice.chain = alice.rename(n)
	}
	alice.refused(protocol.RateLimited, updateRequest(alice.chain))
}

// A thief of one device may use up what is for it and for machines that are no
// members: the owner still revokes it, from another device or with the words.
func TestThiefCannotDelayRevocation(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	stolen, newcomer := alice.second(), alice.newcomer() // the one was a newcomer too: it took a token of theirs
	for n := range 20 {
		stolen.update(stolen.rename(n))
	}
	stolen.refused(protocol.RateLimited, updateRequest(stolen.rename(20)))
	addAndRevoke := func() *account.Chain {
		n := stolen.unconnected()
		grown := *stolen
		grown.chain = stolen.with(n)
		return grown.without(n)
	}
	for range 10 {
		stolen.update(addAndRevoke())
	}
	stolen.refused(protocol.RateLimited, updateRequest(addAndRevoke()))
	newcomer.chain = stolen.chain
	newcomer.chain = newcomer.with(newcomer)
	for n := range 18 {
		newcomer.chain = newcomer.rename(n)
	}
	newcomer.must(updateRequest(newcomer.chain))
	alice.chain = newcomer.chain
	another := alice.newcomer()
	another.refused(protocol.RateLimited, updateRequest(another.with(another)))

	alice.update(alice.without(stolen))
	another.chain = alice.chain
	another.recover(alice, newcomer)
	cert, err := account.NewCert(another.aik, another.cert)
	if err != nil {
		t.Fatal(err)
	}
	another.cert = cert
	another.update(another.with(another))
}

// What the recovery key may is bounded too, and no other key uses it up.
func TestRecoveriesAreLimited(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	for range 20 {
		alice.recover()
		alice.must(updateRequest(alice.chain))
	}
	alice.recover()
	alice.refused(protocol.RateLimited, updateRequest(alice.chain))
}

// Who lost all devices has the recovery key: it fetches the chain, replaces the
// account key, revokes what is lost and comes back with a new device.
func TestRecoveryFromAStrangeMachine(t *testing.T) {
	t.Parallel()
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	bobs, lost := bob.link(), alice.link()

	fresh := alice.newcomer()
	found := fresh.must(fetchRequest(fresh, fetchBy{rk: &alice.rk, name: "alice"})).GetFound()
	chain, err := account.ParseChain(found.GetChain())
	if err != nil || found.GetName() != "alice" || len(found.GetBundles()) != 0 {
		t.Fatalf("found %v, %v", found, err)
	}
	stolen := alice.aik
	fresh.aik = key.NewAccount()
	now := s.clock.Now()
	chain = fresh.then(chain.RecoverAIK(now, alice.rk, fresh.aik))
	chain = fresh.then(chain.RevokeDevice(now, fresh.aik, alice.id, account.Lost, now))
	fresh.cert, err = account.NewCert(fresh.aik, fresh.cert)
	if err != nil {
		t.Fatal(err)
	}
	chain = fresh.then(chain.AddDevice(now, fresh.aik, fresh.cert))
	fresh.update(chain)
	bobs.awaitChanged(alice)
	bye := lost.await("goodbye", func(h *wire.Hint) bool { return h.GetBye() != 0 })
	if protocol.Code(bye.GetBye()) != protocol.Revoked {
		t.Errorf("goodbye %v", bye)
	}
	fresh.link()
	fresh.must(lookupRequest("bob", nil))
	fresh.refused(protocol.NotOwner, fetchRequest(fresh, fetchBy{aik: &stolen, name: "alice"}))
}

type fetchBy struct {
	aik     *key.AccountPrivate
	rk      *key.RecoveryPrivate
	name    string
	account []byte
}

// fetchRequest asks for a chain as a device, by a key of the account.
func fetchRequest(from *device, by fetchBy) *wire.Request {
	from.t.Helper()
	f := proof.Fetch{Rendezvous: []byte(from.server.PeerID()), Caller: []byte(from.host.ID()), Name: by.name, Account: by.account}
	var signer, sig []byte
	var err error
	if by.aik != nil {
		signer = by.aik.Public().Bytes()
		sig, err = proof.SignFetch(*by.aik, f)
	} else {
		signer = by.rk.Public().Bytes()
		sig, err = proof.SignFetch(*by.rk, f)
	}
	if err != nil {
		from.t.Fatal(err)
	}
	return &wire.Request{Call: &wire.Request_FetchChain{FetchChain: &wire.FetchChain{Name: by.name, Account: by.account, Signer: signer, Sig: sig}}}
}

// The chain is given to whoever holds a key of the account; all others get one
// answer, whether the account exists or not.
func TestFetchChain(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	stranger := newDevice(t, s, "stranger")
	for name, c := range map[string]struct {
		from *device
		by   fetchBy
	}{
		"stranger, by name":    {stranger, fetchBy{aik: &alice.aik, name: "alice"}},
		"stranger, by account": {stranger, fetchBy{rk: &alice.rk, account: alice.owner[:]}},
		"member":               {bob, fetchBy{aik: &alice.aik, name: "alice"}},
	} {
		t.Run(name, func(t *testing.T) {
			found := c.from.must(fetchRequest(c.from, c.by)).GetFound()
			if !bytes.Equal(found.GetChain(), alice.chain.Bytes()) || found.GetName() != "alice" {
				t.Errorf("found %v", found)
			}
		})
	}
	nobody := key.Hash("nobody")
	anothers := fetchRequest(bob, fetchBy{aik: &alice.aik, name: "alice"})
	renamed := fetchRequest(stranger, fetchBy{aik: &alice.aik, name: "bob"})
	renamed.GetFetchChain().Name = "alice"
	var details []string
	for _, req := range []*wire.Request{
		fetchRequest(stranger, fetchBy{aik: &stranger.aik, name: "alice"}),
		fetchRequest(stranger, fetchBy{aik: &stranger.aik, name: "no_such_name"}),
		fetchRequest(stranger, fetchBy{aik: &stranger.aik, name: "Not A Name"}),
		fetchRequest(stranger, fetchBy{rk: &stranger.rk, account: nobody[:]}),
		fetchRequest(stranger, fetchBy{rk: &bob.rk, account: alice.owner[:]}),
		anothers, // heard somewhere and said again
		renamed,
	} {
		details = append(details, stranger.refused(protocol.NotOwner, req).GetDetail())
	}
	if len(slices.Compact(details)) != 1 {
		t.Errorf("the answers tell accounts from none: %q", details)
	}
	for name, f := range map[string]*wire.FetchChain{
		"nothing":       {},
		"neither":       {Signer: make([]byte, 32), Sig: make([]byte, 64)},
		"both":          {Name: "alice", Account: alice.owner[:], Signer: make([]byte, 32), Sig: make([]byte, 64)},
		"short account": {Account: []byte{1}, Signer: make([]byte, 32), Sig: make([]byte, 64)},
		"short signer":  {Name: "alice", Signer: make([]byte, 31), Sig: make([]byte, 64)},
		"short sig":     {Name: "alice", Signer: make([]byte, 32), Sig: make([]byte, 63)},
	} {
		t.Run(name, func(t *testing.T) {
			stranger.refused(protocol.BadRequest, &wire.Request{Call: &wire.Request_FetchChain{FetchChain: f}})
		})
	}
}

// Members and strangers of one address share the attempts.
func TestFetchesAreLimited(t *testing.T) {
	s := startServer(t, nil)
	alice := member(t, s, "alice")
	stranger := newDevice(t, s, "stranger")
	for range 10 {
		stranger.refused(protocol.NotOwner, fetchRequest(stranger, fetchBy{aik: &stranger.aik, name: "alice"}))
		alice.refused(protocol.NotOwner, fetchRequest(alice, fetchBy{aik: &stranger.aik, name: "alice"}))
	}
	resp := alice.refused(protocol.RateLimited, fetchRequest(alice, fetchBy{aik: &alice.aik, name: "alice"}))
	s.clock.add(time.Duration(resp.GetRetryAfterMs()) * time.Millisecond)
	alice.must(fetchRequest(alice, fetchBy{aik: &alice.aik, name: "alice"}))
}

// The digest in the welcome is that of the heads of the contacts and the own
// account, so a device that was away knows whether to ask.
func TestHeads(t *testing.T) {
	s := startServer(t, nil)
	alice, bob, carol := member(t, s, "alice"), member(t, s, "bob"), member(t, s, "carol")
	nobody := newDevice(t, s, "nobody")
	alice.setContacts(bob, nobody)
	ask := func() (heads []proof.Head) {
		for _, h := range alice.must(&wire.Request{Call: &wire.Request_Heads{Heads: &wire.Heads{}}}).GetHeadList().GetHeads() {
			heads = append(heads, proof.Head{Account: protocol.AccountID(h.GetAccount()), Hash: [proof.HeadSize]byte(h.GetHead())})
		}
		return heads
	}
	check := func(want ...*device) {
		t.Helper()
		var heads []proof.Head
		for _, d := range want {
			heads = append(heads, proof.HeadOf(d.owner, d.chain.Head()))
		}
		digest := proof.HeadsDigest(heads)
		if got := ask(); len(got) != len(want) || proof.HeadsDigest(got) != digest {
			t.Errorf("heads %x, want %x", got, heads)
		}
		if w := alice.link().welcome; !bytes.Equal(w.GetHeadsDigest(), digest[:]) {
			t.Errorf("digest %x, want %x", w.GetHeadsDigest(), digest)
		}
	}
	check(alice, bob)
	bob.second()
	check(alice, bob)
	carol.second() // is no contact
	alice.second()
	check(alice, bob)
	alice.setContacts()
	check(alice)
}
