package chain

import (
	"bytes"
	"testing"
	"testing/cryptotest"
	"time"

	"github.com/parley-chat/parley/protocol/internal/kdfchain"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/room/message"
)

// chainVector is a chain from a fixed seed and its first keys.
type chainVector struct {
	Seed         keytest.Hex   `json:"seed"`
	Room         keytest.Hex   `json:"room"`
	Epoch        uint64        `json:"epoch"`
	Device       keytest.Hex   `json:"device"`
	First        uint64        `json:"first"`
	Chain        keytest.Hex   `json:"chain"`
	ChainKey     keytest.Hex   `json:"chain_key_0"`
	MessageKeys  []keytest.Hex `json:"message_keys"`
	NextChainKey keytest.Hex   `json:"chain_key_3"`
	Seq          uint64        `json:"seq"`
	Head         keytest.Hex   `json:"head"`
	Distribution keytest.Hex   `json:"distribution"`
}

func TestChainVectors(t *testing.T) {
	var all []chainVector
	for _, at := range []struct {
		name         string
		epoch, first uint64
	}{{"first", 0, 1}, {"later", 258, 1286}} {
		seed := [32]byte(keytest.Seed(at.name, 32))
		v := view(at.epoch)
		id := idOf(seed, room, at.epoch, alice, at.first)
		d := Distribution{View: v, Chain: id, First: at.first, seed: key.Hide(&seed)}
		c := chainVector{
			Seed: seed[:], Room: room[:], Epoch: at.epoch, Device: alice[:], First: at.first, Chain: id[:],
			Seq: v.Seq, Head: v.Head[:], Distribution: d.Marshal(),
		}
		ck := firstKey(seed, id)
		c.ChainKey = bytes.Clone(ck[:])
		for range 3 {
			var mk [32]byte
			mk, ck = kdfchain.Step(ck)
			c.MessageKeys = append(c.MessageKeys, mk[:])
		}
		c.NextChainKey = ck[:]
		all = append(all, c)
	}
	keytest.Golden(t, "chain.json", all)
}

// turn is a chain or a message as its receiver sees it. Sealing is random, so
// the vectors are checked in the direction of opening.
type turn struct {
	Comment      string      `json:"comment"`
	Now          int64       `json:"now"`
	State        keytest.Hex `json:"receiver_state"`
	Distribution keytest.Hex `json:"distribution,omitempty"`
	Message      keytest.Hex `json:"message,omitempty"`
	Text         keytest.Hex `json:"text,omitempty"`
	After        keytest.Hex `json:"receiver_state_after"`
}

// conversation is what one device writes, and how another takes it.
type conversation struct {
	Device  keytest.Hex   `json:"device"`
	Public  keytest.Hex   `json:"device_signing_key"`
	Senders []keytest.Hex `json:"sender_states"` // before each message
	Turns   []turn        `json:"turns"`
}

func TestConversationVectors(t *testing.T) {
	const file = "conversation.json"
	if keytest.Updating() {
		cryptotest.SetGlobalRandom(t, 1)
		keytest.Golden(t, file, makeConversation(t))
	}
	var c conversation
	keytest.LoadGolden(t, file, &c)
	public, err := key.ParseDevicePublic(c.Public)
	check(t, err)
	for _, v := range c.Turns {
		r, err := ParseReceiver(v.State)
		check(t, err)
		var text []byte
		if v.Message != nil {
			m, err := message.Parse(v.Message)
			check(t, err)
			verified, err := m.Verify(public)
			check(t, err)
			r, text, err = r.Open(time.Unix(v.Now, 0), verified)
			check(t, err)
		} else {
			d, err := ParseDistribution(alice, v.Distribution)
			check(t, err)
			r, err = r.Accept(time.Unix(v.Now, 0), d)
			check(t, err)
		}
		if !bytes.Equal(text, v.Text) || !bytes.Equal(r.Marshal(), v.After) {
			t.Errorf("%s: opened %q", v.Comment, text)
		}
	}
	for _, stored := range c.Senders {
		s, err := ParseSender(stored)
		check(t, err)
		if !bytes.Equal(s.Marshal(), stored) {
			t.Error("a stored sender is read differently")
		}
	}
}

// makeConversation has a message out of order, a change of epoch, and a message
// that never comes.
func makeConversation(t *testing.T) conversation {
	c := conversation{Device: alice[:], Public: signing(t).Public().Bytes()}
	r := NewReceiver(room, alice)
	add := func(v turn, now time.Time, next Receiver) {
		v.Now, v.State, v.After = now.Unix(), r.Marshal(), next.Marshal()
		c.Turns = append(c.Turns, v)
		r = next
	}
	give := func(comment string, now time.Time, d Distribution) {
		add(turn{Comment: comment, Distribution: d.Marshal()}, now, accept(t, now, r, d))
	}
	deliver := func(comment string, now time.Time, b []byte, text string) {
		add(turn{Comment: comment, Message: b, Text: []byte(text)}, now, opens(t, now, r, b, text))
	}
	var s Sender
	write := func(v message.View, text string) (b []byte) {
		c.Senders = append(c.Senders, s.Marshal())
		s, b = seal(t, start, s, v, text)
		return b
	}
	s, one := startChain(t, start, s, view(1))
	first, second, third := write(view(1), "first"), write(view(1), "second"), write(view(1), "third")
	write(view(1), "never comes")
	s, two := startChain(t, start, s, view(4))
	fifth := write(view(4), "fifth")
	later := start.Add(time.Hour)

	give("the first chain", start, one)
	deliver("in order", start, first, "first")
	deliver("one missing before", start, third, "third")
	give("a chain of a later epoch; one more is missing", later, two)
	deliver("in it", later, fifth, "fifth")
	deliver("late, of the chain that ended", later, second, "second")
	return c
}
