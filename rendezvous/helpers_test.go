package rendezvous

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2pprotocol "github.com/libp2p/go-libp2p/core/protocol"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
)

// patience is how long a test waits for what must happen.
const patience = 20 * time.Second

// clock is time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// testServer is a running server and the means to stop it.
type testServer struct {
	*Server
	clock *clock
	end   context.CancelFunc
	ended chan struct{}
}

// startServer runs an open rendezvous on loopback, changed by change.
func startServer(t testing.TB, change func(*Config)) *testServer {
	t.Helper()
	c := newClock()
	cfg := Config{
		Dir:    t.TempDir(),
		Listen: []string{"/ip4/127.0.0.1/tcp/0"},
		Open:   true,
		Now:    c.Now,
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	s, err := New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ts := &testServer{Server: s, clock: c, end: cancel, ended: make(chan struct{})}
	go func() {
		defer close(ts.ended)
		if err := s.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	}()
	t.Cleanup(ts.stopNow)
	return ts
}

// welcomeBack connects devices to this server, which took the place of theirs.
func (ts *testServer) welcomeBack(devices ...*device) {
	for _, d := range devices {
		d.t.Helper()
		d.host.Close()
		d.server, d.host = ts, newPeer(d.t, ts, d.hosts)
		d.greet()
	}
}

// stopNow drains the server and waits for its end.
func (ts *testServer) stopNow() {
	ts.end()
	<-ts.ended
}

// newPeer makes a libp2p host with this identity that is connected to the
// server and listens nowhere.
func newPeer(t testing.TB, ts *testServer, k key.HostPrivate) host.Host {
	t.Helper()
	std, err := crypto.UnmarshalEd25519PrivateKey(append(k.Seed(), k.Public().PeerID()[6:]...))
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Identity(std), libp2p.NoListenAddrs,
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(quic.NewTransport), libp2p.EnableRelay(), libp2p.DisableMetrics(), libp2p.ResourceManager(&network.NullResourceManager{}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	if err := h.Connect(t.Context(), peer.AddrInfo{ID: ts.PeerID(), Addrs: ts.Addrs()}); err != nil {
		t.Fatal(err)
	}
	return h
}

// device is one person's device as the server sees it.
type device struct {
	t      testing.TB
	server *testServer
	host   host.Host
	name   string
	chain  *account.Chain
	aik    key.AccountPrivate
	rk     key.RecoveryPrivate
	dsk    key.DevicePrivate
	hosts  key.HostPrivate
	cert   account.Cert
	id     protocol.DeviceID
	owner  protocol.AccountID
}

// newDevice makes an account with one device that is connected but not yet
// registered.
func newDevice(t testing.TB, ts *testServer, name string) *device {
	t.Helper()
	hostKey := key.NewHost()
	d := &device{t: t, server: ts, name: name, aik: key.NewAccount(), rk: key.NewRecovery(), dsk: key.NewDevice(), hosts: hostKey}
	d.certify(key.NewIdentity().Public(), hostKey.Public().PeerID())
	d.host = newPeer(t, ts, hostKey)
	return d
}

// certify makes the account's chain with one device.
func (d *device) certify(identity key.IdentityPublic, peerID []byte) {
	d.t.Helper()
	now := d.server.clock.Now()
	chain, err := account.Create(now, d.aik, d.rk.Public())
	if err != nil {
		d.t.Fatal(err)
	}
	d.cert, err = account.NewCert(d.aik, account.Cert{
		Account: chain.Account(), Signing: d.dsk.Public(), Identity: identity,
		PeerID: peerID, MinProto: 1, MaxProto: 1,
		Created: now, NotAfter: now.Add(365 * 24 * time.Hour), Name: "laptop",
	})
	if err != nil {
		d.t.Fatal(err)
	}
	if d.chain, err = chain.AddDevice(now, d.aik, d.cert); err != nil {
		d.t.Fatal(err)
	}
	d.id, d.owner = d.cert.DeviceID(), chain.Account()
}

// member makes a registered device that has said hello and is offline.
func member(t testing.TB, ts *testServer, name string) *device {
	t.Helper()
	d := newDevice(t, ts, name)
	d.must(d.registerRequest(nil))
	d.greet()
	return d
}

// greet says hello, so that calls are served on this connection, and goes
// offline again.
func (d *device) greet() {
	d.t.Helper()
	d.link().s.Close()
	eventually(d.t, "the link ends", func() bool { return d.server.presence.link(d.id) == nil })
}

func (d *device) registerRequest(invite []byte) *wire.Request {
	return &wire.Request{Call: &wire.Request_Register{Register: &wire.Register{Name: d.name, Chain: d.chain.Bytes(), Invite: invite}}}
}

// open opens a stream to the server.
func (d *device) open(id libp2pprotocol.ID) network.Stream {
	d.t.Helper()
	s, err := d.host.NewStream(d.t.Context(), d.server.PeerID(), id)
	if err != nil {
		d.t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(patience))
	return s
}

// call makes one call and returns the answer, whatever it is.
func (d *device) call(req *wire.Request) *wire.Response {
	d.t.Helper()
	resp, err := d.tryCall(req)
	if err != nil {
		d.t.Fatal(err)
	}
	return resp
}

func (d *device) tryCall(req *wire.Request) (*wire.Response, error) {
	s, err := d.host.NewStream(d.t.Context(), d.server.PeerID(), protocol.CallProtocol)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	s.SetDeadline(time.Now().Add(patience))
	if err := wire.WriteMsg(s, req); err != nil {
		return nil, err
	}
	resp := &wire.Response{}
	return resp, wire.ReadMsg(s, resp)
}

// must makes a call that has to succeed.
func (d *device) must(req *wire.Request) *wire.Response {
	d.t.Helper()
	resp := d.call(req)
	if resp.GetCode() != 0 {
		d.t.Fatalf("%T refused: %v %s", req.Call, protocol.Code(resp.GetCode()), resp.GetDetail())
	}
	return resp
}

// refused makes a call that has to be refused with code.
func (d *device) refused(code protocol.Code, req *wire.Request) *wire.Response {
	d.t.Helper()
	resp := d.call(req)
	if got := protocol.Code(resp.GetCode()); got != code {
		d.t.Fatalf("%T: %v %s, want %v", req.Call, got, resp.GetDetail(), code)
	}
	if resp.GetResult() != nil {
		d.t.Fatalf("a refusal with a result: %v", resp)
	}
	return resp
}

func (d *device) setContacts(list ...*device) {
	d.t.Helper()
	c := &wire.SetContacts{}
	for _, other := range list {
		c.Accounts = append(c.Accounts, other.owner[:])
	}
	d.must(&wire.Request{Call: &wire.Request_SetContacts{SetContacts: c}})
}

// befriend puts each of two devices on the other's list.
func befriend(a, b *device) {
	a.t.Helper()
	a.setContacts(b)
	b.setContacts(a)
}

// signedRecord makes a signed prekey over the fixed RSA key.
func (d *device) signedRecord() (record, rsa []byte) {
	d.t.Helper()
	now := d.server.clock.Now()
	pub := keytest.RSA(d.t, 0).Public()
	p, err := prekey.NewSigned(now, now.Add(prekey.SignedExpires), d.id, d.dsk, pub.Hash())
	if err != nil {
		d.t.Fatal(err)
	}
	return p.Record.Marshal(), pub.Bytes()
}

func (d *device) oneTimeRecords(n int) [][]byte {
	d.t.Helper()
	now := d.server.clock.Now()
	var records [][]byte
	for range n {
		p, err := prekey.NewOneTime(now, now.Add(prekey.OneTimeExpires), d.id, d.dsk)
		if err != nil {
			d.t.Fatal(err)
		}
		records = append(records, p.Record.Marshal())
	}
	return records
}

func uploadRequest(u *wire.UploadPrekeys) *wire.Request {
	return &wire.Request{Call: &wire.Request_UploadPrekeys{UploadPrekeys: u}}
}

// publish uploads a signed prekey and n one-time prekeys, and returns these.
func (d *device) publish(n int) [][]byte {
	d.t.Helper()
	record, rsa := d.signedRecord()
	records := d.oneTimeRecords(n)
	counts := d.must(uploadRequest(&wire.UploadPrekeys{SignedRecord: record, Rsa: rsa, OneTimeRecords: records})).GetPrekeyCounts()
	if counts.GetOneTime() != uint32(n) {
		d.t.Fatalf("published %d, counted %d", n, counts.GetOneTime())
	}
	return records
}

func lookupRequest(name string, nonce []byte) *wire.Request {
	return &wire.Request{Call: &wire.Request_Lookup{Lookup: &wire.Lookup{Name: name, Nonce: nonce}}}
}

// claim looks a device up with a fresh nonce and returns its bundle.
func (d *device) claim(of *device) *wire.Bundle {
	d.t.Helper()
	bundles := d.must(lookupRequest(of.name, nonce())).GetFound().GetBundles()
	if len(bundles) != 1 || !bytes.Equal(bundles[0].GetDevice(), of.id[:]) {
		d.t.Fatalf("bundles of one device: %v", bundles)
	}
	return bundles[0]
}

func nonce() []byte {
	b := make([]byte, 16)
	rand.Read(b)
	return b
}

func recordID(t testing.TB, record []byte) protocol.PrekeyID {
	t.Helper()
	r, err := prekey.Parse(record)
	if err != nil {
		t.Fatal(err)
	}
	return r.ID()
}

// eventually polls for what other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("did not happen: %s", what)
		}
	}
}

// frame encodes any message as it travels.
func frame(t testing.TB, m proto.Message) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := wire.WriteMsg(&b, m); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
