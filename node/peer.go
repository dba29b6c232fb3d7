package node

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/session"
	"github.com/parley-chat/parley/protocol/wire"
)

const (
	frameIdle    = 5 * time.Minute  // for the next frame to begin and end
	answerWithin = 20 * time.Second // a peer that does not read loses the stream
	maxInFrame   = 256              // envelopes
)

// handleMsg takes envelopes from a contact's device. Frames are answered one
// after the other, each after its commit, so a peer cannot send faster than the
// disk writes. Streams beyond maxInboundMsg are refused; their senders go
// through the mailbox.
func (n *Node) handleMsg(s network.Stream) {
	from, ok := n.gate.deviceOf(s.Conn().RemotePeer())
	if !ok || !n.enter() {
		s.Reset()
		return
	}
	defer n.leave()
	select {
	case n.msgSlots <- struct{}{}:
		defer func() { <-n.msgSlots }()
	default:
		s.Reset()
		return
	}
	if n.takeFrames(s, from) {
		s.Close()
	} else {
		s.Reset()
	}
}

// takeFrames reads until the stream ends; it returns false when it ended badly.
func (n *Node) takeFrames(s network.Stream, from device) bool {
	for {
		s.SetReadDeadline(time.Now().Add(frameIdle))
		frame := &wire.Deliver{}
		if err := readFrame(s, frame); err != nil {
			return errIsEOF(err)
		}
		envs := frame.GetEnvelopes()
		if len(envs) == 0 || len(envs) > maxInFrame {
			return false
		}
		// Who may connect changes while the stream is open.
		if _, ok := n.gate.deviceOf(from.peer); !ok {
			return false
		}
		codes, err := n.receive(n.ctx, &from, envs, n.pathOf(s.Conn()))
		if err != nil {
			n.log.Warn("envelopes not taken", "device", from.id, "err", err)
			return false
		}
		answer := n.delivered(from, envs, codes)
		s.SetWriteDeadline(time.Now().Add(answerWithin))
		if err := wire.WriteMsg(s, answer); err != nil {
			return false
		}
	}
}

// delivered answers for each envelope of a frame. A device that sealed one to
// prekeys that are gone is given others with it, the same for the same session,
// if it may have any and there are any (SPEC "Prekeys from the device itself").
func (n *Node) delivered(from device, envs [][]byte, codes []protocol.Code) *wire.Delivered {
	answer := &wire.Delivered{}
	for _, c := range codes {
		answer.Codes = append(answer.Codes, uint32(c))
	}
	stale := slices.Index(codes, protocol.StaleKey)
	if stale < 0 {
		return answer
	}
	id, _, err := session.PeekSession(envs[stale])
	if err == nil {
		var own *wire.OwnPrekey
		own, err = n.givePrekey(from, id[:])
		answer.Bundle = own.GetBundle()
	}
	if err != nil {
		n.log.Warn("no new keys given", "device", from.id, "err", err)
	}
	return answer
}
