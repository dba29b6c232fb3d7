package web

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"time"

	"github.com/parley-chat/parley/node/api"
)

// heartbeat is how often a stream sends an empty line; a reader that takes
// nothing for writeTimeout loses its stream.
const (
	heartbeat    = 15 * time.Second
	writeTimeout = 30 * time.Second
)

func (s server) events(w http.ResponseWriter, r *http.Request) {
	after, err := s.cursor(r)
	if err != nil {
		refusal := asError(err)
		send(w, status(refusal.Code), refusal)
		return
	}
	stream(w, r, func(ctx context.Context) iter.Seq2[api.Event, error] { return s.node.Events(ctx, after) })
}

// cursor reads the event to begin after: a number, or the last one.
func (s server) cursor(r *http.Request) (uint64, error) {
	if r.FormValue("after") == "last" {
		return s.node.LastEvent(r.Context())
	}
	return number(r, "after", 0)
}

func (s server) lastEvent(r *http.Request) (any, error) {
	seq, err := s.node.LastEvent(r.Context())
	return api.LastEvent{Seq: seq}, err
}

func (s server) ping(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	stream(w, r, func(ctx context.Context) iter.Seq2[api.Pong, error] { return s.node.Ping(ctx, name) })
}

// stream sends what source yields, a line each, until it ends, the reader goes
// away or the node stops. The headers go first: a reader that has them misses
// nothing from then on. One goroutine runs the source; it has ended on return.
func stream[T any](w http.ResponseWriter, r *http.Request, source func(context.Context) iter.Seq2[T, error]) {
	ctx, cancel := context.WithCancel(r.Context())
	lines := make(chan api.Line[T])
	go func() {
		defer close(lines)
		for value, err := range source(ctx) {
			line := api.Line[T]{Value: &value}
			if err != nil {
				line = api.Line[T]{Error: asError(err)}
			}
			select {
			case lines <- line:
			case <-ctx.Done():
				return
			}
			if err != nil {
				return
			}
		}
	}()
	defer func() {
		cancel()
		for range lines { // until the source has ended
		}
	}()

	w.Header().Set("Content-Type", "application/x-ndjson")
	out := &lineWriter{http.NewResponseController(w), w}
	alive := time.NewTicker(heartbeat)
	defer alive.Stop()
	err := out.control.SetReadDeadline(time.Time{})
	if err == nil {
		err = out.write(nil)
	}
	for err == nil {
		select {
		case line, ok := <-lines:
			if !ok || ctx.Err() != nil {
				return
			}
			err = out.write(line)
		case <-alive.C:
			err = out.write(nil)
		case <-ctx.Done():
			return
		}
	}
}

type lineWriter struct {
	control *http.ResponseController
	w       http.ResponseWriter
}

// write sends one line at once: a value as JSON, or an empty one for nil.
func (l *lineWriter) write(v any) error {
	text := []byte("\n")
	if v != nil {
		encoded, err := json.Marshal(v)
		if err != nil {
			return err
		}
		text = append(encoded, '\n')
	}
	if err := l.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	if _, err := l.w.Write(text); err != nil {
		return err
	}
	return l.control.Flush()
}
