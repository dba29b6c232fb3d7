package session

import (
	"bytes"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// kdfVector is one root step or one chain step from fixed inputs.
type kdfVector struct {
	Root     keytest.Hex `json:"root,omitempty"`
	DH       keytest.Hex `json:"dh,omitempty"`
	Shared   keytest.Hex `json:"shared_secret,omitempty"`
	Pub      keytest.Hex `json:"ratchet_pub,omitempty"`
	Flags    byte        `json:"flags"`
	Blocks   keytest.Hex `json:"blocks,omitempty"`
	NewRoot  keytest.Hex `json:"new_root,omitempty"`
	Chain    keytest.Hex `json:"chain"`
	Message  keytest.Hex `json:"message_key"`
	NewChain keytest.Hex `json:"new_chain"`
}

func TestKDFVectors(t *testing.T) {
	step := func(flags byte, shared []byte) kdfVector {
		v := kdfVector{
			Root: keytest.Seed("root", 32), DH: keytest.Seed("dh", 32), Shared: shared,
			Pub: keytest.Seed("pub", 32), Flags: flags, Blocks: keytest.Seed("blocks", blocksSize(flags)),
		}
		root, chain, err := rootStep([32]byte(v.Root), v.DH, v.Shared, header{pub: [32]byte(v.Pub), flags: flags, blocks: v.Blocks})
		check(t, err)
		message, next := kdfchain.Step(chain)
		v.NewRoot, v.Chain, v.Message, v.NewChain = root[:], chain[:], message[:], next[:]
		return v
	}
	keytest.Golden(t, "kdf.json", []kdfVector{
		step(0, nil),
		step(flagEK, nil),
		step(flagCT, keytest.Seed("ss", 32)),
		step(flagEK|flagCT, keytest.Seed("ss", 32)),
	})
}

// turn is one message as its receiver sees it. Sending is random, so the
// vectors are checked in the direction of opening.
type turn struct {
	Comment string      `json:"comment"`
	Now     int64       `json:"now"`
	State   keytest.Hex `json:"receiver_state"`
	Message keytest.Hex `json:"message"`
	Key     keytest.Hex `json:"message_key"`
	Text    keytest.Hex `json:"text"`
	After   keytest.Hex `json:"receiver_state_after"`
}

func TestRatchetVectors(t *testing.T) {
	const file = "ratchet.json"
	if keytest.Updating() {
		cryptotest.SetGlobalRandom(t, 1)
		keytest.Golden(t, file, makeTurns(t))
	}
	var turns []turn
	keytest.LoadGolden(t, file, &turns)
	for _, v := range turns {
		s, err := ParseState(v.State)
		check(t, err)
		now := time.Unix(v.Now, 0)
		next, text, err := s.Decrypt(now, v.Message)
		if err != nil || !bytes.Equal(text, v.Text) || !bytes.Equal(next.Marshal(), v.After) {
			t.Errorf("%s: opened %q, %v", v.Comment, text, err)
		}
		if k, ok := findKey(t, []State{s}, now, v.Message); !ok || !bytes.Equal(k[:], v.Key) {
			t.Errorf("%s: message key %x", v.Comment, k)
		}
	}
}

// makeTurns is a conversation with a PQ step and a message out of order.
func makeTurns(t *testing.T) []turn {
	var turns []turn
	receive := func(comment string, now time.Time, s State, env []byte) State {
		msg := message(t, env)
		k, _ := findKey(t, []State{s}, now, env)
		next, text, err := s.Decrypt(now, msg)
		check(t, err)
		turns = append(turns, turn{comment, now.Unix(), s.Marshal(), msg, k[:], text, next.Marshal()})
		return next
	}
	a, b := pair(t)
	later := start.Add(mixAtLatest)
	b, env := encrypt(t, later, b, []byte("offers an ML-KEM key"))
	a = receive("new chain with an ML-KEM key", later, a, env)
	a, env = encrypt(t, later, a, []byte("answers it"))
	a, late := encrypt(t, later, a, []byte("comes late"))
	_, third := encrypt(t, later, a, []byte("comes early"))
	b = receive("new chain with the ML-KEM ciphertext", later, b, env)
	b = receive("one message missing before", later, b, third)
	b = receive("the missing one", later, b, late)
	_, env = encrypt(t, later, b, []byte("plain again"))
	receive("new chain without blocks", later, a, env)
	return turns
}
