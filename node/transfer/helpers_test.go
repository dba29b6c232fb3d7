package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/wire"
)

// noise returns bytes that no test can mistake for others.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func write(t testing.TB, name string, content []byte) string {
	t.Helper()
	if err := os.WriteFile(name, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

// offer is a file that is ready to be sent.
type offer struct {
	d    *file.Descriptor
	list file.List
	*transfer.Original
}

// prepare makes an offer of what lies at path.
func prepare(t testing.TB, path string) offer {
	t.Helper()
	c, _, err := transfer.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	d, l, err := transfer.Prepare(t.Context(), c, filepath.Base(path), nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := transfer.NewOriginal(c, d, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.Close() })
	return offer{d, l, o}
}

// receive opens the part of an offer and checks what is there.
func receive(t testing.TB, folder string, o offer) *transfer.Part {
	t.Helper()
	p, err := transfer.OpenPart(folder, "tag", o.d, o.list)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	return p
}

// finish gives what was received its name.
func finish(t testing.TB, p *transfer.Part, o offer) (path string) {
	t.Helper()
	path, err := p.Finish(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Close(), transfer.RemovePart(filepath.Dir(path), o.d.Name, "tag")); err != nil {
		t.Fatal(err)
	}
	return path
}

// giver is a source that gives what Pieces has, all of it if nothing else is said.
type giver struct {
	pieces transfer.Pieces
	list   file.List
	name   string
	edit   func(k int, sealed []byte) []byte                  // before it leaves
	answer func(ctx context.Context, all io.Reader) io.Reader // between it and who asked
	asked  func(first, count int) error
}

func (g *giver) String() string { return g.name }

func (g *giver) Pieces(ctx context.Context, first, count int) (transfer.Answer, error) {
	if g.asked != nil {
		if err := g.asked(first, count); err != nil {
			return transfer.Answer{}, err
		}
	}
	var all io.Reader = &pieceReader{g: g, next: first, end: first + count}
	if g.answer != nil {
		all = g.answer(ctx, all)
	}
	return transfer.Answer{ReadCloser: io.NopCloser(all), Path: "direct"}, nil
}

func (g *giver) List(context.Context) (transfer.Answer, error) {
	return transfer.Answer{ReadCloser: io.NopCloser(bytes.NewReader(g.list.Bytes()))}, nil
}

// pieceReader is sealed pieces one behind another.
type pieceReader struct {
	g         *giver
	next, end int
	rest      []byte
}

func (r *pieceReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == r.end {
			return 0, io.EOF
		}
		sealed, err := r.g.pieces.Piece(r.next, make([]byte, 0, file.SealedPieceSize))
		if err != nil {
			return 0, err
		}
		if r.g.edit != nil {
			sealed = r.g.edit(r.next, sealed)
		}
		r.rest, r.next = sealed, r.next+1
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func source(o offer) *giver { return &giver{pieces: o, list: o.list, name: "a source"} }

// names lists what is in a folder.
func names(t testing.TB, folder string) (list []string) {
	t.Helper()
	for _, e := range must(os.ReadDir(folder))(t) {
		list = append(list, e.Name())
	}
	return list
}

// writeOffer keeps a file sealed at path, and its descriptor and list beside it.
func writeOffer(path string, content io.Reader, name string, folder bool) error {
	d, l, err := transfer.Spool(context.Background(), content, path, name)
	if err != nil {
		return err
	}
	d.Folder = folder
	b, err := proto.Marshal(d.Wire())
	if err != nil {
		return err
	}
	return errors.Join(os.WriteFile(path+".descriptor", b, 0o600), transfer.SaveList(path+".list", l))
}

// readOffer reads what writeOffer kept.
func readOffer(path string) (o offer, err error) {
	b, err := os.ReadFile(path + ".descriptor")
	if err != nil {
		return o, err
	}
	w := &wire.File{}
	if err := proto.Unmarshal(b, w); err != nil {
		return o, err
	}
	if o.d, err = file.FromWire(w); err != nil {
		return o, err
	}
	o.list, err = transfer.LoadList(path+".list", o.d)
	return o, err
}
