package rendezvous

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
)

// hellos knows what became of the hellos on the connections that are open. A
// connection shows only that somebody has a device's host key; the hello shows
// that it is the device, and not a copy of its store. So calls of members and
// circuits need a hello that was welcomed on the same connection, and the newest
// one of a device is the only one that counts.
type hellos struct {
	mu       sync.Mutex
	welcomed map[peer.ID]network.Conn
	copies   map[network.Conn]struct{} // refused, but may read: see Server.fetchAsCopy
}

func newHellos() *hellos {
	return &hellos{welcomed: map[peer.ID]network.Conn{}, copies: map[network.Conn]struct{}{}}
}

// watch forgets connections when they end.
func (h *hellos) watch(n network.Network) {
	n.Notify(&network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) { h.forget(c) }})
}

func (h *hellos) forget(c network.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetLocked(c)
}

func (h *hellos) forgetLocked(c network.Conn) {
	delete(h.copies, c)
	if h.welcomed[c.RemotePeer()] == c {
		delete(h.welcomed, c.RemotePeer())
	}
}

// welcome notes that the hello on c was welcomed. Hellos of the same device on
// other connections count no more.
func (h *hellos) welcome(c network.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.copies, c)
	if !c.IsClosed() { // else it may have been forgotten before
		h.welcomed[c.RemotePeer()] = c
	}
}

// refuse notes that the hello on c was that of a copied store, and whether it
// may read.
func (h *hellos) refuse(c network.Conn, mayRead bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.forgetLocked(c)
	if mayRead && !c.IsClosed() {
		h.copies[c] = struct{}{}
	}
}

func (h *hellos) isWelcome(c network.Conn) bool { return h.conn(c.RemotePeer()) == c }

// conn is the connection of p whose hello counts, nil when none does.
func (h *hellos) conn(p peer.ID) network.Conn {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.welcomed[p]
}

// mayRead tells whether c may read as a copy.
func (h *hellos) mayRead(c network.Conn) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.copies[c]
	return ok
}

func helloFirst() *protocol.Error {
	return protocol.Refuse(protocol.HelloFirst, "say hello on this connection first")
}
