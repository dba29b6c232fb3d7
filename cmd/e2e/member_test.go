package e2e

import (
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2pprotocol "github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/invite"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/proof"
	"github.com/parley-chat/parley/protocol/wire"
)

// patience is how long the rendezvous may take for an answer.
const patience = 20 * time.Second

// member is a registered device that is not one of the binary's: it makes the
// calls that a test needs and no command makes.
type member struct {
	g    *group
	host host.Host
	home peer.ID
}

// register makes an account with one device, and says its hello.
func (g *group) register(name string) *member {
	g.t.Helper()
	link, err := invite.Parse(g.host.Invite)
	g.must(err)
	hostKey, dsk := key.NewHost(), key.NewDevice()
	m := &member{g: g, host: g.connect(hostKey, link), home: peer.ID(link.Peer)}
	cert, chain := g.chain(hostKey, dsk)
	m.call(&wire.Request{Call: &wire.Request_Register{Register: &wire.Register{Name: name, Chain: chain.Bytes(), Invite: link.Token[:]}}})

	hello := proof.Hello{Device: cert.DeviceID(), Counter: 1, Rendezvous: link.Peer}
	sig, err := hello.Sign(dsk)
	g.must(err)
	var welcome wire.Welcome
	m.ask(protocol.LinkProtocol, &wire.Beat{Seq: 1, Hello: &wire.Hello{
		MinVersion: 1, MaxVersion: 1, StoreId: hello.StoreID[:], StoreCtr: hello.Counter, Start: hello.Start[:], Sig: sig,
	}}, &welcome)
	if welcome.GetCode() != 0 {
		g.t.Fatalf("not welcome: %v", &welcome)
	}
	return m
}

// connect makes a libp2p host that is connected to the rendezvous of the link.
func (g *group) connect(k key.HostPrivate, link invite.Invite) host.Host {
	g.t.Helper()
	identity, err := crypto.UnmarshalEd25519PrivateKey(append(k.Seed(), k.Public().PeerID()[6:]...))
	g.must(err)
	h, err := libp2p.New(libp2p.Identity(identity), libp2p.NoListenAddrs, libp2p.DisableMetrics())
	g.must(err)
	g.t.Cleanup(func() { h.Close() })
	home := peer.AddrInfo{ID: peer.ID(link.Peer)}
	for _, text := range link.Addrs {
		addr, err := ma.NewMultiaddr(text)
		g.must(err)
		home.Addrs = append(home.Addrs, addr)
	}
	g.must(h.Connect(g.ctx, home))
	return h
}

// chain makes an account with one device.
func (g *group) chain(hosts key.HostPrivate, dsk key.DevicePrivate) (account.Cert, *account.Chain) {
	g.t.Helper()
	now, aik := time.Now(), key.NewAccount()
	chain, err := account.Create(now, aik, key.NewRecovery().Public())
	g.must(err)
	cert, err := account.NewCert(aik, account.Cert{
		Account: chain.Account(), Signing: dsk.Public(), Identity: key.NewIdentity().Public(), PeerID: hosts.Public().PeerID(),
		MinProto: 1, MaxProto: 1, Created: now, NotAfter: now.Add(365 * 24 * time.Hour), Name: "laptop",
	})
	g.must(err)
	chain, err = chain.AddDevice(now, aik, cert)
	g.must(err)
	return cert, chain
}

// token asks for an access token for a service.
func (m *member) token(audience string) string {
	m.g.t.Helper()
	resp := m.call(&wire.Request{Call: &wire.Request_GetToken{GetToken: &wire.GetToken{Audience: audience}}})
	return resp.GetToken().GetToken()
}

// call makes a call that has to succeed.
func (m *member) call(req *wire.Request) *wire.Response {
	m.g.t.Helper()
	resp := &wire.Response{}
	m.ask(protocol.CallProtocol, req, resp)
	if resp.GetCode() != 0 {
		m.g.t.Fatalf("%T refused: %v %s", req.Call, protocol.Code(resp.GetCode()), resp.GetDetail())
	}
	return resp
}

// ask opens a stream, says one thing and reads the answer.
func (m *member) ask(id libp2pprotocol.ID, say, answer proto.Message) {
	m.g.t.Helper()
	s, err := m.host.NewStream(m.g.ctx, m.home, id)
	m.g.must(err)
	defer s.Close()
	s.SetDeadline(time.Now().Add(patience))
	m.g.must(wire.WriteMsg(s, say))
	m.g.must(wire.ReadMsg(s, answer))
}
