package node

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// quietStream is a stream of which only what it reads matters.
type quietStream struct {
	network.Stream
	io.Reader
}

func (s quietStream) Read(b []byte) (int, error) { return s.Reader.Read(b) }

// A device that says nothing for a while is asked whether it is there, and not before.
func TestQuietStreamIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		var noticed atomic.Int32
		s := watched{quietStream{Reader: r}, func() { noticed.Add(1) }}
		for i, wait := range []time.Duration{0, quietAfter - time.Millisecond, quietAfter + time.Millisecond} {
			go func() {
				time.Sleep(wait)
				w.Write([]byte{1})
			}()
			if _, err := s.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if want := int32(i / 2); noticed.Load() != want {
				t.Errorf("after %v it was noticed %d times", wait, noticed.Load())
			}
		}
	})
}
