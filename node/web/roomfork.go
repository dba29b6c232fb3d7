package web

import (
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) roomFork(r *http.Request) (any, error) {
	return s.node.RoomFork(r.Context(), r.PathValue("room"))
}

func (s server) keepRoomLog(r *http.Request) (any, error) {
	in, err := body[api.KeepRequest](r)
	if err != nil {
		return nil, err
	}
	return s.node.KeepRoomLog(r.Context(), r.PathValue("room"), in)
}
