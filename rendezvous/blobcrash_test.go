package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// TestBlobCrash: whatever step is the last before the server ends, what it said to be
// there is, the upload goes on behind it, and nothing is left over.
func TestBlobCrash(t *testing.T) {
	t.Parallel()
	body := noise(blobStep + 77)
	type step struct {
		call   string // after which, or, failing, before which, it is over
		failed bool
	}
	var steps []step
	for n := range 2 {
		steps = append(steps, step{fmt.Sprint("mark ", n), true}, step{fmt.Sprint("mark ", n), false})
	}
	steps = append(steps, step{"begin 0", true}, step{"begin 0", false}, step{"drop 0", true}, step{"drop 0", false})
	for _, at := range steps {
		t.Run(fmt.Sprint(at), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			f := &faultyStore{at: at.call, failed: at.failed}
			s := startServer(t, func(c *Config) {
				c.Dir = dir
				c.wrap = func(s store.Rendezvous) store.Rendezvous { f.Rendezvous = s; return f }
			})
			alice, bob := member(t, s, "alice"), member(t, s, "bob")
			befriend(alice, bob)
			put := putFor(1, len(body), bob)
			stream, resp := alice.beginBlob(put)
			if resp.GetCode() == 0 {
				stream.Write(body)
				wire.ReadMsg(stream, &wire.Response{})
				alice.call(dropRequest(1))
			}
			if !f.over.Load() {
				t.Fatal("that step was not reached")
			}
			s.stopNow()

			s = startServer(t, func(c *Config) { c.Dir = dir })
			s.welcomeBack(alice, bob)
			if state := bob.askBlob(alice, 1, 0).GetBlobState(); state.GetHave() < uint64(f.marked.Load()) && at.call != "drop 0" {
				t.Errorf("%d bytes of %d are there", state.GetHave(), f.marked.Load())
			}
			alice.upload(put, body)
			if got := bob.download(alice, 1, 0, 1<<40); !bytes.Equal(got, body) {
				t.Errorf("%d bytes", len(got))
			}
			bob.must(takenRequest(alice, 1))
			if err := s.sweepBodies(t.Context()); err != nil || s.bodies() != 0 {
				t.Errorf("%d bodies, %v", s.bodies(), err)
			}
		})
	}
}

// faultyStore serves blobs up to one step and no more, as if the server had ended then.
type faultyStore struct {
	store.Rendezvous
	at     string // the call, and which of its kind
	failed bool   // it has no effect
	calls  [3]atomic.Int64
	over   atomic.Bool
	marked atomic.Int64 // bytes that the server knew to be durable
}

var errOver = errors.New("it is over")

func (f *faultyStore) step(kind int, name string, do func() error) error {
	if f.over.Load() {
		return errOver
	}
	n := f.calls[kind].Add(1) - 1
	last := fmt.Sprint(name, " ", n) == f.at
	f.over.Store(last)
	if last && f.failed {
		return errOver
	}
	err := do()
	if last {
		return errOver
	}
	return err
}

func (f *faultyStore) PutBlob(ctx context.Context, b store.Blob, q store.BlobQuotas, now time.Time) (begun store.Blob, err error) {
	err = f.step(0, "begin", func() error { begun, err = f.Rendezvous.PutBlob(ctx, b, q, now); return err })
	return begun, err
}

func (f *faultyStore) MarkBlob(ctx context.Context, name store.BlobName, have int64) error {
	err := f.step(1, "mark", func() error { return f.Rendezvous.MarkBlob(ctx, name, have) })
	if err == nil {
		f.marked.Store(have)
	}
	return err
}

func (f *faultyStore) DropBlob(ctx context.Context, name store.BlobName) error {
	return f.step(2, "drop", func() error { return f.Rendezvous.DropBlob(ctx, name) })
}

// Rows and bodies that do not agree, because one of them was set back: what both have
// counts, a body without a row goes, and the author brings what is missing.
func TestBlobSetBack(t *testing.T) {
	s := startServer(t, nil)
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	befriend(alice, bob)
	body := noise(200_000)
	for n := range byte(3) {
		alice.upload(putFor(n, len(body), bob), body)
	}
	if err := os.Remove(s.bodyPath(alice, 0)); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(s.bodyPath(alice, 1), 1000); err != nil {
		t.Fatal(err)
	}
	if err := s.store.DropBlob(t.Context(), store.NameBlob(alice.owner, protocol.FileID(fileID(2)))); err != nil {
		t.Fatal(err)
	}
	if err := s.sweepBodies(t.Context()); err != nil || s.bodies() != 1 {
		t.Errorf("%d bodies, %v", s.bodies(), err)
	}
	for n, want := range []uint64{0, 1000} {
		if got := bob.have(alice, byte(n)); got != want {
			t.Errorf("blob %d: %d bytes, want %d", n, got, want)
		}
		if got := bob.download(alice, byte(n), 0, 1<<40); !bytes.Equal(got, body[:want]) {
			t.Errorf("blob %d: %d bytes", n, len(got))
		}
		if from := alice.upload(putFor(byte(n), len(body), bob), body); from != want {
			t.Errorf("blob %d: went on at %d", n, from)
		}
		if got := bob.download(alice, byte(n), 0, 1<<40); !bytes.Equal(got, body) {
			t.Errorf("blob %d: %d bytes", n, len(got))
		}
	}
}
