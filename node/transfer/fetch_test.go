package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"
	"pgregory.net/rapid"

	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol/file"
)

// cutAt ends an answer with an error after so many bytes.
type cutAt struct {
	r    io.Reader
	left int
}

var errCut = errors.New("the connection broke")

func (c *cutAt) Read(p []byte) (int, error) {
	if c.left == 0 {
		return 0, errCut
	}
	n, err := c.r.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, err
}

// stuck gives so many bytes, and then nothing until its context ends.
type stuck struct {
	ctx  context.Context
	r    io.Reader
	left int
}

func (s *stuck) Read(p []byte) (int, error) {
	if s.left == 0 {
		<-s.ctx.Done()
		return 0, s.ctx.Err()
	}
	n, err := s.r.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// Whatever sources do, the file arrives if one of them is good, with the bytes it had.
func TestFetchFromAnySources(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "f"), noise(7, 2<<20+4321))
	content := must(os.ReadFile(path))(t)
	o := prepare(t, path)
	rapid.Check(t, func(rt *rapid.T) {
		kinds := rapid.SliceOfN(rapid.SampledFrom([]string{"liar", "gone", "cut", "stuck", "short"}), 0, 3).Draw(rt, "bad sources")
		cuts := rapid.SliceOfN(rapid.IntRange(0, 3<<20), 0, 4).Draw(rt, "cuts of the good one")
		at := rapid.IntRange(0, 2<<20).Draw(rt, "where the bad ones fail")
		synctest.Test(t, func(t *testing.T) { // what waits has a clock of its own
			var cut atomic.Int64
			good := source(o)
			good.answer = func(_ context.Context, all io.Reader) io.Reader {
				if i := int(cut.Add(1)) - 1; i < len(cuts) {
					return &cutAt{all, cuts[i]}
				}
				return all
			}
			sources := []transfer.Source{good}
			for _, kind := range kinds {
				sources = append(sources, bad(o, kind, at))
			}
			into := t.TempDir()
			p := receive(t, into, o)
			defer p.Close()
			if err := transfer.Fetch(t.Context(), p, sources, transfer.Options{}); err != nil {
				t.Fatal(err)
			}
			hidden := filepath.Join(into, names(t, into)[0]) // to finish is to wait for the disk
			if got := must(os.ReadFile(hidden))(t); !bytes.Equal(got, content) {
				t.Fatal("other bytes")
			}
		})
	})
}

// bad is a source that is no good.
func bad(o offer, kind string, at int) *giver {
	g := source(o)
	g.name = kind
	switch kind {
	case "liar":
		g.edit = func(_ int, sealed []byte) []byte {
			sealed[at%len(sealed)] ^= 4
			return sealed
		}
	case "short":
		g.edit = func(_ int, sealed []byte) []byte { return sealed[:len(sealed)-1] }
	case "gone":
		g.asked = func(int, int) error { return transfer.ErrGone }
	case "cut":
		g.answer = func(_ context.Context, all io.Reader) io.Reader { return &cutAt{all, at} }
	case "drip":
		g.answer = func(_ context.Context, all io.Reader) io.Reader { return slowly{all, 1} }
	case "stuck":
		g.answer = func(ctx context.Context, all io.Reader) io.Reader { return &stuck{ctx, all, at} }
	}
	return g
}

// Of sources that are all bad the reasons are told; a liar is not asked twice, and
// nothing of what it gave is kept.
func TestFetchFromBadSources(t *testing.T) {
	path := write(t, filepath.Join(t.TempDir(), "f"), noise(7, 2<<20))
	o := prepare(t, path)
	for kind, want := range map[string]error{
		"liar": file.ErrWrongPiece, "gone": transfer.ErrGone, "cut": errCut, "stuck": transfer.ErrStalled, "drip": transfer.ErrSlow, "short": file.ErrWrongPiece,
	} {
		synctest.Test(t, func(t *testing.T) {
			p := receive(t, t.TempDir(), o)
			defer p.Close()
			var heard atomic.Int64
			began := time.Now()
			err := transfer.Fetch(t.Context(), p, []transfer.Source{bad(o, kind, 100)}, transfer.Options{Heard: func(transfer.Source, error) { heard.Add(1) }})
			if !errors.Is(err, transfer.ErrNoSource) || !errors.Is(err, want) {
				t.Errorf("%s: %v", kind, err)
			}
			if p.Done() != 0 {
				t.Errorf("%s: %d bytes kept", kind, p.Done())
			}
			if dropped := errors.Is(want, file.ErrWrongPiece) || errors.Is(want, transfer.ErrGone); dropped && heard.Load() > transfer.Requests {
				t.Errorf("%s: asked %d times", kind, heard.Load())
			}
			if took := time.Since(began); kind == "stuck" && took < 10*time.Second {
				t.Errorf("left after %v", took)
			}
			if took := time.Since(began); took > 11*time.Minute {
				t.Errorf("%s: it took %v", kind, took)
			}
		})
	}
}

// A source that gives little now and then is not stalled, and is waited for if a piece
// comes in the end.
func TestSlowIsNotStalled(t *testing.T) {
	o := prepare(t, write(t, filepath.Join(t.TempDir(), "f"), noise(7, 5000)))
	synctest.Test(t, func(t *testing.T) {
		slow := source(o)
		slow.answer = func(_ context.Context, all io.Reader) io.Reader { return slowly{all, 100} }
		p := receive(t, t.TempDir(), o)
		if err := transfer.Fetch(t.Context(), p, []transfer.Source{slow}, transfer.Options{}); err != nil {
			t.Error(err)
		}
		p.Close()
	})
}

// slowly gives so many bytes every 9 s.
type slowly struct {
	r    io.Reader
	step int
}

func (s slowly) Read(p []byte) (int, error) {
	time.Sleep(9 * time.Second)
	return s.r.Read(p[:min(len(p), s.step)])
}

// A fast source does most of the work of a slow one, and no piece is waited for that a
// slow one holds.
func TestFastSourceHelpsSlow(t *testing.T) {
	o := prepare(t, write(t, filepath.Join(t.TempDir(), "f"), noise(7, 40<<20)))
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		given := map[string]int{}
		of := func(name string, pause time.Duration) *giver {
			g := source(o)
			g.name = name
			g.edit = func(_ int, sealed []byte) []byte {
				mu.Lock()
				given[name]++
				mu.Unlock()
				time.Sleep(pause)
				return sealed
			}
			return g
		}
		p := receive(t, t.TempDir(), o)
		defer p.Close()
		began := time.Now()
		err := transfer.Fetch(t.Context(), p, []transfer.Source{of("slow", 8*time.Second), of("fast", time.Millisecond)}, transfer.Options{})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %v, pieces given: %v", took, given)
		}
	})
}

// The limit holds, and the meter shows it.
func TestFetchLimit(t *testing.T) {
	o := prepare(t, write(t, filepath.Join(t.TempDir(), "f"), noise(7, 10<<20)))
	synctest.Test(t, func(t *testing.T) {
		p := receive(t, t.TempDir(), o)
		defer p.Close()
		meter := &transfer.Meter{}
		began := time.Now()
		limit := rate.NewLimiter(1<<20, transfer.Step)
		if err := transfer.Fetch(t.Context(), p, []transfer.Source{source(o)}, transfer.Options{Limit: limit, Meter: meter}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("10 MiB at 1 MiB/s took %v", took)
		}
		if got, path := meter.Rate(); got < 0.9*(1<<20) || got > 1.2*(1<<20) || path != "direct" {
			t.Errorf("%.0f bytes per second, %s", got, path)
		}
	})
}

// To stop is to cancel the context: what is here stays, and is not fetched again.
func TestFetchStopsAndGoesOn(t *testing.T) {
	o := prepare(t, write(t, filepath.Join(t.TempDir(), "f"), noise(7, 20<<20)))
	into := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	given := map[int]int{}
	g := source(o)
	g.edit = func(k int, sealed []byte) []byte {
		mu.Lock()
		defer mu.Unlock()
		if given[k]++; len(given) == 10 {
			cancel()
		}
		return sealed
	}
	p := receive(t, into, o)
	if err := transfer.Fetch(ctx, p, []transfer.Source{g}, transfer.Options{}); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	done := p.Done()
	p.Close()
	p = receive(t, into, o)
	if p.Done() < done || done == 0 {
		t.Fatalf("%d bytes, there were %d", p.Done(), done)
	}
	missing := map[int]bool{}
	for k := range o.list {
		missing[k] = !p.Has(k)
	}
	g.edit = func(k int, sealed []byte) []byte {
		if !missing[k] {
			t.Errorf("piece %d is given again", k)
		}
		return sealed
	}
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{g}, transfer.Options{}); err != nil {
		t.Fatal(err)
	}
	finish(t, p, o)
}

// Who described a file that its key does not open is not helped by other sources.
func TestFetchUnreadable(t *testing.T) {
	o := prepare(t, write(t, filepath.Join(t.TempDir(), "f"), noise(7, 100)))
	sealed := must(o.Piece(0, nil2()))(t)
	sealed[3] ^= 1
	o.list = file.List{file.HashPiece(sealed)}
	d := *o.d
	d.Inline, d.List = o.list, o.list.Hash(o.d.Commitment)
	p := receive(t, t.TempDir(), offer{d: &d, list: o.list})
	defer p.Close()
	g := &giver{pieces: fixed(sealed), name: "author"}
	if err := transfer.Fetch(t.Context(), p, []transfer.Source{g}, transfer.Options{}); !errors.Is(err, file.ErrUnreadable) {
		t.Error(err)
	}
}

type fixed []byte

func (f fixed) Piece(int, []byte) ([]byte, error) { return f, nil }
func (f fixed) Close() error                      { return nil }
