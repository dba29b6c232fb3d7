package node

import (
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
)

// relaysAt knows relays that answered after these times; zero: never asked. The
// rendezvous answers after 10 ms.
func relaysAt(t *testing.T, rtts ...time.Duration) (r *relays, all []peer.ID) {
	h := plainHost(t)
	n := &Node{host: h, now: time.Now, log: slog.New(slog.DiscardHandler)}
	n.gate, _ = testGate(t, "/ip4/1.2.3.4/tcp/4001")
	n.home = newHome(n, peer.AddrInfo{ID: testPeer(t)})
	n.home.state = api.Link{Up: true, RTTms: 10}
	r = newRelays(n)
	for _, rtt := range rtts {
		p := testPeer(t)
		r.list[p] = &relayState{rtt: rtt}
		all = append(all, p)
	}
	return r, all
}

func TestNearestRelayFirst(t *testing.T) {
	r, all := relaysAt(t, 30*time.Millisecond, 0, 2*time.Millisecond)
	home := r.n.home.info.ID
	got := r.byDistance([]peer.ID{home, all[0], all[1], all[2]})
	if want := []peer.ID{all[2], home, all[0], all[1]}; !slices.Equal(got, want) {
		t.Errorf("order %v, want %v", got, want)
	}
}

// What the rendezvous says of where a contact is names only relays of the list,
// and not more than fit.
func TestRelaysOfContact(t *testing.T) {
	r, all := relaysAt(t, make([]time.Duration, 2*protocol.MaxAtRelays)...)
	var names [][]byte
	for _, p := range all {
		names = append(names, []byte(p))
	}
	if got := r.of(names); !slices.Equal(got, all[:protocol.MaxAtRelays]) {
		t.Errorf("%d of %d relays are used", len(got), len(all))
	}
	stranger := testPeer(t)
	if got := r.of([][]byte{nil, []byte("x"), []byte(stranger), []byte(all[0]), []byte(all[0])}); !slices.Equal(got, all[:1]) {
		t.Errorf("used %v, want %v", got, all[:1])
	}
	if got := r.nearest(); len(got) != protocol.MaxAtRelays {
		t.Errorf("%d relays are tried without the rendezvous", len(got))
	}
}

// A list that does not name a relay which serves us, as that of a rendezvous which
// has just started, costs neither the connection nor the place there. When the
// admission has ended the relay is forgotten.
func TestRelayGoneFromTheListIsKeptWhileItServes(t *testing.T) {
	r, _ := relaysAt(t)
	relay, other := plainHost(t), plainHost(t)
	listed := func(some ...host.Host) map[peer.ID]*relayState {
		list := map[peer.ID]*relayState{}
		for _, h := range some {
			list[h.ID()] = &relayState{addrs: h.Addrs()}
		}
		return list
	}
	p := relay.ID()
	r.set(listed(relay, other))
	if err := r.n.host.Connect(t.Context(), peer.AddrInfo{ID: p, Addrs: relay.Addrs()}); err != nil {
		t.Fatal(err)
	}
	conn := r.n.host.Network().ConnsToPeer(p)[0]
	r.list[p].admission = admission{conn: conn, renew: time.Now().Add(time.Hour), until: time.Now().Add(time.Hour)}
	r.setHeld(p, nil)

	r.set(listed())
	if conn.IsClosed() || r.holding() != p || !r.n.gate.isRelay(p) || len(r.listed()) != 0 {
		t.Errorf("closed %v, held at %q, known to the gate %v, listed %v", conn.IsClosed(), r.holding(), r.n.gate.isRelay(p), r.listed())
	}
	if r.n.gate.isRelay(other.ID()) || len(r.known()) != 1 {
		t.Errorf("a relay that does not serve us is kept: %v", r.known())
	}
	if err := r.reach(t.Context(), p); err == nil {
		t.Error("a relay that is gone from the list is dialed")
	}
	r.set(listed(relay))
	if got := r.listed(); !slices.Equal(got, []peer.ID{p}) || r.holding() != p {
		t.Errorf("back in the list: %v, held at %q", got, r.holding())
	}

	r.set(listed())
	r.list[p].admission.until = time.Now()
	eventually(t, "nothing passes there", func() bool { return idle(conn) })
	r.measureIn(relayMeasure)
	r.tidy(t.Context())
	if due := r.due(); due > 0 {
		t.Errorf("another place is looked for in %v", due)
	}
	if !conn.IsClosed() || r.holding() != "" || r.n.gate.isRelay(p) || len(r.known()) != 0 {
		t.Errorf("its admission has ended: closed %v, held at %q, known %v", conn.IsClosed(), r.holding(), r.known())
	}
}

// Whatever the rendezvous and relays do, relays are measured before their time as
// often as is allowed, and the last reason is not lost.
func TestRelaysAreMeasuredSeldom(t *testing.T) {
	r, _ := relaysAt(t)
	r.set(map[peer.ID]*relayState{testPeer(t): {}})
	began := time.Now()
	for range 100 * relayBurst {
		r.measureIn(relayMeasure)
		r.set(map[peer.ID]*relayState{testPeer(t): {}})
	}
	if due := r.measureAt.Sub(began); due <= 0 || due > relayNewsEvery+time.Since(began) {
		t.Errorf("the next measurement is due %v after the first", due)
	}
}

// Hints that come all the time do not make the list be asked for all the time, and
// it stays to be asked for.
func TestRelayListIsAskedForSeldom(t *testing.T) {
	r, _ := relaysAt(t)
	r.n.home.up = true
	r.lists.AllowN(time.Now(), relayBurst)
	for range 100 {
		r.changed()
		if wait := r.refresh(t.Context()); wait != relayListEvery || !r.stale.Load() {
			t.Fatalf("asked for again in %v, still to be asked for: %v", wait, r.stale.Load())
		}
	}
}
