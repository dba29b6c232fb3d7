package node

import (
	"testing"

	"github.com/parley-chat/parley/protocol"
)

// A change that is told of while a look-up runs asks for another: the answer
// under way may be older than the change.
func TestLookupWantedWhileOneRuns(t *testing.T) {
	offline := &protocol.Error{Code: protocol.RateLimited}
	tests := []struct {
		name      string
		meanwhile func(*lookups, protocol.AccountID)
		err       error
		due, kept bool
		prekeys   bool
	}{
		{"nothing", func(*lookups, protocol.AccountID) {}, nil, false, false, false},
		{"failed", func(*lookups, protocol.AccountID) {}, ErrOffline, false, true, true},
		{"refused", func(*lookups, protocol.AccountID) {}, offline, false, true, true},
		{"changed", func(l *lookups, a protocol.AccountID) { l.want([]protocol.AccountID{a}, false) }, nil, true, true, false},
		{"prekeys wanted", func(l *lookups, a protocol.AccountID) { l.want([]protocol.AccountID{a}, true) }, nil, true, true, true},
		{"failed and changed", func(l *lookups, a protocol.AccountID) { l.want([]protocol.AccountID{a}, false) }, ErrOffline, true, true, true},
		{"failed, and the rendezvous came back", func(l *lookups, _ protocol.AccountID) { l.retryAll() }, ErrOffline, true, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, a := newLookups(&Node{home: &home{up: true}}), protocol.AccountID{1}
			l.want([]protocol.AccountID{a}, true)
			_, made, wait := l.take()
			if wait != 0 || !made.prekeys {
				t.Fatalf("wait %v, %+v", wait, made)
			}
			tt.meanwhile(l, a)
			if _, _, wait := l.take(); wait == 0 {
				t.Fatal("two look-ups of one account at a time")
			}
			l.done(a, made, tt.err)
			if w, kept := l.wanted[a]; kept != tt.kept || w.prekeys != tt.prekeys {
				t.Errorf("wanted %v, with prekeys %v", kept, w.prekeys)
			}
			if _, _, wait := l.take(); (wait == 0) != tt.due {
				t.Errorf("next in %v", wait)
			}
		})
	}
}
