package node

import (
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

// A contact's device that is seen where it was is no news; one that came, or that
// was started again and has other ports, is.
func TestSightingsWake(t *testing.T) {
	g, contact := testGate(t, "/ip4/1.2.3.4/tcp/4001")
	n := &Node{gate: g}
	n.lookups, n.outbox, n.dialer, n.files = newLookups(n), newOutbox(n), newDialer(n), newFiles(n, 0)
	first, second := []ma.Multiaddr{ma.StringCast("/ip4/192.168.1.2/tcp/1")}, []ma.Multiaddr{ma.StringCast("/ip4/192.168.1.2/tcp/2")}
	for i, tt := range []struct {
		at   []ma.Multiaddr
		news bool
	}{{first, true}, {first, false}, {second, true}, {second, false}, {first, true}} {
		later := time.Now().Add(time.Hour)
		n.lookups.wanted[contact.account] = want{prekeys: true, from: later}
		n.dialer.saw(contact.peer, tt.at)
		if news := !n.lookups.wanted[contact.account].from.Equal(later); news != tt.news {
			t.Errorf("sighting %d: news %v, want %v", i, news, tt.news)
		}
	}
}
