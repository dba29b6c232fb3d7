package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/net/ipv4"
)

const (
	lanAsk      = 45 * time.Second // below seenFresh
	lanAskAgain = time.Second      // once after the start: packets get lost
	lanAnswer   = time.Second      // at most one answer per so long
	lanRestart  = 30 * time.Second // look whether interfaces came or went
	maxLANs     = 16
)

var mdnsGroup = &net.UDPAddr{IP: net.IPv4(224, 0, 0, 251), Port: 5353}

// lan finds contacts on the local network, also while the rendezvous is away.
// It is off unless asked for: whoever is on the network can see that this
// device is there. Of what it hears it believes nothing; only contacts' devices
// are dialed, and they must prove who they are.
type lan struct {
	n        *Node
	instance string // random, so that it tells nothing
}

func newLAN(n *Node) *lan { return &lan{n: n, instance: strings.ToLower(rand.Text())} }

// run takes part in mDNS on every interface until ctx ends.
func (l *lan) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := l.round(ctx); err != nil {
			l.n.log.Warn("local network discovery", "err", err)
		}
	}
	return nil
}

// round works on the interfaces there are now, until they change.
func (l *lan) round(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	ifs, listErr := multicastInterfaces()
	var segments sync.WaitGroup
	var errs []error
	for _, i := range ifs {
		s, err := l.join(i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		segments.Go(func() { s.read(ctx) })
		segments.Go(func() { s.ask(ctx) })
	}
	look := time.NewTicker(lanRestart)
	defer look.Stop()
	for same := true; same && ctx.Err() == nil; {
		select {
		case <-ctx.Done():
		case <-look.C:
			now, err := multicastInterfaces()
			same = err != nil || slices.EqualFunc(ifs, now, func(a, b net.Interface) bool { return a.Index == b.Index })
		}
	}
	cancel()
	segments.Wait()
	return errors.Join(append(errs, listErr)...)
}

func multicastInterfaces() ([]net.Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	const need = net.FlagUp | net.FlagMulticast
	all = slices.DeleteFunc(all, func(i net.Interface) bool { return i.Flags&need != need || i.Flags&net.FlagPointToPoint != 0 })
	return all[:min(len(all), maxLANs)], nil
}

// segment is one interface.
type segment struct {
	l        *lan
	on       net.Interface
	conn     *net.UDPConn
	answered time.Time // owned by read
}

func (l *lan) join(on net.Interface) (*segment, error) {
	c, err := net.ListenMulticastUDP("udp4", &on, mdnsGroup)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", on.Name, err)
	}
	p := ipv4.NewPacketConn(c)
	// Other nodes may run on this machine, so they must hear us too.
	if err := errors.Join(p.SetMulticastInterface(&on), p.SetMulticastLoopback(true)); err != nil {
		c.Close()
		return nil, fmt.Errorf("multicast on %s: %w", on.Name, err)
	}
	return &segment{l: l, on: on, conn: c}, nil
}

// read answers questions and notes who is there, until ctx ends.
func (s *segment) read(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { s.conn.Close() })()
	buf := make([]byte, mdnsMax)
	for {
		size, _, err := s.conn.ReadFromUDP(buf)
		if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		asks, found := readMDNS(buf[:size])
		if asks && time.Since(s.answered) > lanAnswer {
			s.answered = time.Now()
			s.answer()
		}
		for p, addrs := range found {
			s.l.n.dialer.saw(p, addrs)
		}
	}
}

func (s *segment) answer() {
	packet, err := mdnsAnswer(s.l.instance, s.l.n.host.ID(), s.addrs())
	if err == nil {
		_, err = s.conn.WriteToUDP(packet, mdnsGroup)
	}
	if err != nil {
		s.l.n.log.Debug("mDNS not answered", "on", s.on.Name, "err", err)
	}
}

// addrs is where we listen on this interface.
func (s *segment) addrs() []ma.Multiaddr {
	_, all := s.l.n.ownAddrs()
	nets, err := s.on.Addrs()
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(all, func(a ma.Multiaddr) bool {
		ip, ok := ipOf(a)
		return !ok || !slices.ContainsFunc(nets, func(n net.Addr) bool {
			on, ok := n.(*net.IPNet)
			return ok && on.IP.Equal(net.IP(ip.AsSlice()))
		})
	})
}

// ask asks who is there, from time to time.
func (s *segment) ask(ctx context.Context) {
	question, err := mdnsQuery()
	if err != nil {
		return
	}
	for wait := lanAskAgain; ; wait = lanAsk {
		if _, err := s.conn.WriteToUDP(question, mdnsGroup); err != nil {
			s.l.n.log.Debug("mDNS question not sent", "on", s.on.Name, "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}
