package node_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
)

// BenchmarkFile is a file of 256 MiB to a contact, from disk to disk: prepared,
// announced, accepted and fetched. Both nodes share the machine.
func BenchmarkFile(b *testing.B)        { benchFile(b, nodetest.Options{}) }
func BenchmarkFileRelayed(b *testing.B) { benchFile(b, relayOnly) }

func benchFile(b *testing.B, o nodetest.Options) {
	const size = 256 << 20
	net, alice, bob := pair(b, o)
	path := filepath.Join(b.TempDir(), "film.mkv")
	if err := os.WriteFile(path, make([]byte, size), 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		id := sendFile(b, alice, "bob", path).ID
		accept(b, net, bob, id)
		for m, err := range bob.WatchFile(b.Context(), id) {
			if err != nil {
				b.Fatal(err)
			}
			if m.File.State == api.FileDone {
				break
			}
		}
	}
}
