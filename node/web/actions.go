package web

import (
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) changeMessage(r *http.Request, in api.MessageRequest) (any, error) {
	return s.node.ChangeMessage(r.Context(), r.PathValue("id"), r.PathValue("verb"), in)
}

func (s server) pinned(r *http.Request) (any, error) {
	list, err := s.node.Pinned(r.Context(), r.URL.Query().Get("with"))
	return notNil(list), err
}

func (s server) conversation(r *http.Request) (any, error) {
	return s.node.Conversation(r.Context(), r.URL.Query().Get("with"))
}

func (s server) timer(r *http.Request, in api.TimerRequest) (any, error) {
	return s.node.SetTimer(r.Context(), in)
}

func (s server) mute(r *http.Request, in api.MuteRequest) (any, error) {
	return s.node.Mute(r.Context(), in)
}
