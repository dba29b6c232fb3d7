package web

import (
	"context"
	"iter"
	"net/http"
	"time"

	"github.com/parley-chat/parley/node/api"
)

func (s server) sendFile(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	in, err := body[api.SendFileRequest](r)
	if err != nil {
		give(w, nil, err)
		return
	}
	stream(w, r, func(ctx context.Context) iter.Seq2[api.Sending, error] { return s.node.SendFile(ctx, in) })
}

// sendPipe reads a file that may be long, and comes as slowly as it is made.
func (s server) sendPipe(w http.ResponseWriter, r *http.Request) {
	if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
		give(w, nil, err)
		return
	}
	q := r.URL.Query()
	m, err := s.node.SendPipe(r.Context(), api.SendFileRequest{
		ID: q.Get("id"), To: q.Get("to"), Text: q.Get("text"), ReplyTo: q.Get("reply_to"), Name: q.Get("name"),
	}, r.Body)
	give(w, m, err)
}

func (s server) files(r *http.Request) (any, error) {
	list, err := s.node.Files(r.Context(), r.URL.Query().Get("with"))
	return notNil(list), err
}

func (s server) changeFile(r *http.Request, in api.FileRequest) (any, error) {
	return s.node.ChangeFile(r.Context(), r.PathValue("id"), r.PathValue("verb"), in)
}

func (s server) watchFile(w http.ResponseWriter, r *http.Request) {
	id := r.PathValue("id")
	stream(w, r, func(ctx context.Context) iter.Seq2[api.Message, error] { return s.node.WatchFile(ctx, id) })
}
