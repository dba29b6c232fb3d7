package node

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
)

// A connection that is made while a worker gets nowhere over the last one is
// tried, not avoided.
func TestConnectionMadeWhileAWorkerFails(t *testing.T) {
	o, d := newOutbox(&Node{}), protocol.DeviceID{1}
	w := &worker{to: d, more: newNudge()}
	o.workers[d] = w
	o.wakeNew(d)
	w.route.avoidDirect, w.route.failures = time.Now().Add(avoidFor), 3
	o.ended(w, errors.New("no connection"))
	if r := o.routes[d]; r == nil || !r.avoidDirect.IsZero() || r.failures != 0 {
		t.Errorf("route %+v", r)
	}
	if !slices.Contains(o.ready, d) {
		t.Error("it is not tried again")
	}
}
