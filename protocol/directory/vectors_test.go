package directory

import (
	"testing"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vector is one log, from a fixed host key.
type vector struct {
	Comment     string        `json:"comment"`
	HostSeed    keytest.Hex   `json:"host_seed"`
	Origin      string        `json:"origin"`
	Key         string        `json:"key"`
	Name        string        `json:"name"`
	Label       keytest.Hex   `json:"label"`
	Leaves      []keytest.Hex `json:"leaves"`
	Hashes      []keytest.Hex `json:"leaf_hashes"`
	Roots       []keytest.Hex `json:"roots"` // after each leaf
	Head        string        `json:"head"`
	Index       uint64        `json:"index"`
	Inclusion   keytest.Hex   `json:"inclusion"`
	From        uint64        `json:"from"`
	Consistency keytest.Hex   `json:"consistency"`
}

func TestVectors(t *testing.T) {
	h := newHistory(t)
	host, err := key.ParseHost(keytest.Seed("rendezvous", 32))
	check(t, err)
	log := h.signer.Log()
	v := vector{
		Comment:  "seven entries; the head is signed at 1772366400; inclusion of entry index and consistency from size from, in the tree of seven",
		HostSeed: host.Seed(), Origin: log.Origin(), Key: log.Key(), Name: "alice", Index: 2, From: 3,
	}
	label := Label(v.Origin, v.Name)
	v.Label = label[:]
	for n := range 7 {
		leaf := entry("user", uint64(n+1))
		leaf.Label = label
		h.add(leaf)
		hash, root := leaf.Hash(), h.root()
		v.Leaves = append(v.Leaves, leaf.Marshal())
		v.Hashes = append(v.Hashes, hash[:])
		v.Roots = append(v.Roots, root[:])
	}
	v.Head = string(h.head().Bytes())
	v.Inclusion, v.Consistency = h.include(v.Index).Proof.Bytes(), h.from(v.From).Proof.Bytes()
	keytest.Golden(t, "directory.json", v)
}

// TestEvidenceVectors: the files as they are written.
func TestEvidenceVectors(t *testing.T) {
	files := map[string]string{}
	for name, e := range accusations(t) {
		files[name] = string(e.Marshal())
	}
	keytest.Golden(t, "evidence.json", files)
}
