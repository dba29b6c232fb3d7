package node

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
)

// somePart begins to receive a file of one piece.
func somePart(t *testing.T, whole bool) *transfer.Part {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	content, _, err := transfer.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	d, list, err := transfer.Prepare(t.Context(), content, "f", nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := transfer.OpenPart(t.TempDir(), "tag", d, list)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	if whole {
		original, err := transfer.NewOriginal(content, d, list)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := original.Piece(0, make([]byte, 0, file.SealedPieceSize))
		if err := errors.Join(err, p.Write(0, sealed)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// jobs are files and their jobs, which do nothing by themselves.
type jobs struct {
	*files
	wanted  []engine.File
	endedBy map[uint64]error // of jobs that were cancelled
}

func newJobs(n int) *jobs {
	all := &jobs{files: newFiles(&Node{log: slog.New(slog.DiscardHandler)}, 0), endedBy: map[uint64]error{}}
	for i := range n {
		all.wanted = append(all.wanted, engine.File{FileRef: engine.FileRef{Position: uint64(i + 1)}})
	}
	return all
}

// starts has those run whose turn it is, and returns their numbers.
func (a *jobs) starts() (list []uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	start, _ := a.pickLocked(a.wanted)
	for _, j := range start {
		at := j.file.Position
		j.cancel = func(cause error) { a.endedBy[at] = cause }
		j.since = time.Now()
		j.does(api.Fetching)
		list = append(list, at)
	}
	return list
}

func (a *jobs) ends(at uint64, err error) { a.ended(a.job(engine.FileRef{Position: at}), err) }

// Of many files whose sources are slow each has its turn, the oldest no more than others.
func TestFilesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newJobs(5)
		for _, want := range []string{"[1 2 3]", "[4 5 1]", "[2 3 4]", "[5 1 2]"} {
			got := all.starts()
			if fmt.Sprint(got) != want {
				t.Fatalf("there run %v, not %s", got, want)
			}
			for _, at := range got {
				time.Sleep(time.Minute)
				all.ends(at, transfer.ErrNoSource)
			}
			time.Sleep(againMax)
		}
	})
}

// A file that comes slowly makes room when another waits, and waits for its own next turn.
func TestSlowFileMakesRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := newJobs(3)
		all.starts()
		flows := func(d time.Duration) { // 1 drips; 2 comes, as does 3 by and by
			for range int(d / time.Second) {
				time.Sleep(time.Second)
				all.job(engine.FileRef{Position: 1}).meter.Add(1<<10, "")
				for _, at := range []uint64{2, 3} {
					all.job(engine.FileRef{Position: at}).meter.Add(1<<20, "")
				}
			}
		}
		flows(2 * slowAfter)
		if all.starts(); len(all.endedBy) > 0 {
			t.Fatal("one ends though nobody waits")
		}
		all.wanted = append(all.wanted, engine.File{FileRef: engine.FileRef{Position: 4}})
		for range 2 { // the second time it is still about to end
			if all.starts(); len(all.endedBy) != 1 || all.endedBy[1] != errTurn {
				t.Fatalf("there end %v", all.endedBy)
			}
		}
		all.ends(1, errTurn)
		if got := all.starts(); fmt.Sprint(got) != "[4]" {
			t.Errorf("its place goes to %v", got)
		}
		if p := all.progress(engine.FileRef{Position: 1}); p == nil || !strings.Contains(p.Waits, "others") {
			t.Errorf("the user is told %+v", p)
		}
	})
}

// To look at what is here, and to give it its name, is not to be slow.
func TestBusyFileIsNotSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		j := &fetchJob{started: somePart(t, false)}
		j.does(api.Checking)
		time.Sleep(2 * slowAfter)
		if j.isSlow() {
			t.Error("slow while it is looked at")
		}
		if j.does(api.Fetching); j.isSlow() {
			t.Error("slow as soon as it is fetched")
		}
		if time.Sleep(2 * slowAfter); !j.isSlow() {
			t.Error("not slow though nothing comes")
		}
		j.started = somePart(t, true)
		if j.isSlow() {
			t.Error("slow while it gets its name")
		}
	})
}

// A file for which there was room waits until there is some again; what never had room, and
// what is all here, waits for the user.
func TestFileWaitsForRoom(t *testing.T) {
	all, at := newJobs(1), engine.FileRef{Position: 1}
	all.starts()
	j := all.job(at)
	full := fmt.Errorf("write: %w", transfer.ErrDiskFull)
	if j.worksLater(full) {
		t.Error("it waits before it has begun")
	}
	j.part = somePart(t, false)
	if !j.worksLater(full) {
		t.Fatal("it does not wait")
	}
	all.ends(1, full)
	if wait := time.Until(j.again); wait < againMax/2 {
		t.Errorf("it is tried again after %v", wait)
	}
	if p := all.progress(at); p == nil || !strings.Contains(p.Waits, "room") {
		t.Errorf("the user is told %+v", p)
	}
	if j.part = somePart(t, true); j.worksLater(full) {
		t.Error("it is unpacked again and again")
	}
}

// Who was slow is asked after all others, though it is connected.
func TestSlowDeviceIsAskedLast(t *testing.T) {
	h, other := plainHost(t), plainHost(t)
	n := &Node{host: h, log: slog.New(slog.DiscardHandler)}
	n.dialer = &dialer{n: n}
	if err := h.Connect(t.Context(), peer.AddrInfo{ID: other.ID(), Addrs: other.Addrs()}); err != nil {
		t.Fatal(err)
	}
	near := device{id: protocol.DeviceID{1}, peer: other.ID()}
	far := device{id: protocol.DeviceID{2}, peer: testPeer(t)}
	j := &fetchJob{n: n, slow: map[protocol.DeviceID]bool{}, liars: map[protocol.DeviceID]bool{}}
	if j.rank(near) >= j.rank(far) {
		t.Error("who is not connected is asked first")
	}
	j.heard(&deviceSource{d: near}, transfer.ErrSlow)
	if j.rank(near) <= j.rank(far) {
		t.Error("who was slow is asked first")
	}
	if j.someLied() {
		t.Error("who was slow lied")
	}
	j.heard(&deviceSource{d: near}, fmt.Errorf("piece 1: %w", file.ErrWrongPiece))
	if !j.lied(near.id) || j.lied(far.id) || j.lied(theHome) {
		t.Error("the wrong one lied")
	}
}
