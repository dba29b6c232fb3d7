package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	multistream "github.com/multiformats/go-multistream"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/store"
)

const (
	pingEvery   = time.Second
	pingTimeout = 5 * time.Second
)

// Ping asks a contact's device for a sign of life once a second until ctx ends,
// over the best path there is at each moment.
func (n *Node) Ping(ctx context.Context, name string) iter.Seq2[api.Pong, error] {
	return func(yield func(api.Pong, error) bool) {
		to, err := n.pingTarget(ctx, name)
		if err != nil {
			yield(api.Pong{}, answer(err))
			return
		}
		p := pinger{n: n, to: to}
		defer p.close()
		for i := 1; ctx.Err() == nil; i++ {
			next := time.NewTimer(pingEvery)
			pong := p.once(ctx)
			pong.N = i
			if ctx.Err() != nil || !yield(pong, nil) {
				next.Stop()
				return
			}
			select {
			case <-next.C:
			case <-ctx.Done():
				next.Stop()
			}
		}
	}
}

func (n *Node) pingTarget(ctx context.Context, name string) (device, error) {
	c, err := read(ctx, n.kv, func(tx store.Tx) (engine.Contact, error) { return n.contactByName(tx, name) })
	if err != nil {
		return device{}, err
	}
	all := n.gate.devicesOf(c.Account)
	if len(all) == 0 {
		return device{}, engine.ErrNotAccepted
	}
	for _, d := range all {
		if n.dialer.connected(d.peer) {
			return d, nil
		}
	}
	return all[0], nil
}

// pinger keeps one stream of libp2p's ping protocol, so that the path of each
// reply is known, and opens another when a better connection exists.
type pinger struct {
	n  *Node
	to device
	s  network.Stream
}

func (p *pinger) once(ctx context.Context) api.Pong {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	fresh := p.s == nil
	pong, err := p.try(ctx)
	if err != nil && !fresh { // the other end closes such streams after 30 s
		pong, err = p.try(ctx)
	}
	if err != nil {
		pong.Problem = err.Error()
	}
	return pong
}

func (p *pinger) try(ctx context.Context) (pong api.Pong, err error) {
	if best := p.n.dialer.best(p.to.peer); p.s != nil && best != nil && best.ID() != p.s.Conn().ID() {
		p.close()
	}
	if p.s == nil {
		if err := p.open(ctx); err != nil {
			return pong, err
		}
	}
	c := p.s.Conn()
	pong.Path, pong.Addr = apiPath(p.n.pathOf(c)), c.RemoteMultiaddr().String()
	rtt, err := echo(ctx, p.s)
	pong.RTTms = millis(rtt)
	if e, ok := errors.AsType[net.Error](err); ok && e.Timeout() {
		c.Close() // it leads nowhere; the next attempt finds another way
	}
	if err != nil {
		p.close()
	}
	return pong, err
}

func (p *pinger) open(ctx context.Context) error {
	if err := p.n.dialer.dial(ctx, p.to); err != nil {
		return fmt.Errorf("not reachable: %w", err)
	}
	s, err := p.n.host.NewStream(onlyConnected(ctx), p.to.peer, ping.ID)
	if err != nil {
		return fmt.Errorf("open stream: %w", err)
	}
	p.s = s
	return nil
}

// echo sends something on a stream of libp2p's ping protocol and waits for it
// to come back, until ctx ends.
func echo(ctx context.Context, s network.Stream) (rtt time.Duration, err error) {
	deadline, _ := ctx.Deadline()
	s.SetDeadline(deadline)
	defer context.AfterFunc(ctx, func() { s.SetDeadline(time.Unix(1, 0)) })()
	var sent, got [ping.PingSize]byte
	rand.Read(sent[:])
	begun := time.Now()
	if _, err := s.Write(sent[:]); err != nil {
		return 0, fmt.Errorf("no reply: %w", err)
	}
	if _, err := io.ReadFull(s, got[:]); err != nil {
		return 0, fmt.Errorf("no reply: %w", err)
	}
	if !bytes.Equal(sent[:], got[:]) {
		return 0, errors.New("the reply is not what was sent")
	}
	return time.Since(begun), nil
}

// answers tells whether the other end of this very connection is there.
func answers(ctx context.Context, c network.Conn, within time.Duration) bool {
	ctx, cancel := context.WithTimeout(onlyConnected(ctx), within)
	defer cancel()
	s, err := c.NewStream(ctx)
	if err != nil {
		return false
	}
	defer s.Reset()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	if err := s.SetProtocol(ping.ID); err != nil {
		return true // our own limits; nothing is known of the other end
	}
	if err := multistream.SelectProtoOrFail(ping.ID, s); err != nil {
		return false
	}
	_, err = echo(ctx, s)
	return err == nil
}

func (p *pinger) close() {
	if p.s != nil {
		p.s.Reset()
		p.s = nil
	}
}
