package rendezvous

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/parley-chat/parley/protocol/directory"
)

func withHTTP(c *Config) { c.HTTP = "127.0.0.1:0" }

// follow reads a page of the HTTP listener, also where it is redirected to.
func (ts *testServer) follow(t testing.TB, path string) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.Get("http://" + ts.web.addr.String() + path)
	mustDo(t, err)
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	mustDo(t, err)
	return resp, b
}

// tiles reads the log as an outside mirror would: tiles by their paths, each
// checked against the tree.
type tiles struct {
	t testing.TB
	s *testServer
}

func (r tiles) Height() int { return tileHeight }

func (r tiles) ReadTiles(wanted []tlog.Tile) (data [][]byte, err error) {
	for _, tile := range wanted {
		resp, b := r.s.follow(r.t, "/"+strings.Replace(tile.Path(), "tile/8/", "tile/", 1))
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "application/octet-stream" || !strings.Contains(resp.Header.Get("Cache-Control"), "immutable") {
			return nil, fmt.Errorf("%s: %s %v", tile.Path(), resp.Status, resp.Header)
		}
		data = append(data, b)
	}
	return data, nil
}

func (r tiles) SaveTiles([]tlog.Tile, [][]byte) {}

// TestLogTiles: a stock client of tiled logs reads every entry's hash over HTTP
// and finds the tree that the checkpoint signs; the entries hash to it.
func TestLogTiles(t *testing.T) {
	t.Parallel()
	s := startServer(t, withHTTP)
	member(t, s, "alice")
	fill(t, s, 0, 2*tileWidth+40)
	resp, b := s.follow(t, "/checkpoint")
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/plain; charset=utf-8" || resp.Header.Get("Cache-Control") != "max-age=5" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("checkpoint: %s %v", resp.Status, resp.Header)
	}
	log, err := directory.NewLog([]byte(s.PeerID()))
	mustDo(t, err)
	head, err := log.Open(b)
	mustDo(t, err)
	size := int64(2*tileWidth + 41)
	if head.Size != uint64(size) {
		t.Fatalf("the checkpoint is of %d entries, want %d", head.Size, size)
	}
	hashes := tlog.TileHashReader(tlog.Tree{N: size, Hash: head.Root}, tiles{t, s})
	var indexes []int64
	var leaves []tlog.Hash
	for _, path := range []string{"/tile/entries/000", "/tile/entries/001", "/tile/entries/002.p/41"} {
		_, b := s.follow(t, path)
		for len(b) > 0 {
			length := int(binary.BigEndian.Uint16(b))
			leaf, err := directory.ParseLeaf(b[2:][:length])
			mustDo(t, err)
			indexes = append(indexes, tlog.StoredHashIndex(0, int64(len(indexes))))
			leaves = append(leaves, leaf.Hash())
			b = b[2+length:]
		}
	}
	if n := int64(len(leaves)); n != size {
		t.Fatalf("%d entries, want %d", n, size)
	}
	inTree, err := hashes.ReadHashes(indexes)
	mustDo(t, err)
	if !slices.Equal(inTree, leaves) {
		t.Error("the entries are not what the tree has")
	}
	if _, err := tlog.ProveTree(size, 300, hashes); err != nil {
		t.Errorf("prove from tiles: %v", err)
	}
}

// TestLogTilesRefused: what is not there is not found, however it is spelled.
func TestLogTilesRefused(t *testing.T) {
	s := startServer(t, withHTTP)
	member(t, s, "alice")
	fill(t, s, 0, tileWidth+1)
	for _, path := range []string{
		"/", "/tile", "/tile/", "/tile/0", "/tile/entries", "/tile/entries/", "/checkpoint/", "/tile/0/", "/tile/data/000",
		"/tile/0/001", "/tile/0/001.p/3", "/tile/entries/001", "/tile/entries/001.p/3", "/tile/1/000", "/tile/1/000.p/2", "/tile/2/000.p/1",
		"/tile/0/000.p/256", "/tile/0/000.p/0", "/tile/0/000.p/-1", "/tile/0/000.p/01", "/tile/0/0", "/tile/0/x000", "/tile/0/x000/000",
		"/tile/00/000", "/tile/-1/000", "/tile/64/000", "/tile/1152921504606846976/000", "/tile/9223372036854775807/000.p/1",
		"/tile/0/x999/x999/x999/x999/x999/x999/x999/999", "/tile/8/0/000", "/tile/0/000/..", "/tile/0/%30%30%30",
	} {
		if resp, _ := s.follow(t, path); resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	for path, size := range map[string]int{
		"/tile/0/000": 32 * tileWidth, "/tile/0/000.p/7": 32 * 7, "/tile/0/001.p/2": 32 * 2, "/tile/1/000.p/1": 32,
		"/tile/entries/000.p/3": 3 * (2 + directory.LeafSize),
	} {
		if resp, b := s.follow(t, path); resp.StatusCode != http.StatusOK || len(b) != size {
			t.Errorf("%s: %s, %d bytes, want %d", path, resp.Status, len(b), size)
		}
	}
	for _, path := range []string{"/checkpoint", "/tile/0/000"} {
		if resp, _ := s.get(t, "POST", path, nil); resp.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %s", path, resp.Status)
		}
	}
	s.stopNow()
	late := httptest.NewRecorder()
	s.pages().ServeHTTP(late, httptest.NewRequest("GET", "/checkpoint", nil))
	if late.Code != http.StatusServiceUnavailable {
		t.Errorf("after the end: %d", late.Code)
	}
}
