// Package web serves a node to the faces of its own user: the local API that
// package api describes, over a unix socket in the data directory. It only
// translates: every decision is the node's.
//
// It must not be reachable for anyone else. The socket has mode 0600 and is in
// a directory of mode 0700, and the system is asked who is at the other end.
package web

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/parley-chat/parley/node"
)

// drain is how long running requests may take once the node stops.
const drain = 5 * time.Second

// Serve answers until ctx ends, and returns when every request has ended. The
// caller holds the store in dir, so a socket that is there is a dead node's and
// is replaced. POST /v1/down calls stop, which should end ctx.
func Serve(ctx context.Context, n *node.Node, dir string, stop func()) error {
	l, err := listen(dir)
	if err != nil {
		return fmt.Errorf("open the local API: %w", err)
	}
	return serve(ctx, l, routes(n, stop))
}

// serve runs two goroutines: the HTTP server and the one that stops it. The
// server has one more for each connection.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{
		Handler:           h,
		BaseContext:       func(net.Listener) context.Context { return ctx }, // ends streams
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       3 * time.Minute, // longer than any caller waits; streams lift it
		IdleTimeout:       5 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
	stopped := make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		select {
		case <-ctx.Done():
		case <-ended:
		}
		stopped <- shutdown(server)
	}()
	err := server.Serve(l)
	close(ended)
	if err := <-stopped; err != nil {
		return fmt.Errorf("stop the local API: %w", err)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the local API: %w", err)
	}
	return nil
}

func shutdown(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), drain)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return server.Close()
	}
	return nil
}
