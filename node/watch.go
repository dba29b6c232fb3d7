package node

import (
	"context"
	"slices"
	"time"
)

// watchPeriod is how often the network is looked at.
const watchPeriod = 3 * time.Second

// watch notices that the machine slept or changed its network. Connections
// seem to live on then, for half a minute and more.
func (n *Node) watch(ctx context.Context) error {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	nets, last := n.interfaces.networks(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// The monotonic clock stands still while the machine sleeps, and this
		// goroutine while the process is stopped.
		now := time.Now()
		gap := max(now.Sub(last), now.Round(0).Sub(last.Round(0)))
		last = now
		changed := n.interfaces.networks()
		if gap < 5*watchPeriod && slices.Equal(nets, changed) {
			continue
		}
		n.log.Info("the network changed, or this machine slept", "gap", gap.Round(time.Second))
		nets = changed
		n.home.moved.push()
		n.dialer.moved.push()
		n.relays.moved()
	}
}
