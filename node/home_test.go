package node

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/parley-chat/parley/protocol"
)

func TestPauseBetweenAttempts(t *testing.T) {
	tests := []struct {
		err      error
		failures int
		min, max time.Duration
	}{
		{errMoved, 9, 0, 0},
		{errors.New("lost"), 0, retryFirst / 2, 3 * retryFirst / 2},
		{errors.New("lost"), 2, 2 * retryFirst, 6 * retryFirst},
		{errors.New("lost"), 1000, retryMax / 2, 3 * retryMax / 2},
		{&protocol.Error{Code: protocol.Draining, RetryAfter: 4 * time.Second}, 0, 2 * time.Second, 6 * time.Second},
		{&protocol.Error{Code: protocol.Draining, RetryAfter: 1000 * time.Hour}, 0, retryHopeless / 2, 3 * retryHopeless / 2},
		{&protocol.Error{Code: protocol.Replaced}, 0, retryFirst / 2, 3 * retryFirst / 2},
		{&protocol.Error{Code: protocol.StoreRolledBack}, 0, retryFirst / 2, 3 * retryFirst / 2},
		{&protocol.Error{Code: protocol.NotMember}, 0, retryHopeless / 2, 3 * retryHopeless / 2},
	}
	for _, tt := range tests {
		for range 50 {
			if got := pause(tt.err, tt.failures); got < tt.min || got > tt.max {
				t.Fatalf("after %v, %d failures: %v, want %v to %v", tt.err, tt.failures, got, tt.min, tt.max)
			}
		}
	}
}

func TestAnnounced(t *testing.T) {
	const (
		public   = "/ip4/8.8.8.8/tcp/9000" // not on an interface: what the rendezvous saw
		private  = "/ip4/192.168.1.7/tcp/9000"
		loopback = "/ip4/127.0.0.1/tcp/9000"
		circuit  = "/ip4/8.8.8.8/tcp/1/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5/p2p-circuit"
	)
	var own []ma.Multiaddr
	for _, a := range []string{public, private, loopback, circuit} {
		own = append(own, ma.StringCast(a))
	}
	tests := []struct {
		name  string
		reach network.Reachability
		near  reach
		want  []string
	}{
		{"unknown", network.ReachabilityUnknown, everywhere, []string{private}},
		{"private", network.ReachabilityPrivate, everywhere, []string{private}},
		{"public", network.ReachabilityPublic, everywhere, []string{public, private}},
		{"all on one machine", network.ReachabilityUnknown, thisMachine, []string{private, loopback}},
	}
	for _, tt := range tests {
		var got []string
		for _, a := range announced(own, tt.reach, &interfaces{}, tt.near) {
			got = append(got, a.String())
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
}

func TestReservationWithAWrongClock(t *testing.T) {
	looksExpired := client.ReservationError{Status: pb.Status_MALFORMED_MESSAGE, Reason: "expiration date in the past"}
	tests := []struct {
		err  error
		skew time.Duration
		want bool
	}{
		{looksExpired, 2 * time.Hour, true},
		{looksExpired, 0, false},
		{looksExpired, -2 * time.Hour, false},
		{client.ReservationError{Status: pb.Status_PERMISSION_DENIED}, 2 * time.Hour, false},
		{errors.New("no stream"), 2 * time.Hour, false},
	}
	for _, tt := range tests {
		if got := grantedAnyway(tt.err, tt.skew); got != tt.want {
			t.Errorf("%v with the clock ahead by %v: %v", tt.err, tt.skew, got)
		}
	}
}

func TestPresenceIsBounded(t *testing.T) {
	var p presence
	p.reset(true)
	for i := range protocol.MaxContacts + 10 {
		p.set(protocol.AccountID{byte(i), byte(i >> 8), byte(i >> 16), 1}, true)
	}
	if len(p.online) != protocol.MaxContacts {
		t.Errorf("%d accounts kept", len(p.online))
	}
	p.reset(false)
	if online, known := p.of(protocol.AccountID{1, 0, 0, 1}); online || known {
		t.Error("presence outlives the link")
	}
}
