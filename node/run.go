package node

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"
)

// Run does the node's work until ctx ends. It returns when every goroutine has
// ended, and then the node is closed. ErrReborn means that the folder is another
// device now: open it again. engine.ErrRevoked means that it is none any more.
// These are the goroutines:
func (n *Node) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := n.startListening(ctx); err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return n.home.run(ctx) })         // connection to the rendezvous; and while it stands: reader, writer, reservation
	g.Go(func() error { return n.sync.run(ctx) })         // prekeys and the contact list, to the rendezvous
	g.Go(func() error { return n.lookups.run(ctx) })      // accounts, from the rendezvous; at most maxLookups at a time
	g.Go(func() error { return n.runDrain(ctx) })         // mailbox
	g.Go(func() error { return n.outbox.run(ctx) })       // one more per device with queued mail, at most maxWorkers
	g.Go(func() error { return n.dialer.run(ctx) })       // connections to contacts: upgrades, clearing up, addresses
	g.Go(func() error { return n.rooms.run(ctx) })        // rooms; one more per room in which something is to be done, at most maxRoomWorkers
	g.Go(func() error { return n.files.run(ctx) })        // files that are wanted; one more per file, at most maxFetches, and its requests
	g.Go(func() error { return n.files.store(ctx) })      // files for who is away, to the rendezvous
	g.Go(func() error { return n.files.clear(ctx) })      // what is left of files that are done with
	g.Go(func() error { return n.topics.run(ctx) })       // heads of the log, by gossip
	g.Go(func() error { return n.topics.hearRooms(ctx) }) // what is said in rooms, by gossip
	g.Go(func() error { return n.relays.run(ctx) })       // a place at a relay besides the rendezvous; while it measures, one more per relay
	g.Go(func() error { return n.runTick(ctx) })          // what the engine does by time
	g.Go(func() error { return n.watch(ctx) })            // network changes and sleep
	g.Go(func() error { return n.retire(ctx) })           // the end of this device, should it be revoked
	g.Go(func() error { return n.runRotate(ctx) })        // the key that private keys and sessions are sealed under
	if !n.isGuest() {
		g.Go(func() error { return n.logs.run(ctx) }) // the directory's log, from the rendezvous
	}
	if n.lan != nil {
		g.Go(func() error { return n.lan.run(ctx) }) // mDNS; one reader per network interface
	}
	// Gossipsub's began in New, and end with the node's context. And, waited for by
	// Close: one per incoming stream (handleMsg, handlePrekey,
	// handleKnock, handleRoom, handleFile, started by libp2p), one while an RSA key is made (makeRSA), per account that
	// is looked up (lookups.look), per device that is dialed (dialer.dial), per
	// attempt to replace a relayed connection (dialer.upgrade), per connection of
	// somebody who went offline (dialer.doubt), and per relay that is shown a token
	// (relays.admit).
	err = g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// Close releases what New opened. Run does it when it ends; calling it again
// does nothing.
func (n *Node) Close() (err error) {
	n.closing.Do(func() {
		n.lifeMu.Lock()
		n.closed = true
		n.lifeMu.Unlock()
		n.cancel()
		n.events.ring()
		if n.host != nil {
			err = n.host.Close()
		}
		n.others.Wait()
		err = errors.Join(err, n.kv.Close())
		if kept := n.burned.Load(); kept != nil { // nobody can read the store any more
			err = errors.Join(err, removeBurned(n.dir), n.removeParts(*kept))
		}
	})
	return err
}

// enter lets a goroutine that is not Run's own work with the store, unless the
// node is closing. Each enter that said true needs a leave.
func (n *Node) enter() bool {
	n.lifeMu.Lock()
	defer n.lifeMu.Unlock()
	if n.closed {
		return false
	}
	n.others.Add(1)
	return true
}

func (n *Node) leave() { n.others.Done() }

// share runs fn, or waits for the run of it that somebody else began under this name.
// It has the node's context and not the first caller's, who may give up earlier than
// the others.
func (n *Node) share(ctx context.Context, flights *singleflight.Group, name string, fn func(context.Context) error) error {
	ch := flights.DoChan(name, func() (any, error) {
		if !n.enter() {
			return nil, errClosed
		}
		defer n.leave()
		return nil, fn(n.ctx)
	})
	select {
	case r := <-ch:
		return r.Err
	case <-ctx.Done():
		return ctx.Err()
	}
}
