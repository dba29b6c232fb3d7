package session

import (
	"crypto/mlkem"
	"encoding/binary"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/envelope"
	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/key"
)

const (
	flagEK = 1 << 0 // the header carries an ML-KEM key the peer is to use
	flagCT = 1 << 1 // the header carries an ML-KEM ciphertext to our key

	roleInitiator = 0
	roleResponder = 1

	// Offsets in an encoded message (SPEC "Ratchet message").
	offFlags   = 2
	offRole    = 3
	offSession = 4
	offPub     = 20
	offPN      = 52
	offN       = 56
	headerSize = 60

	ekSize = mlkem.EncapsulationKeySize768
	ctSize = mlkem.CiphertextSize768

	maxN = 1 << 31 // message numbers stay below
)

// header is the authenticated part of a ratchet message.
type header struct {
	flags   byte
	role    byte
	session protocol.SessionID
	pub     [32]byte // the sender's ratchet key: it names the chain
	pn      uint32   // messages in the sender's chain before
	n       uint32   // number of this message in its chain
	blocks  []byte   // [ek] ‖ [ct]
}

// blocksSize is the length of the blocks the flags announce.
func blocksSize(flags byte) int {
	size := 0
	if flags&flagEK != 0 {
		size += ekSize
	}
	if flags&flagCT != 0 {
		size += ctSize
	}
	return size
}

// ek and ct return the blocks, nil if absent.
func (h header) ek() []byte {
	if h.flags&flagEK == 0 {
		return nil
	}
	return h.blocks[:ekSize]
}

func (h header) ct() []byte {
	if h.flags&flagCT == 0 {
		return nil
	}
	return h.blocks[len(h.blocks)-ctSize:]
}

func (h header) append(b []byte) []byte {
	b = append(b, envelope.Version, envelope.TypeMessage, h.flags, h.role)
	b = append(b, h.session[:]...)
	b = append(b, h.pub[:]...)
	b = binary.BigEndian.AppendUint32(b, h.pn)
	b = binary.BigEndian.AppendUint32(b, h.n)
	return append(b, h.blocks...)
}

// parseMessage splits a ratchet message into its header, the header's bytes,
// and nonce ‖ ciphertext ‖ tag, all views into b.
func parseMessage(b []byte) (h header, raw, sealed []byte, err error) {
	if len(b) < headerSize || b[0] != envelope.Version || b[1] != envelope.TypeMessage {
		return header{}, nil, nil, ErrMalformed
	}
	h = header{
		flags:   b[offFlags],
		role:    b[offRole],
		session: protocol.SessionID(b[offSession:]),
		pub:     [32]byte(b[offPub:]),
		pn:      binary.BigEndian.Uint32(b[offPN:]),
		n:       binary.BigEndian.Uint32(b[offN:]),
	}
	if h.flags&^(flagEK|flagCT) != 0 || h.role > roleResponder || h.pn >= maxN || h.n >= maxN || !key.GoodX25519(h.pub) {
		return header{}, nil, nil, ErrMalformed
	}
	end := headerSize + blocksSize(h.flags)
	if len(b) < end+kdfchain.NonceSize+kdfchain.TagSize {
		return header{}, nil, nil, ErrMalformed
	}
	h.blocks = b[headerSize:end]
	return h, b[:end], b[end:], nil
}

// PeekSession reads which session an envelope belongs to and whether an
// opening stands in front of its message, without checking anything else.
func PeekSession(env []byte) (id protocol.SessionID, opening bool, err error) {
	if len(env) < offSession+len(id) || env[0] != envelope.Version {
		return id, false, ErrMalformed
	}
	switch env[1] {
	case envelope.TypeMessage:
	case envelope.TypeOpening:
		opening = true
	default:
		return id, false, ErrMalformed
	}
	return protocol.SessionID(env[offSession:]), opening, nil
}
