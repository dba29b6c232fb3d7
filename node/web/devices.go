package web

import (
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) devices(r *http.Request) (any, error) { return s.node.Devices(r.Context()) }

func (s server) addDevice(w http.ResponseWriter, r *http.Request) { stream(w, r, s.node.AddDevice) }

func (s server) answerDevice(r *http.Request, in api.AddAnswer) (any, error) {
	return nil, s.node.AnswerDevice(in)
}

func (s server) renameDevice(r *http.Request, in api.RenameRequest) (any, error) {
	return s.node.RenameDevice(r.Context(), r.PathValue("device"), in.Name)
}

func (s server) revokeDevice(r *http.Request, in api.RevokeRequest) (any, error) {
	return s.node.RevokeDevice(r.Context(), r.PathValue("device"), in.Reason)
}

func (s server) burn(r *http.Request) (any, error) {
	defer s.stop()
	return s.node.Burn(r.Context())
}
