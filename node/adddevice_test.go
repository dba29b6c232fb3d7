package node

import (
	"testing"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/pairing"
	"github.com/parley-chat/parley/protocol/wire"
)

// What a new device is given always fits, and all in it is whole: friends come
// before the requests of strangers, who may have made themselves large.
func TestMembershipFits(t *testing.T) {
	m := engine.Membership{Name: "alice", Chain: make([]byte, 64<<10), AIK: key.NewAccount()}
	for i := range 3000 {
		c := &wire.ContactState{Account: make([]byte, 32), Chain: make([]byte, 600), Relation: wire.Relation_ACCEPTED}
		if i%2 == 0 {
			c.Relation, c.Chain = wire.Relation_INCOMING, make([]byte, 60<<10)
		}
		m.Contacts = append(m.Contacts, c)
	}
	for _, n := range []int{0, 100, 1000, 3000} {
		part := m
		part.Contacts = m.Contacts[:n]
		text, err := encodeMembership(part)
		if err != nil || len(text) > pairing.MaxAnswer {
			t.Fatalf("%d contacts: %d bytes, %v", n, len(text), err)
		}
		got, err := decodeMembership(text)
		if err != nil {
			t.Fatal(err)
		}
		friends := 0
		for _, c := range got.Contacts {
			if len(c.GetChain()) == 0 {
				t.Fatalf("%d contacts: one came without its chain", n)
			}
			if c.GetRelation() == wire.Relation_ACCEPTED {
				friends++
			}
		}
		if want := min(n/2, 1200); friends < want {
			t.Errorf("%d contacts: %d of %d friends", n, friends, n/2)
		}
	}
}
