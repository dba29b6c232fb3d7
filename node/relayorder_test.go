package node

import (
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
)

// relaysAt knows relays that answered after these times; zero: never asked. The
// rendezvous answers after 10 ms.
func relaysAt(t *testing.T, rtts ...time.Duration) (r *relays, all []peer.ID) {
	n := &Node{}
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
