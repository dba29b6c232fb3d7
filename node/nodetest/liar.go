package nodetest

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	libp2p "github.com/libp2p/go-libp2p/core/protocol"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
)

// Lie changes what the rendezvous says before it leaves. The rendezvous itself
// goes on as if it had told the truth. The functions are called by many streams
// at a time; nil changes nothing.
type Lie struct {
	Answer func(to peer.ID, q *wire.Request, a *wire.Response)
	Hint   func(to peer.ID, h *wire.Hint)
}

// Lie lets the rendezvous lie from now on, also after a restart. The zero Lie is
// the truth.
func (h *Home) Lie(l Lie) { h.lie.Store(&l) }

// Signer signs heads of the directory log, as the rendezvous itself does.
func (h *Home) Signer() directory.Signer {
	h.t.Helper()
	host := h.Host()
	raw, err := host.Peerstore().PrivKey(host.ID()).Raw()
	if err != nil {
		h.t.Fatalf("read the key of the rendezvous: %v", err)
	}
	k, err := key.ParseHost(raw[:32])
	if err != nil {
		h.t.Fatalf("read the key of the rendezvous: %v", err)
	}
	s, err := directory.NewSigner(k)
	if err != nil {
		h.t.Fatalf("make a signer of heads: %v", err)
	}
	return s
}

// editStreams puts the lie between the rendezvous's handlers and their streams.
func (h *Home) editStreams() {
	h.edit(protocol.CallProtocol, h.editCall)
	h.edit(protocol.LinkProtocol, h.editLink)
}

func (h *Home) edit(pid libp2p.ID, through func(network.Stream) network.Stream) {
	h.t.Helper()
	handler, err := handlerOf(h.Host().Mux(), pid)
	if err != nil {
		h.t.Fatalf("find the handler of %s: %v", pid, err)
	}
	h.Host().SetStreamHandler(pid, func(s network.Stream) { handler(pid, through(s)) })
}

func (h *Home) editCall(s network.Stream) network.Stream {
	asked := &bytes.Buffer{}
	return &edited{Stream: s, reads: io.TeeReader(s, asked), writes: func(frame []byte) error {
		q, a := &wire.Request{}, &wire.Response{}
		err := wire.ReadMsg(bytes.NewReader(frame), a)
		l := h.lie.Load()
		if err != nil || l == nil || l.Answer == nil || wire.ReadMsg(asked, q) != nil { // the last: refused unread
			return write(s, frame)
		}
		l.Answer(s.Conn().RemotePeer(), q, a)
		return wire.WriteMsg(s, a)
	}}
}

func (h *Home) editLink(s network.Stream) network.Stream {
	welcomed := false
	return &edited{Stream: s, reads: s, writes: func(frame []byte) error {
		hint := &wire.Hint{}
		l := h.lie.Load()
		if !welcomed || l == nil || l.Hint == nil || wire.ReadMsg(bytes.NewReader(frame), hint) != nil {
			welcomed = true
			return write(s, frame)
		}
		l.Hint(s.Conn().RemotePeer(), hint)
		return wire.WriteMsg(s, hint)
	}}
}

func write(s network.Stream, frame []byte) error {
	_, err := s.Write(frame)
	return err
}

// handlerOf gets a handler the only way that libp2p has: by opening a stream.
func handlerOf(mux libp2p.Switch, pid libp2p.ID) (libp2p.HandlerFunc, error) {
	var opening strings.Builder
	for _, token := range []string{"/multistream/1.0.0", string(pid)} {
		fmt.Fprintf(&opening, "%c%s\n", len(token)+1, token)
	}
	_, handler, err := mux.Negotiate(struct {
		io.Reader
		io.WriteCloser
	}{strings.NewReader(opening.String()), discard{}})
	return handler, err
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) Close() error                { return nil }

// edited is a stream of the rendezvous that may say something else than was
// written to it. Each Write is one frame (wire.WriteMsg).
type edited struct {
	network.Stream
	reads  io.Reader
	writes func(frame []byte) error
}

func (s *edited) Read(b []byte) (int, error) { return s.reads.Read(b) }

func (s *edited) Write(frame []byte) (int, error) { return len(frame), s.writes(frame) }
