package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// askTimeout is how long a device may take to give or to ask for a prekey.
const askTimeout = 5 * time.Second

// handlePrekey gives a contact's device a prekey of this one (SPEC "Prekeys
// from the device itself").
func (n *Node) handlePrekey(s network.Stream) {
	ask := &wire.GetPrekey{}
	n.answerDevice(s, ask, func(from device) (proto.Message, error) { return n.givePrekey(from, ask.GetNonce()) })
}

// answerDevice reads one question of a device of somebody known, and writes the answer.
// After an error the device gets none.
func (n *Node) answerDevice(s network.Stream, question proto.Message, answer func(from device) (proto.Message, error)) {
	from, ok := n.gate.deviceOf(s.Conn().RemotePeer())
	if !ok || !n.enter() {
		s.Reset()
		return
	}
	defer n.leave()
	s.SetDeadline(time.Now().Add(askTimeout))
	if err := readFrame(s, question); err != nil {
		s.Reset()
		return
	}
	m, err := answer(from)
	if err != nil {
		n.log.Warn("a device was not answered", "device", from.id, "protocol", s.Protocol(), "err", err)
		s.Reset()
		return
	}
	if err := wire.WriteMsg(s, m); err != nil {
		s.Reset()
		return
	}
	s.Close()
}

func (n *Node) givePrekey(to device, nonce []byte) (*wire.OwnPrekey, error) {
	if !n.home.wasAsked() {
		return &wire.OwnPrekey{Code: uint32(protocol.Unavailable)}, nil
	}
	answer := &wire.OwnPrekey{}
	err := n.do(n.ctx, func(tx store.Tx) (_ engine.Hint, err error) {
		answer.Bundle, err = n.eng.GiveBundle(tx, n.now(), to.id, nonce)
		return engine.Hint{}, err
	})
	if refusal, ok := errors.AsType[*protocol.Error](err); ok {
		return &wire.OwnPrekey{Code: uint32(refusal.Code), RetryAfterMs: uint64(refusal.RetryAfter.Milliseconds())}, nil
	}
	return answer, err
}

// askDevices asks the devices of an account themselves for the prekeys that are
// wanted of them. It returns true if that was all: the rendezvous need not be
// asked. Without a rendezvous it also dials them.
func (l *lookups) askDevices(ctx context.Context, a protocol.AccountID) (all bool, err error) {
	wanted, err := l.wantedOf(ctx, a)
	if err != nil || len(wanted) == 0 {
		return false, err
	}
	for _, id := range wanted {
		b, err := l.askDevice(ctx, id)
		if err != nil {
			l.n.log.Debug("no prekey from the device itself", "device", id, "err", err)
			continue
		}
		err = l.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
			return l.n.eng.SetBundles(tx, l.n.now(), a, []*wire.Bundle{b})
		})
		if errors.Is(err, engine.ErrStaleDirectory) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("use prekey: %w", err)
		}
		l.forget(string(id[:]))
	}
	wanted, err = l.wantedOf(ctx, a)
	return len(wanted) == 0, err
}

func (l *lookups) wantedOf(ctx context.Context, a protocol.AccountID) ([]protocol.DeviceID, error) {
	return read(ctx, l.n.kv, func(tx store.Tx) ([]protocol.DeviceID, error) { return l.n.eng.WantedOf(tx, l.n.now(), a) })
}

func (l *lookups) askDevice(ctx context.Context, id protocol.DeviceID) (*wire.Bundle, error) {
	d, ok := l.n.gate.device(id)
	if !ok {
		return nil, errUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	if !l.n.dialer.connected(d.peer) {
		if l.n.home.isUp() {
			return nil, errNoConnection
		}
		if err := l.n.dialer.dial(ctx, d); err != nil {
			return nil, err
		}
	}
	s, err := l.n.host.NewStream(onlyConnected(ctx), d.peer, protocol.PrekeyProtocol)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", err)
	}
	defer s.Close()
	defer context.AfterFunc(ctx, func() { s.Reset() })()
	answer := &wire.OwnPrekey{}
	if err := errors.Join(wire.WriteMsg(s, &wire.GetPrekey{Nonce: l.nonce(string(id[:]))}), readFrame(s, answer)); err != nil {
		s.Reset()
		return nil, err
	}
	if answer.GetCode() != 0 {
		return nil, &protocol.Error{Code: protocol.Code(answer.GetCode()), RetryAfter: retryAfter(answer.GetRetryAfterMs())}
	}
	if string(answer.GetBundle().GetDevice()) != string(id[:]) {
		return nil, errors.New("the device answered for another")
	}
	return answer.GetBundle(), nil
}

// makeRSA makes the RSA key that the engine asked for. It takes up to seconds
// of one core, and nothing waits for it.
func (n *Node) makeRSA() {
	if !n.makingRSA.CompareAndSwap(false, true) {
		return
	}
	if !n.enter() {
		return
	}
	go func() {
		defer n.leave()
		defer n.makingRSA.Store(false)
		rsa, err := key.NewRSA()
		if err == nil {
			err = n.do(n.ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.AddRSA(tx, n.now(), rsa) })
		}
		if err != nil && n.ctx.Err() == nil {
			n.log.Error("no new RSA key", "err", err)
		}
	}()
}
