package node

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	giveStep     = transfer.Step    // which must be taken within answerWithin
	maxOpenFiles = 16               // that are given, or were until lately
	openFileIdle = 30 * time.Second // a file stays open for the next request
)

// giving gives pieces of files to the devices that may have them (SPEC "Files between
// devices"). Who may is asked of the engine at each request.
type giving struct {
	n     *Node
	limit *rate.Limiter
	turns *turns

	mu     sync.Mutex
	open   map[protocol.FileID]*givenFile
	closed bool
}

// givenFile is a file that is open to be given.
type givenFile struct {
	transfer.Pieces
	file  engine.File
	list  file.List
	meter transfer.Meter
	users int       // guarded by giving.mu
	last  time.Time // guarded by giving.mu
}

func newGiving(n *Node, perSecond int64) *giving {
	return &giving{n: n, limit: bytesPerSecond(perSecond), turns: newTurns(n.self.Account), open: map[protocol.FileID]*givenFile{}}
}

// handleFile answers a device that wants pieces of a file.
func (n *Node) handleFile(s network.Stream) {
	from, ok := n.gate.deviceOf(s.Conn().RemotePeer())
	if !ok || !n.enter() {
		s.Reset()
		return
	}
	defer n.leave()
	if !n.gives.turns.begin(from.account) {
		s.Reset()
		return
	}
	defer n.gives.turns.done(from.account)
	s.SetDeadline(time.Now().Add(askTimeout))
	ask := &wire.GetPieces{}
	if err := readFrame(s, ask); err != nil {
		s.Reset()
		return
	}
	s.SetDeadline(time.Now().Add(givingWait + answerWithin))
	err := n.gives.answer(s, from, ask)
	if refusal, ok := errors.AsType[*protocol.Error](err); ok {
		err = wire.WriteMsg(s, &wire.Pieces{
			Code: uint32(refusal.Code), Detail: refusal.Detail, RetryAfterMs: uint64(refusal.RetryAfter.Milliseconds()),
		})
	}
	if err != nil {
		n.log.Debug("pieces of a file not given", "device", from.id, "err", err)
		s.Reset()
		return
	}
	s.Close()
}

// answer gives what was asked for. A refusal comes before anything was written.
func (g *giving) answer(s network.Stream, to device, ask *wire.GetPieces) error {
	if !g.n.home.wasAsked() {
		return protocol.Refuse(protocol.Unavailable, "")
	}
	id, err := protocol.FromBytes[protocol.FileID](ask.GetFile())
	if err != nil || len(ask.GetHash()) != len(file.Hash{}) || !ask.GetList() && (ask.GetCount() == 0 || ask.GetCount() > transfer.MaxRequest) {
		return protocol.Refuse(protocol.BadRequest, "no id of a file or hash of its list, or a wrong number of pieces")
	}
	t := g.turns.take(g.n.ctx, to.account)
	if t == nil {
		return protocol.Refuse(protocol.Unavailable, "others are given files")
	}
	defer g.turns.end(t)
	f, err := g.find(to, id, file.Hash(ask.GetHash()))
	if err != nil {
		return err
	}
	defer g.release(f)
	if ask.GetList() {
		if err := wire.WriteMsg(s, &wire.Pieces{}); err != nil {
			return err
		}
		return g.write(s, t, f, f.list.Bytes())
	}
	return g.givePieces(s, t, to, f, int(ask.GetFirst()), int(ask.GetCount()))
}

// givePieces seals and writes one piece after the other, as long as they may be given.
func (g *giving) givePieces(s network.Stream, t *turn, to device, f *givenFile, first, count int) error {
	if first+count > len(f.list) {
		return protocol.Refuse(protocol.BadRequest, "the file has %d pieces", len(f.list))
	}
	buf := make([]byte, 0, file.SealedPieceSize)
	for k := first; k < first+count; k++ {
		if k > first {
			if _, err := g.mayFetch(to, f.file.ID, f.file.List); err != nil {
				return errors.New("not to be given any more: " + err.Error()) // too late for a refusal
			}
		}
		sealed, err := f.Piece(k, buf)
		if err != nil {
			g.forget(f)
			err = g.lost(f.file, err)
			if k > first {
				return errors.New(err.Error()) // too late for a refusal
			}
			return err
		}
		if k == first {
			if err := wire.WriteMsg(s, &wire.Pieces{}); err != nil {
				return err
			}
		}
		if err := g.write(s, t, f, sealed); err != nil {
			return err
		}
		if !g.turns.next(t) {
			return nil // the rest is asked for again
		}
	}
	return nil
}

// write writes to who has to go on reading.
func (g *giving) write(s network.Stream, t *turn, f *givenFile, b []byte) error {
	for len(b) > 0 {
		step := b[:min(len(b), giveStep)]
		if err := g.limit.WaitN(g.n.ctx, len(step)); err != nil {
			return err
		}
		began := time.Now()
		s.SetDeadline(began.Add(answerWithin))
		n, err := s.Write(step)
		goesOn := g.turns.waited(t, time.Since(began))
		if err != nil {
			return err
		}
		if !goesOn {
			return errors.New("others come before a slow reader")
		}
		f.meter.Add(n, g.n.pathOf(s.Conn()).String())
		b = b[n:]
	}
	return nil
}

// mayFetch returns a file that a device may have now.
func (g *giving) mayFetch(to device, id protocol.FileID, list file.Hash) (f engine.File, err error) {
	err = g.n.kv.View(g.n.ctx, func(tx store.Tx) (err error) {
		f, err = g.n.eng.MayFetch(tx, g.n.now(), to.id, id, list)
		return err
	})
	switch {
	case errors.Is(err, engine.ErrNotFound):
		err = protocol.Refuse(protocol.UnknownFile, "")
	case errors.Is(err, engine.ErrFilePaused):
		err = protocol.Refuse(protocol.Unavailable, "paused")
	case errors.Is(err, engine.ErrFileGone):
		err = protocol.Refuse(protocol.FileChanged, "")
	case errors.Is(err, engine.ErrFileEnded):
		err = protocol.Refuse(protocol.FileCancelled, "")
	}
	return f, err
}

// find opens a file for a device that may have it. It must be released.
func (g *giving) find(to device, id protocol.FileID, list file.Hash) (*givenFile, error) {
	f, err := g.mayFetch(to, id, list)
	if err != nil {
		return nil, err
	}
	if known := g.use(f); known != nil {
		return known, nil
	}
	pieces, hashes, err := g.n.files.openPieces(f)
	if err != nil {
		return nil, g.lost(f, err)
	}
	opened := &givenFile{Pieces: pieces, file: f, list: hashes, users: 1}
	g.keep(opened)
	return opened, nil
}

// lost notes that a file is not what it was, if that is what err says, and returns the
// refusal for who wants it.
func (g *giving) lost(f engine.File, err error) error {
	if !errors.Is(err, file.ErrChanged) && !isGone(f.Path, err) {
		g.n.log.Warn("a file cannot be given", "file", f.ID, "err", withoutNames(err))
		return protocol.Refuse(protocol.Unavailable, "it cannot be read just now")
	}
	noted := g.n.do(g.n.ctx, func(tx store.Tx) (engine.Hint, error) {
		return g.n.eng.FileChanged(tx, g.n.now(), f.FileRef, problemOf(err))
	})
	if noted != nil {
		g.n.log.Error("that a file changed is not noted", "file", f.ID, "err", noted)
	}
	return protocol.Refuse(protocol.FileChanged, "")
}

// isGone tells whether err says that what lay there is not there any more: not if its folder
// is missing too, which may be on a disk that comes back.
func isGone(path string, err error) bool {
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	_, err = os.Stat(filepath.Dir(path))
	return err == nil
}

// use returns the file if it is open and still where it was.
func (g *giving) use(f engine.File) *givenFile {
	g.mu.Lock()
	defer g.mu.Unlock()
	known := g.open[f.ID]
	if known == nil || known.file.Path != f.Path || known.file.List != f.List {
		return nil
	}
	known.users++
	return known
}

// keep keeps an open file for the next request; another that was open goes.
func (g *giving) keep(f *givenFile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	if old := g.open[f.file.ID]; old != nil {
		g.dropLocked(old)
	}
	for len(g.open) >= maxOpenFiles {
		var oldest *givenFile
		for _, o := range g.open {
			if o.users == 0 && (oldest == nil || o.last.Before(oldest.last)) {
				oldest = o
			}
		}
		g.dropLocked(oldest) // there is one: at most maxGiving have users
	}
	g.open[f.file.ID] = f
}

// forget has a file opened anew the next time.
func (g *giving) forget(f *givenFile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dropLocked(f)
}

// dropLocked takes a file off the list, and closes it if nobody uses it.
func (g *giving) dropLocked(f *givenFile) {
	if g.open[f.file.ID] == f {
		delete(g.open, f.file.ID)
	}
	if f.users == 0 {
		f.Close()
	}
}

func (g *giving) release(f *givenFile) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f.users--
	f.last = time.Now()
	if g.closed || g.open[f.file.ID] != f {
		g.dropLocked(f)
	}
}

// sweep closes files that nobody asked for lately.
func (g *giving) sweep() {
	g.turns.sweep()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.open {
		if f.users == 0 && time.Since(f.last) > openFileIdle {
			g.dropLocked(f)
		}
	}
}

// close closes all files. Those in use are closed when they are released.
func (g *giving) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, f := range g.open {
		g.dropLocked(f)
	}
}

// progress tells how fast a file is given; nil: it is not. How much of it others have is
// not known here.
func (g *giving) progress(at engine.FileRef) *api.Progress {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.open {
		if f.file.FileRef == at && f.users > 0 {
			rate, path := f.meter.Rate()
			return &api.Progress{Doing: api.Giving, Rate: int64(rate), Path: path}
		}
	}
	return nil
}

// refs returns the files that are being given.
func (g *giving) refs() (list []engine.FileRef) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, f := range g.open {
		if f.users > 0 {
			list = append(list, f.file.FileRef)
		}
	}
	return list
}
