package rendezvous

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	libp2pprotocol "github.com/libp2p/go-libp2p/core/protocol"
	"go.uber.org/goleak"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// raw writes bytes to a stream and returns all that is answered.
func (d *device) raw(id libp2pprotocol.ID, b []byte) (answer []byte, err error) {
	d.t.Helper()
	s := d.open(id)
	defer s.Reset()
	if _, err := s.Write(b); err != nil {
		return nil, err
	}
	s.CloseWrite()
	return io.ReadAll(s)
}

// Garbage on any stream costs a refusal or the stream, never more.
func TestGarbageFrames(t *testing.T) {
	s := startServer(t, nil)
	alice, stranger := member(t, s, "alice"), newDevice(t, s, "stranger")
	huge := binary.BigEndian.AppendUint32(nil, 0xffffffff)
	overLimit := binary.BigEndian.AppendUint32(nil, protocol.MaxFrame+1)
	notProto := append(binary.BigEndian.AppendUint32(nil, 4), 0xff, 0xff, 0xff, 0xff)
	big := frame(t, &wire.Request{Call: &wire.Request_Register{Register: &wire.Register{Chain: make([]byte, maxStrangerFrame+1)}}})
	wrong := frame(t, &wire.Found{Name: "a message nobody expects here", Chain: []byte("x")})

	for _, c := range []struct {
		name string
		from *device
		b    []byte
		code protocol.Code // OK: the stream is just ended
	}{
		{"huge", alice, huge, protocol.TooLarge},
		{"over the limit", alice, overLimit, protocol.TooLarge},
		{"no protobuf", alice, notProto, protocol.BadRequest},
		{"cut header", alice, []byte{0, 0}, protocol.OK},
		{"cut body", alice, frame(t, lookupRequest("alice", nil))[:6], protocol.OK},
		{"nothing", alice, nil, protocol.OK},
		{"wrong message", alice, wrong, protocol.BadRequest},
		{"huge of a stranger", stranger, huge, protocol.TooLarge},
		{"big of a stranger", stranger, big, protocol.TooLarge},
		{"no protobuf of a stranger", stranger, notProto, protocol.BadRequest},
	} {
		for _, id := range []libp2pprotocol.ID{protocol.CallProtocol, protocol.LinkProtocol, protocol.PairProtocol} {
			if c.name == "wrong message" && id == protocol.PairProtocol {
				continue // its first field is a text too: the number of a pairing
			}
			t.Run(c.name+" "+string(id), func(t *testing.T) {
				answer, err := c.from.raw(id, c.b)
				if c.code == protocol.OK {
					if len(answer) > 0 {
						t.Errorf("answered %x", answer)
					}
					return
				}
				var code uint32
				switch id {
				case protocol.CallProtocol:
					resp := &wire.Response{}
					err = errors.Join(err, wire.ReadMsg(bytes.NewReader(answer), resp))
					code = resp.GetCode()
				case protocol.LinkProtocol:
					w := &wire.Welcome{}
					err = errors.Join(err, wire.ReadMsg(bytes.NewReader(answer), w))
					code = w.GetCode()
				default:
					j := &wire.PairJoined{}
					err = errors.Join(err, wire.ReadMsg(bytes.NewReader(answer), j))
					code = j.GetCode()
				}
				if err != nil || protocol.Code(code) != c.code {
					t.Errorf("%v, %v; want %v", protocol.Code(code), err, c.code)
				}
			})
		}
	}
	alice.must(lookupRequest("alice", nil)) // all is well
	l := alice.link()
	l.s.Write(overLimit)
	bye := l.await("goodbye", func(h *wire.Hint) bool { return h.GetBye() != 0 })
	if protocol.Code(bye.GetBye()) != protocol.TooLarge {
		t.Errorf("goodbye %v", bye)
	}
	l.awaitEnd()
}

// A peer that begins and then says nothing is cut off; so is one that does
// not read.
func TestStallingPeers(t *testing.T) {
	const short = 300 * time.Millisecond
	s := startServer(t, func(c *Config) { c.Limits.CallDeadline, c.Limits.WriteTimeout = short, short })
	alice := member(t, s, "alice")
	for _, id := range []libp2pprotocol.ID{protocol.CallProtocol, protocol.LinkProtocol, protocol.PairProtocol} {
		for name, b := range map[string][]byte{"a header": {0, 0, 0, 9}, "nothing but the stream": nil} {
			stream := alice.open(id)
			stream.Write(b)
			if b == nil {
				stream.Write([]byte{0}) // a stream exists only once something is sent
			}
			answer, err := io.ReadAll(stream)
			if len(answer) > 0 {
				t.Errorf("%s %s: answered %x, %v", id, name, answer, err)
			}
		}
	}
	// A link whose end does not read: the server may write what fits into the
	// window and then gives up.
	l := alice.link()
	server := s.presence.link(alice.id)
	big := &wire.PrekeyCounts{Digest: make([]byte, 64<<10)}
	eventually(t, "the link is cut", func() bool {
		server.tellPrekeys(big)
		return s.presence.link(alice.id) == nil
	})
	l.s.Reset()
	alice.must(lookupRequest("alice", nil))
}

// At the end of Run links are told when to come back, new calls are refused,
// and nothing is left running.
func TestDrain(t *testing.T) {
	ignore := goleak.IgnoreCurrent()
	asked := make(chan struct{}, 100)
	s := startServer(t, func(c *Config) {
		c.wrap = func(s store.Rendezvous) store.Rendezvous { return tellingStore{s, asked} }
	})
	alice, bob := member(t, s, "alice"), member(t, s, "bob")
	l := alice.link()
	l.settled()

	for len(asked) > 0 {
		<-asked
	}
	running := bob.open(protocol.CallProtocol) // a call in progress
	request := frame(t, lookupRequest("alice", nil))
	running.Write(request[:3])
	<-asked

	s.end()
	bye := l.await("goodbye", func(h *wire.Hint) bool { return h.GetBye() != 0 })
	wait := time.Duration(bye.GetRetryAfterMs()) * time.Millisecond
	if protocol.Code(bye.GetBye()) != protocol.Draining || wait < time.Second || wait > 5*time.Second {
		t.Errorf("goodbye %v", bye)
	}
	l.awaitEnd()
	if resp := alice.refused(protocol.Draining, lookupRequest("alice", nil)); resp.GetRetryAfterMs() == 0 {
		t.Error("no time to come back")
	}
	if w := alice.dialLink(&wire.Beat{Hello: alice.hello(), Seq: 1}).welcome; protocol.Code(w.GetCode()) != protocol.Draining {
		t.Errorf("a link while draining: %v", w)
	}
	running.Write(request[3:]) // it may finish
	resp := &wire.Response{}
	if err := wire.ReadMsg(running, resp); err != nil || resp.GetCode() != 0 {
		t.Errorf("the call in progress: %v, %v", err, resp)
	}
	<-s.ended
	alice.host.Close()
	bob.host.Close()
	goleak.VerifyNone(t, ignore)
}

func TestCloseWithoutRun(t *testing.T) {
	s, err := New(t.Context(), Config{Dir: t.TempDir(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Open: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Close(), s.Close()); err != nil {
		t.Error(err)
	}
}

func TestNewFails(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.Mkdir(bad, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bad, IdentityFile), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	used := startServer(t, nil)
	for name, cfg := range map[string]Config{
		"no directory":    {},
		"bad announce":    {Dir: t.TempDir(), Announce: []string{"nowhere"}},
		"bad listen":      {Dir: t.TempDir(), Listen: []string{"/ip4/127.0.0.1"}},
		"bad identity":    {Dir: bad},
		"directory taken": {Dir: used.cfg.Dir, Listen: []string{"/ip4/127.0.0.1/tcp/0"}},
	} {
		if s, err := New(t.Context(), cfg); err == nil {
			t.Errorf("%s: no error", name)
			s.Close()
		}
	}
}

func TestDirectoryIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s := startServer(t, func(c *Config) { c.Dir = dir })
	eventually(t, "admin socket", func() bool { _, err := NewAdmin(dir).Status(t.Context()); return err == nil })
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, IdentityFile): 0o600, filepath.Join(dir, adminSocket): 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode().Perm(), err, want)
		}
	}
	s.stopNow()
}

// Errors become codes in one place, and what is our fault tells the peer
// nothing.
func TestRefusal(t *testing.T) {
	s := &Server{log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	for _, c := range []struct {
		err  error
		want protocol.Code
	}{
		{protocol.Refuse(protocol.NotContact, "x"), protocol.NotContact},
		{fmt.Errorf("put: %w", protocol.Refuse(protocol.MailboxFull, "x")), protocol.MailboxFull},
		{fmt.Errorf("put: %w", store.ErrFull), protocol.Unavailable},
		{store.ErrFailed, protocol.Unavailable},
		{store.ErrDamaged, protocol.Unavailable},
		{store.ErrReadOnly, protocol.Unavailable},
		{store.ErrClosed, protocol.Draining},
		{context.DeadlineExceeded, protocol.Unavailable},
		{store.ErrNotFound, protocol.Internal},
		{errors.New("/home/operator/secret"), protocol.Internal},
	} {
		e := s.refusal(c.err)
		if e.Code != c.want || strings.Contains(e.Detail, "secret") {
			t.Errorf("%v: %v %q, want %v", c.err, e.Code, e.Detail, c.want)
		}
		if retry := e.Code == protocol.Unavailable || e.Code == protocol.Draining; retry != (e.RetryAfter > 0) {
			t.Errorf("%v: retry after %v", c.err, e.RetryAfter)
		}
	}
}

// A full disk refuses what must be stored and says when to come back.
func TestDiskFull(t *testing.T) {
	s := startServer(t, func(c *Config) {
		c.wrap = func(s store.Rendezvous) store.Rendezvous { return fullStore{s} }
	})
	alice := member(t, s, "alice")
	resp := alice.refused(protocol.Unavailable, &wire.Request{Call: &wire.Request_SetContacts{SetContacts: &wire.SetContacts{Accounts: [][]byte{alice.owner[:]}}}})
	if resp.GetRetryAfterMs() == 0 {
		t.Error("no time to come back")
	}
	alice.must(lookupRequest("alice", nil))
}

// A store that writes no more ends Run, so that a supervisor starts it anew.
func TestFailedStoreEndsRun(t *testing.T) {
	for name, fail := range map[string]func(s *Server){
		"call":  func(s *Server) { s.refusal(fmt.Errorf("put: %w", store.ErrFailed)) },
		"sweep": func(*Server) {},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{Dir: t.TempDir(), Listen: []string{"/ip4/127.0.0.1/tcp/0"}, Log: slog.New(slog.DiscardHandler)}
			if name == "sweep" {
				cfg.wrap = func(s store.Rendezvous) store.Rendezvous { return brokenStore{s} }
			}
			s, err := New(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			fail(s)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if err := s.Run(ctx); !errors.Is(err, store.ErrFailed) {
				t.Errorf("run: %v, want ErrFailed", err)
			}
		})
	}
}

// brokenStore is a real store after a commit that failed.
type brokenStore struct{ store.Rendezvous }

func (brokenStore) Sweep(context.Context, time.Time) (int, error) {
	return 0, fmt.Errorf("sweep: %w", store.ErrFailed)
}

// fullStore is a real store on a full disk.
type fullStore struct{ store.Rendezvous }

func (fullStore) SetContacts(context.Context, protocol.AccountID, []protocol.AccountID) error {
	return fmt.Errorf("set contacts: %w", store.ErrFull)
}

// tellingStore tells when a stream has come as far as being asked who it is.
type tellingStore struct {
	store.Rendezvous
	asked chan struct{}
}

func (s tellingStore) DeviceByPeer(ctx context.Context, peerID []byte) (store.Device, error) {
	s.asked <- struct{}{}
	return s.Rendezvous.DeviceByPeer(ctx, peerID)
}

// Nothing about people gets into the log: no address, no token, no content.
func TestLogsTellNothing(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	s := startServer(t, func(c *Config) {
		c.Open = false
		c.wrap = func(s store.Rendezvous) store.Rendezvous { return fullStore{s} }
		c.Log = slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	_, _, err := s.NewInvite(t.Context(), 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	token, _, err := s.storeInvite(t.Context(), protocol.AccountID{}, 2, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	alice := newDevice(t, s, "alice")
	alice.must(alice.registerRequest(token[:]))
	l := alice.link(multiaddr(t, "/ip4/192.0.2.77/tcp/1"))
	alice.put(item(alice, wire.MailKind_MESSAGE, []byte("marker-envelope")))
	alice.refused(protocol.Unavailable, &wire.Request{Call: &wire.Request_SetContacts{SetContacts: &wire.SetContacts{Accounts: [][]byte{alice.owner[:]}}}})
	l.s.Reset()
	s.stopNow()
	mu.Lock()
	defer mu.Unlock()
	for _, secret := range []string{"192.0.2.77", "127.0.0.1", "marker", "alice", string(token[:]), fmt.Sprintf("%x", token)} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, log.String())
		}
	}
	if !strings.Contains(log.String(), "cannot serve") {
		t.Errorf("the full disk is not in the log:\n%s", log.String())
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}
