package relay

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"pgregory.net/rapid"

	"github.com/parley-chat/parley/rendezvous/token"
)

// connections are open ones, two of each of two peers.
func connections(t *testing.T) []network.Conn {
	t.Helper()
	server := newHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	for range 2 {
		identity, _, err := crypto.GenerateEd25519Key(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			h := newHost(t, libp2p.NoListenAddrs, libp2p.Identity(identity))
			if err := h.Connect(t.Context(), peer.AddrInfo{ID: server.ID(), Addrs: server.Addrs()}); err != nil {
				t.Fatal(err)
			}
		}
	}
	eventually(t, "all are connected", func() bool { return len(server.Network().Conns()) == 4 })
	return server.Network().Conns()
}

// TestDoorModel: in whatever order connections come, show tokens, stay too long
// and go, and the issuer is trusted and distrusted, the door lets in who has
// shown a token that holds, on the newest connection of each peer; it closes who
// waits for too long, or longest when there are too many; and it counts right.
func TestDoorModel(t *testing.T) {
	conns := connections(t)
	k := token.NewKey()
	set, err := token.NewSet("parley/test", 1, []ed25519.PublicKey{k.Public()})
	if err != nil {
		t.Fatal(err)
	}
	keys := token.NewFollower(token.FollowerConfig{
		Issuer: "parley/test", Fetch: func(context.Context, string) ([]byte, error) { return set.JSON(), nil },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { keys.Run(ctx) })
	defer running.Wait()
	defer cancel()
	eventually(t, "the keys are read", func() bool { return keys.State().Usable })

	rapid.Check(t, func(t *rapid.T) {
		c := &clock{}
		v := token.NewVerifier(token.AudienceRelay)
		v.Trust(keys)
		trusted := true
		d := newDoor(v, c.Now)
		d.maxWaiting, d.maxFromSite = rapid.IntRange(1, 5).Draw(t, "most"), rapid.IntRange(1, 5).Draw(t, "most of a site")
		type state struct {
			pass bool
			end  time.Time
		}
		inside := map[network.Conn]state{}
		wait := func(conn network.Conn) { inside[conn] = state{end: c.Now().Add(tokenWait)} }
		good := func(s state) bool { return s.pass && trusted && c.Now().Before(s.end) }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			conn := rapid.SampledFrom(conns).Draw(t, "connection")
			_, known := inside[conn]
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0:
				if known {
					break
				}
				waiting, first := 0, time.Time{}
				for _, s := range inside {
					if s.pass {
						continue
					}
					if waiting++; waiting == 1 || s.end.Before(first) {
						first = s.end
					}
				}
				over := d.enter(conn)
				if full := waiting >= min(d.maxWaiting, d.maxFromSite); full != (over != nil) {
					t.Fatalf("%d wait, one is closed: %v", waiting, over != nil)
				}
				if s, was := inside[over]; over != nil && (!was || s.pass || !s.end.Equal(first)) {
					t.Fatalf("closed %+v, which was there: %v; the first would have ended %v", s, was, first)
				}
				delete(inside, over)
				wait(conn)
			case 1:
				pass := token.Claims{Issuer: "parley/test", KeyID: set.IDs()[0], Expires: c.Now().Add(time.Duration(rapid.IntRange(0, 60).Draw(t, "life")) * time.Second)}
				lasts, ok := d.admit(conn, pass)
				if ok != known || ok && lasts != pass.Expires.Add(token.Leeway).Sub(c.Now()) {
					t.Fatalf("admitted %v for %v", ok, lasts)
				}
				for other, s := range inside {
					if ok && other != conn && s.pass && other.RemotePeer() == conn.RemotePeer() {
						wait(other)
					}
				}
				if ok {
					inside[conn] = state{pass: true, end: c.Now().Add(lasts)}
				}
			case 2:
				d.forget(conn)
				delete(inside, conn)
			case 3:
				c.add(time.Duration(rapid.IntRange(0, 40).Draw(t, "passed")) * time.Second)
			case 4:
				if trusted = !trusted; trusted {
					v.Trust(keys)
				} else {
					v.Distrust("parley/test")
				}
			case 5:
				over := d.tend()
				for other, s := range inside {
					late := !s.pass && !c.Now().Before(s.end)
					if slices.Contains(over, other) != late {
						t.Fatalf("closed: %v, too late: %v", !late, late)
					}
					if s.pass && !good(s) {
						wait(other)
					}
				}
			}
			admitted, waiting := 0, 0
			for _, conn := range conns {
				s, known := inside[conn]
				if is := d.Conn(conn.RemotePeer()) == conn; is != (known && good(s)) {
					t.Fatalf("lets in %v, but it is %+v", is, s)
				}
				switch {
				case s.pass:
					admitted++
				case known:
					waiting++
				}
			}
			if a, w := d.count(); a != admitted || w != waiting || len(d.callers) != len(inside) {
				t.Fatalf("counts %d and %d, there are %d and %d", a, w, admitted, waiting)
			}
			byAddress := 0
			for _, n := range d.sites {
				byAddress += n
			}
			if byAddress != waiting || len(d.sites) > waiting {
				t.Fatalf("by address %v, %d wait", d.sites, waiting)
			}
		}
	})
}
