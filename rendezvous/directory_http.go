package rendezvous

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
)

const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
)

// logHandler serves the directory log to whoever wants to watch it, in the
// layout of c2sp.org/tlog-tiles: /checkpoint, /tile/<L>/<N>[.p/<W>] and
// /tile/entries/<N>[.p/<W>].
func (s *Server) logHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /checkpoint", func(w http.ResponseWriter, r *http.Request) {
		s.serveLog(w, r, "text/plain; charset=utf-8", fmt.Sprintf("max-age=%d", int(headLife.Seconds())), s.checkpoint)
	})
	mux.HandleFunc("GET /tile/", func(w http.ResponseWriter, r *http.Request) {
		// Nothing of a log ever changes, nor do the tiles that are not full yet:
		// each width has its own address.
		s.serveLog(w, r, "application/octet-stream", "public, max-age=31536000, immutable", s.tile)
	})
	return mux
}

// serveLog answers with what read returns, unless the server drains. Refusals
// other than those of the store mean that there is no such thing.
func (s *Server) serveLog(w http.ResponseWriter, r *http.Request, kind, cache string, read func(context.Context, string) ([]byte, error)) {
	if !s.enter() {
		http.Error(w, "shutting down", http.StatusServiceUnavailable)
		return
	}
	defer s.leave()
	ctx, cancel := context.WithTimeout(r.Context(), s.cfg.Limits.CallDeadline)
	defer cancel()
	b, err := read(ctx, r.URL.EscapedPath())
	if protocol.CodeOf(err) == protocol.BadRequest {
		http.NotFound(w, r)
		return
	}
	if err != nil {
		http.Error(w, s.refusal(err).Detail, http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", cache)
	w.Write(b) // who has gone does not mind
}

func (s *Server) checkpoint(ctx context.Context, _ string) ([]byte, error) {
	h, err := s.book.head(ctx)
	return h.Bytes(), err
}

// tile returns the hashes of a tile, or the entries below it.
func (s *Server) tile(ctx context.Context, path string) ([]byte, error) {
	t, err := parseTile(path)
	if err != nil {
		return nil, err
	}
	size, err := s.store.LogSize(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the size of the log: %w", err)
	}
	level := max(t.L, 0) // entries are as many as the hashes of level 0
	if t.N >= 1<<40 || t.N*tileWidth+int64(t.W) > int64(size>>(tileHeight*level)) {
		return nil, protocol.Refuse(protocol.BadRequest, "the log has not reached this tile")
	}
	if t.L < 0 {
		return s.bundle(ctx, uint64(t.N)*tileWidth, t.W)
	}
	return tlog.ReadTileData(t, s.book.hashes(ctx))
}

// parseTile reads the path of a tile. That of Go's own logs has the height in
// it, and another word for entries; otherwise it is the same.
func parseTile(path string) (tlog.Tile, error) {
	rest, _ := strings.CutPrefix(path, "/tile/")
	if n, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + n
	} else if strings.HasPrefix(rest, "data/") {
		return tlog.Tile{}, protocol.Refuse(protocol.BadRequest, "no such tile")
	}
	t, err := tlog.ParseTilePath(fmt.Sprintf("tile/%d/%s", tileHeight, rest))
	if err != nil || t.L >= 64 {
		return tlog.Tile{}, protocol.Refuse(protocol.BadRequest, "no such tile")
	}
	return t, nil
}

// bundle is n entries, each with its length in two bytes before it.
func (s *Server) bundle(ctx context.Context, from uint64, n int) ([]byte, error) {
	leaves, err := s.store.LogLeaves(ctx, from, n)
	if err != nil {
		return nil, fmt.Errorf("read the log: %w", err)
	}
	var b []byte
	for _, l := range leaves {
		b = binary.BigEndian.AppendUint16(b, directory.LeafSize)
		b = append(b, directory.Leaf(l).Marshal()...)
	}
	return b, nil
}
