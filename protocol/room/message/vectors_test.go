package message

import (
	"testing"

	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vector is one message; the signature is deterministic.
type vector struct {
	Room    keytest.Hex `json:"room"`
	Epoch   uint64      `json:"epoch"`
	Seq     uint64      `json:"seq"`
	Head    keytest.Hex `json:"head"`
	Device  keytest.Hex `json:"device"`
	Chain   keytest.Hex `json:"chain"`
	Number  uint64      `json:"number"`
	N       uint32      `json:"n"`
	Sealed  keytest.Hex `json:"nonce_ciphertext_tag"`
	Seed    keytest.Hex `json:"device_signing_key_seed"`
	Public  keytest.Hex `json:"device_signing_key"`
	Message keytest.Hex `json:"message"`
	ID      keytest.Hex `json:"id"`
}

func TestVectors(t *testing.T) {
	h := Header{
		View:   View{Room: [32]byte(keytest.Seed("room", 32)), Epoch: 258, Seq: 772, Head: [32]byte(keytest.Seed("head", 32))},
		Chain:  [32]byte(keytest.Seed("chain", 32)),
		Number: 1286,
		N:      515,
	}
	copy(h.Device[:], keytest.Seed("device id", 32))
	sealed := keytest.Seed("sealed", minSealed+256)
	b, err := Sign(signer(t), append(h.Append(nil), sealed...))
	check(t, err)
	m, err := Parse(b)
	check(t, err)
	id := m.ID()
	keytest.Golden(t, "message.json", vector{
		h.Room[:], h.Epoch, h.Seq, h.Head[:], h.Device[:], h.Chain[:], h.Number, h.N, sealed,
		signer(t).Bytes(), signer(t).Public().Bytes(), b, id[:],
	})
}
