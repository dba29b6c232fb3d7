package node_test

import (
	"testing"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/nodetest"
)

// logStatus says how far a person has read the log.
func logStatus(t *testing.T, p *nodetest.Person) engine.LogStatus {
	t.Helper()
	s, err := p.LogStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A log of thousands of entries is mirrored after the connect, kept over a
// restart, and read on from there when it has grown.
func TestLongLogIsMirrored(t *testing.T) {
	const first, more = 5000, 100
	net := nodetest.New(t, 1)
	alice := net.People[0]
	net.Home.Fill(first)
	net.Wait("the log is mirrored", func() bool { return logStatus(t, alice).Mirrored == first+1 })
	alice.Stop()
	net.Home.Fill(more)
	net.Home.Stop()
	alice.Start()
	if s := logStatus(t, alice); s.Mirrored != first+1 || !s.Whole || s.Problem != "" {
		t.Errorf("after a restart: %+v", s)
	}
	net.Home.Start()
	net.Wait("the log is read on", func() bool { return logStatus(t, alice).Mirrored == first+1+more })
	if n := notices(t, alice, engine.NoticeLogChanged); n != 0 {
		t.Errorf("told %d times of another log", n)
	}
}
