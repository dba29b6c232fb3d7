package api

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// serveAt answers on a unix socket until the test ends.
func serveAt(t *testing.T, path string, h http.HandlerFunc) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
}

// dial returns a client of a node that answers with h.
func dial(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	dir := t.TempDir()
	serveAt(t, filepath.Join(dir, SocketName), h)
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestNotRunning(t *testing.T) {
	dir := t.TempDir()
	if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("no socket: %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, SocketName), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("socket of a dead node: %v", err)
	}
}

func TestSocketElsewhere(t *testing.T) {
	dir, short := t.TempDir(), filepath.Join(t.TempDir(), "s")
	serveAt(t, short, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	if err := os.WriteFile(filepath.Join(dir, SocketFile), []byte(short+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Down(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRequestsAndRefusals(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.EscapedPath() {
		case "/v1/contacts/bob%2F..%20x/safety":
			io.WriteString(w, `{"with":"bob","number":"1","new_field":true}`)
		case "/v1/contacts":
			w.WriteHeader(http.StatusNotFound)
			io.WriteString(w, `{"code":"not_found","error":"no such user","hint":"parley add"}`)
		case "/v1/read":
			w.WriteHeader(http.StatusTeapot)
			io.WriteString(w, "I'm a teapot")
		case "/v1/status":
			panic(http.ErrAbortHandler)
		case "/v1/events":
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, `{"code":"stopping","error":"the node is stopping"}`)
		}
	})
	if s, err := c.Safety(t.Context(), "bob/.. x"); err != nil || s.Number != "1" {
		t.Errorf("safety %+v, %v", s, err)
	}
	_, err := c.Add(t.Context(), AddRequest{Name: "nobody"})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != ErrNotFound || e.Hint != "parley add" {
		t.Errorf("refusal: %#v", err)
	}
	err = c.MarkRead(t.Context(), ReadRequest{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != ErrInternal || !strings.Contains(e.Text, "418") {
		t.Errorf("answer that is no refusal: %#v", err)
	}
	if _, err := c.Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("cut connection: %v", err)
	}
	for _, err := range c.NewEvents(t.Context()) {
		if !errors.Is(err, ErrNotRunning) {
			t.Errorf("a node that stops: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Whoami(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestStream(t *testing.T) {
	c := dial(t, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "\n"+`{"value":{"seq":1}}`+"\n\n"+`{"future":1}`+"\n"+`{"value":{"seq":2}}`+"\n")
		if r.FormValue("after") == "last" {
			io.WriteString(w, `{"error":{"code":"internal","error":"broken"}}`+"\n"+`{"value":{"seq":3}}`+"\n")
		}
	})
	collect := func(after bool) (seqs []uint64, err error) {
		events := c.NewEvents(t.Context())
		if after {
			events = c.Events(t.Context(), 7)
		}
		for e, err := range events {
			if err != nil {
				return seqs, err
			}
			seqs = append(seqs, e.Seq)
		}
		return seqs, nil
	}
	seqs, err := collect(true)
	if len(seqs) != 2 || seqs[1] != 2 || !errors.Is(err, ErrNotRunning) {
		t.Errorf("stream that the node ends: %v, %v", seqs, err)
	}
	seqs, err = collect(false)
	if e, ok := errors.AsType[*Error](err); len(seqs) != 2 || !ok || e.Text != "broken" {
		t.Errorf("stream with an error: %v, %v", seqs, err)
	}
	for range c.Events(t.Context(), 0) {
		break // leaving early must not hang or leak
	}
}

func TestSilentStreamEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		here, there := net.Pipe()
		go func() {
			buf := make([]byte, 4096)
			there.Read(buf)
			io.WriteString(there, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n\n")
			time.Sleep(silence - time.Second)
			io.WriteString(there, "\n") // a heartbeat just in time; none after it
			io.Copy(io.Discard, there)
		}()
		c := &Client{http: &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return here, nil },
		}}}
		start := time.Now()
		var last error
		for _, err := range c.NewEvents(t.Context()) {
			last = err
		}
		if e, ok := errors.AsType[*Error](last); !ok || e.Code != ErrTimeout {
			t.Errorf("ended with %v", last)
		}
		if took := time.Since(start); took != 2*silence-time.Second {
			t.Errorf("ended after %v", took)
		}
	})
}
