package rendezvous

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"github.com/parley-chat/parley/rendezvous/token"
)

// What the HTTP listener gives away. Everything that it serves is public and
// small.
const (
	httpConns   = 512
	httpTimeout = 10 * time.Second // for one request, in and out
	httpIdle    = time.Minute
	maxHeader   = 8 << 10 // bytes

	keySetPath = "/.well-known/jwks.json"
)

// web serves the public pages of a rendezvous over plain HTTP. Whoever wants
// TLS puts a proxy in front.
type web struct {
	addr    net.Addr
	server  *http.Server
	own     token.Fetch // reads the key set back
	ended   chan struct{}
	endOnce sync.Once
}

// listenHTTP begins to serve at addr, "host:port".
func (s *Server) listenHTTP(addr string) (*web, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for HTTP: %w", err)
	}
	own, err := token.HTTPFetch("http://"+dialable(listener.Addr())+keySetPath, true)
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	w := &web{addr: listener.Addr(), own: own, ended: make(chan struct{})}
	w.server = &http.Server{
		Handler:           s.pages(),
		ReadHeaderTimeout: httpTimeout / 2, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout, IdleTimeout: httpIdle,
		MaxHeaderBytes: maxHeader,
	}
	go func() {
		defer close(w.ended)
		if err := w.server.Serve(netutil.LimitListener(listener, httpConns)); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("HTTP ends", "err", err)
		}
	}()
	return w, nil
}

// dialable is the address to reach a listener at from the same machine.
func dialable(a net.Addr) string {
	at, err := netip.ParseAddrPort(a.String())
	if err != nil || !at.Addr().IsUnspecified() {
		return a.String()
	}
	ip := netip.IPv6Loopback()
	if at.Addr().Is4() {
		ip = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return netip.AddrPortFrom(ip, at.Port()).String()
}

// pages is everything that is served over HTTP: nothing else is found, and
// nothing is listed.
func (s *Server) pages() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+keySetPath, s.pageKeySet)
	mux.HandleFunc("GET /healthz", s.pageHealth)
	log := s.logHandler()
	mux.Handle("/checkpoint", log)
	mux.Handle("/tile/", log)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxHeader) // no page reads one
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		mux.ServeHTTP(w, r)
	})
}

// pageKeySet answers with the key set as it is in the store now.
func (s *Server) pageKeySet(w http.ResponseWriter, r *http.Request) {
	set, err := s.issuer.set(r.Context())
	if err != nil {
		s.noticeFailure(err)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("Retry-After", strconv.Itoa(int(keysEvery/time.Second)))
		http.Error(w, "the key set cannot be read now", http.StatusServiceUnavailable)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "application/jwk-set+json")
	h.Set("Cache-Control", "public, max-age="+strconv.Itoa(int(token.MaxAge/time.Second)))
	h.Set("ETag", set.ETag())
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(set.JSON())) // compares If-None-Match
}

// pageHealth answers 200 while the store can be read and calls are taken.
func (s *Server) pageHealth(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if _, err := s.issuer.set(r.Context()); err != nil || s.isDraining() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (w *web) fetchKeySet(ctx context.Context) ([]byte, error) { return w.own(ctx, "") }

// close gives requests that run a moment to end.
func (w *web) close() (err error) {
	w.endOnce.Do(func() {
		grace, cancel := context.WithTimeout(context.Background(), linger)
		defer cancel()
		if err = w.server.Shutdown(grace); err != nil {
			err = w.server.Close()
		}
		<-w.ended
	})
	return err
}
