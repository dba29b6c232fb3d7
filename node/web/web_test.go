package web

import (
	"context"
	"errors"
	"io"
	"iter"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
)

// start serves h in dir until the test ends.
func start(t *testing.T, dir string, h http.Handler) (stop func() error) {
	t.Helper()
	l, err := listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, l, h) }()
	stop = func() error {
		cancel()
		err := <-ended
		ended <- err
		return err
	}
	t.Cleanup(func() { stop() })
	return stop
}

var empty = answer(func(*http.Request) (any, error) { return nil, nil })

func TestSocketIsPrivateAndReplacesADeadOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, api.SocketName)
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()

	stop := start(t, dir, empty)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket: %v, %v", info, err)
	}
	c, err := api.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Down(t.Context()); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Errorf("serve ended with %v", err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestLongDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", "/tmp")
	stop := start(t, dir, empty)
	where, err := os.ReadFile(filepath.Join(dir, api.SocketFile))
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Dir(strings.TrimSpace(string(where)))
	if info, err := os.Stat(short); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("directory of the socket: %v, %v", info, err)
	}
	c, err := api.Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Down(t.Context()); err != nil {
		t.Error(err)
	}
	stop()
	for _, path := range []string{short, filepath.Join(dir, api.SocketFile)} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there: %v", path, err)
		}
	}
}

// TestMain is also the stranger of TestOtherUserIsRefused.
func TestMain(m *testing.M) {
	path := os.Getenv("PARLEY_TEST_SOCKET")
	if path == "" {
		os.Exit(m.Run())
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return net.Dial("unix", path) },
	}}
	if _, err := client.Get("http://parley/"); err != nil {
		os.Stdout.WriteString("refused: " + err.Error())
		os.Exit(0)
	}
	os.Stdout.WriteString("answered")
	os.Exit(0)
}

func TestOtherUserIsRefused(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	dir, err := os.MkdirTemp("/tmp", "parley-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	start(t, dir, empty)
	socket := filepath.Join(dir, api.SocketName)
	exposed := errors.Join(os.Chmod(dir, 0o755), os.Chmod(socket, 0o666)) // so that only the check remains
	if exposed != nil {
		t.Fatal(exposed)
	}
	self := filepath.Join(dir, "stranger")
	program, err := os.ReadFile(os.Args[0])
	if err := errors.Join(err, os.WriteFile(self, program, 0o755), os.Chmod(self, 0o755)); err != nil {
		t.Fatal(err)
	}
	run := func(uid uint32) string {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Dir, cmd.Env = "/", []string{"PARLEY_TEST_SOCKET=" + socket}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if got := run(65534); !strings.HasPrefix(got, "refused") || strings.Contains(got, "permission denied") {
		t.Errorf("another user: %s", got)
	}
	if got := run(0); got != "answered" {
		t.Errorf("the same user: %s", got)
	}
}

func TestAnswers(t *testing.T) {
	type in struct{ A string }
	for name, tt := range map[string]struct {
		body string
		err  error
		code int
		want string
	}{
		"nothing":       {`{"A":"x"}`, nil, 204, ""},
		"refusal":       {`{"A":"x"}`, &api.Error{Code: api.ErrNotFound, Text: "who?", Hint: "look"}, 404, `{"code":"not_found","error":"who?","hint":"look"}`},
		"other error":   {`{"A":"x"}`, errors.New("oops"), 500, `{"code":"internal","error":"oops"}`},
		"timeout":       {`{"A":"x"}`, context.DeadlineExceeded, 504, `{"code":"timeout","error":"context deadline exceeded"}`},
		"not JSON":      {`hello`, nil, 400, `cannot read the request`},
		"empty":         {``, nil, 400, `cannot read the request`},
		"unknown field": {`{"B":1}`, nil, 400, `unknown field`},
		"two values":    {`{"A":"x"} {}`, nil, 400, `goes on`},
		"too large":     {`{"A":"` + strings.Repeat("x", maxBody) + `"}`, nil, 400, `too large`},
	} {
		t.Run(name, func(t *testing.T) {
			h := answer(func(r *http.Request) (any, error) {
				if _, err := body[in](r); err != nil {
					return nil, err
				}
				return nil, tt.err
			})
			w := httptest.NewRecorder()
			h(w, httptest.NewRequest("POST", "/", strings.NewReader(tt.body)))
			if w.Code != tt.code || !strings.Contains(w.Body.String(), tt.want) {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

func TestLongestTextFits(t *testing.T) {
	worst := strings.Repeat("\x01", protocol.MaxText) // six bytes each as JSON
	request := httptest.NewRequest("POST", "/", strings.NewReader(`{"to":"bob","text":"`+strings.Repeat(`\u0001`, len(worst))+`"}`))
	h := answer(func(r *http.Request) (any, error) {
		in, err := body[api.SendRequest](r)
		if err == nil && in.Text != worst {
			t.Error("the text changed")
		}
		return nil, err
	})
	w := httptest.NewRecorder()
	if h(w, request); w.Code != http.StatusNoContent {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// pipeListener hands a server one connection.
type pipeListener struct{ conns chan net.Conn }

func (l pipeListener) Accept() (net.Conn, error) {
	conn, ok := <-l.conns
	if !ok {
		return nil, net.ErrClosed
	}
	return conn, nil
}
func (l pipeListener) Close() error   { close(l.conns); return nil }
func (l pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// TestStreamHeartbeat follows a stream through ten quiet minutes, one value,
// and the end of the node.
func TestStreamHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sourceEnded := make(chan struct{})
		source := func(ctx context.Context) iter.Seq2[api.Event, error] {
			return func(yield func(api.Event, error) bool) {
				defer close(sourceEnded)
				time.Sleep(10*time.Minute + time.Second)
				if !yield(api.Event{Seq: 9}, nil) {
					return
				}
				<-ctx.Done()
			}
		}
		here, there := net.Pipe()
		l := pipeListener{make(chan net.Conn, 1)}
		l.conns <- there
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { stream(w, r, source) }))
		}()
		go io.WriteString(here, "GET / HTTP/1.0\r\n\r\n")
		got := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(here)
			got <- string(b)
		}()
		time.Sleep(10*time.Minute + 2*time.Second)
		cancel()
		_, lines, _ := strings.Cut(<-got, "\r\n\r\n")
		if n := strings.Count(lines, "\n"); n != 1+40+1 || !strings.Contains(lines, `{"value":{"seq":9`) {
			t.Errorf("%d lines: %q", n, lines)
		}
		if err := <-ended; err != nil {
			t.Errorf("serve ended with %v", err)
		}
		<-sourceEnded
	})
}
