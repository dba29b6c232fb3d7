package web

import (
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) devices(r *http.Request) (any, error) { return s.node.Devices(r.Context()) }

func (s server) addDevice(w http.ResponseWriter, r *http.Request) { stream(w, r, s.node.AddDevice) }

func (s server) answerDevice(r *http.Request) (any, error) {
	in, err := body[api.AddAnswer](r)
	if err != nil {
		return nil, err
	}
	return nil, s.node.AnswerDevice(in)
}

func (s server) renameDevice(r *http.Request) (any, error) {
	in, err := body[api.RenameRequest](r)
	if err != nil {
		return nil, err
	}
	return s.node.RenameDevice(r.Context(), r.PathValue("device"), in.Name)
}

func (s server) revokeDevice(r *http.Request) (any, error) {
	in, err := body[api.RevokeRequest](r)
	if err != nil {
		return nil, err
	}
	return s.node.RevokeDevice(r.Context(), r.PathValue("device"), in.Reason)
}

func (s server) burn(r *http.Request) (any, error) {
	defer s.stop()
	return s.node.Burn(r.Context())
}
