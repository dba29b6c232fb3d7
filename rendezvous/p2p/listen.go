package p2p

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// parseListen reads the addresses to listen at and tries their ports: libp2p
// is content when one of many can be had. It leaves out those of IPv6 on a
// machine without it.
func parseListen(texts []string) ([]ma.Multiaddr, error) {
	var listen []ma.Multiaddr
	for _, text := range texts {
		m, err := ma.NewMultiaddr(text)
		if err != nil {
			return nil, fmt.Errorf("listen at %q: %w", text, err)
		}
		network, addr, err := manet.DialArgs(m)
		if err != nil {
			return nil, fmt.Errorf("listen at %q: %w", text, err)
		}
		if strings.HasSuffix(network, "6") && tryPort("tcp6", "[::]:0") != nil {
			continue
		}
		err = tryPort(network, addr)
		if errors.Is(err, syscall.EADDRINUSE) {
			_, port, _ := net.SplitHostPort(addr)
			return nil, fmt.Errorf("port %s/%s is in use: %w", port, strings.TrimRight(network, "46"), err)
		}
		if err != nil {
			return nil, fmt.Errorf("listen at %q: %w", text, err)
		}
		listen = append(listen, m)
	}
	if len(listen) == 0 {
		return nil, errors.New("nowhere to listen: this machine has no IPv6")
	}
	return listen, nil
}

func tryPort(network, addr string) error {
	var port io.Closer
	var err error
	if strings.HasPrefix(network, "udp") {
		port, err = net.ListenPacket(network, addr)
	} else {
		port, err = net.Listen(network, addr)
	}
	if err != nil {
		return err
	}
	return port.Close()
}

// checkListening tells which address asked for is not listened at.
func checkListening(asked, listening []ma.Multiaddr) error {
	for _, a := range asked {
		if !slices.ContainsFunc(listening, func(l ma.Multiaddr) bool { return covers(l, a) }) {
			return fmt.Errorf("cannot listen at %s", a)
		}
	}
	return nil
}

// covers tells whether listening is what was asked for, where port 0 is any.
func covers(listening, asked ma.Multiaddr) bool {
	return slices.EqualFunc(listening, asked, func(l, a ma.Component) bool {
		code := a.Protocol().Code
		anyPort := (code == ma.P_TCP || code == ma.P_UDP) && a.Value() == "0"
		return l.Protocol().Code == code && (anyPort || l.Value() == a.Value())
	})
}
