package rendezvous

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/proof"
	"github.com/parley-chat/parley/protocol/wire"
)

// linkEnd is the device's end of a link.
type linkEnd struct {
	t       testing.TB
	s       network.Stream
	seq     uint64
	welcome *wire.Welcome
}

func (d *device) hello() *wire.Hello {
	return d.sign(&wire.Hello{MinVersion: 1, MaxVersion: 1, StoreId: make([]byte, 16), StoreCtr: 1, Start: make([]byte, 16)})
}

// sign signs a hello whose fields have the right sizes.
func (d *device) sign(h *wire.Hello) *wire.Hello {
	d.t.Helper()
	if len(h.GetStoreId()) != 16 || len(h.GetStart()) != 16 {
		return h
	}
	var err error
	h.Sig, err = proof.Hello{
		Device: d.id, StoreID: [16]byte(h.GetStoreId()), Counter: h.GetStoreCtr(), Start: [16]byte(h.GetStart()), Rendezvous: []byte(d.server.PeerID()),
	}.Sign(d.dsk)
	if err != nil {
		d.t.Fatal(err)
	}
	return h
}

// dialLink opens a link and returns what it was answered, also a refusal.
func (d *device) dialLink(first *wire.Beat) *linkEnd {
	d.t.Helper()
	l := &linkEnd{t: d.t, s: d.open(protocol.LinkProtocol), seq: first.GetSeq(), welcome: &wire.Welcome{}}
	if err := wire.WriteMsg(l.s, first); err != nil {
		d.t.Fatal(err)
	}
	if err := wire.ReadMsg(l.s, l.welcome); err != nil {
		d.t.Fatalf("no welcome: %v", err)
	}
	return l
}

// link opens a link that has to be welcome.
func (d *device) link(addrs ...[]byte) *linkEnd {
	d.t.Helper()
	l := d.dialLink(&wire.Beat{Hello: d.hello(), Seq: 1, Addrs: addrs, AddrsChanged: true})
	if l.welcome.GetCode() != 0 {
		d.t.Fatalf("link refused: %v %s", protocol.Code(l.welcome.GetCode()), l.welcome.GetDetail())
	}
	return l
}

func (l *linkEnd) beat() {
	l.t.Helper()
	l.seq++
	if err := wire.WriteMsg(l.s, &wire.Beat{Seq: l.seq}); err != nil {
		l.t.Fatal(err)
	}
}

// await reads hints until one is what the test waits for.
func (l *linkEnd) await(what string, want func(*wire.Hint) bool) *wire.Hint {
	l.t.Helper()
	l.s.SetReadDeadline(time.Now().Add(patience))
	for {
		h := &wire.Hint{}
		if err := wire.ReadMsg(l.s, h); err != nil {
			l.t.Fatalf("waiting for %s: %v", what, err)
		}
		if want(h) {
			return h
		}
	}
}

func (l *linkEnd) awaitPresence(of *device, online bool) {
	l.t.Helper()
	l.await("presence", func(h *wire.Hint) bool {
		return slices.ContainsFunc(h.GetPresence(), func(p *wire.Presence) bool {
			return bytes.Equal(p.GetAccount(), of.owner[:]) && p.GetOnline() == online
		})
	})
}

// settled beats and returns everything the server had to say before it
// answered that beat.
func (l *linkEnd) settled() (hints []*wire.Hint) {
	l.t.Helper()
	l.beat()
	l.await("answer to the beat", func(h *wire.Hint) bool {
		hints = append(hints, h)
		return h.GetBeat() == l.seq
	})
	return hints
}

// awaitEnd waits until the server has ended the stream.
func (l *linkEnd) awaitEnd() {
	l.t.Helper()
	l.s.SetReadDeadline(time.Now().Add(patience))
	for {
		err := wire.ReadMsg(l.s, &wire.Hint{})
		if e, ok := errors.AsType[interface {
			error
			Timeout() bool
		}](err); ok && e.Timeout() {
			l.t.Fatal("the link did not end")
		}
		if err != nil {
			return
		}
	}
}
