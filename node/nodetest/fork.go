package nodetest

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	manet "github.com/multiformats/go-multiaddr/net"
)

// Fork makes two rendezvous of one: with one key, and each with all that was
// known until now. Whom Options.Fork said is led to the second, which is returned.
// Both have new addresses: a node may know the old one from the rendezvous itself.
func (net *Net) Fork() *Home {
	net.t.Helper()
	h := net.Home
	h.Stop()
	second := &Home{t: h.t, config: h.config}
	second.config.Dir = filepath.Join(h.t.TempDir(), "fork")
	if err := os.CopyFS(second.config.Dir, os.DirFS(h.config.Dir)); err != nil {
		h.t.Fatalf("copy the rendezvous: %v", err)
	}
	h.config.Listen, second.config.Listen = Loopback, Loopback
	h.t.Cleanup(second.Stop)
	h.Start()
	second.Start()
	net.doors[0].leadTo(h)
	net.doors[1].leadTo(second)
	return second
}

// Door is an address of the rendezvous that can be led to another one.
type Door struct {
	t        testing.TB
	listener net.Listener

	mu     sync.Mutex
	target string // where it leads now
	conns  map[net.Conn]bool
	open   sync.WaitGroup
}

func newDoor(t testing.TB) *Door {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("open a door: %v", err)
	}
	d := &Door{t: t, listener: l, conns: map[net.Conn]bool{}}
	d.open.Go(d.run)
	t.Cleanup(d.close)
	return d
}

// Addr is what an invite names.
func (d *Door) Addr() string {
	a, err := manet.FromNetAddr(d.listener.Addr())
	if err != nil {
		d.t.Fatalf("address of the door: %v", err)
	}
	return a.String()
}

// leadTo shuts the door, and opens it to another rendezvous.
func (d *Door) leadTo(h *Home) {
	for _, a := range h.Addrs() {
		network, addr, err := manet.DialArgs(a)
		if err != nil || network != "tcp4" {
			continue
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		d.target = addr
		for c := range d.conns {
			c.Close()
		}
		return
	}
	d.t.Fatalf("the rendezvous listens nowhere by TCP: %v", h.Addrs())
}

func (d *Door) run() {
	for {
		in, err := d.listener.Accept()
		if err != nil {
			return
		}
		d.open.Go(func() { d.lead(in) })
	}
}

// lead carries bytes both ways until one end closes.
func (d *Door) lead(in net.Conn) {
	defer in.Close()
	d.mu.Lock()
	target := d.target
	d.mu.Unlock()
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer out.Close()
	d.hold(in, out)
	defer d.drop(in, out)
	var back sync.WaitGroup
	back.Go(func() {
		io.Copy(in, out)
		in.Close()
	})
	io.Copy(out, in)
	out.Close()
	back.Wait()
}

func (d *Door) hold(conns ...net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		d.conns[c] = true
	}
}

func (d *Door) drop(conns ...net.Conn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range conns {
		delete(d.conns, c)
	}
}

func (d *Door) close() {
	d.listener.Close()
	d.mu.Lock()
	for c := range d.conns {
		c.Close()
	}
	d.mu.Unlock()
	d.open.Wait()
}
