package web

import (
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) roomLinks(r *http.Request) (any, error) {
	all, err := s.node.RoomLinks(r.Context(), r.PathValue("room"))
	return notNil(all), err
}

func (s server) makeRoomLink(r *http.Request) (any, error) {
	in, err := body[api.RoomLinkRequest](r)
	if err != nil {
		return nil, err
	}
	return s.node.MakeRoomLink(r.Context(), r.PathValue("room"), in)
}

func (s server) endRoomLink(r *http.Request) (any, error) {
	return s.node.EndRoomLink(r.Context(), r.PathValue("room"), r.PathValue("link"))
}

func (s server) joinRoomByLink(r *http.Request) (any, error) {
	in, err := body[api.JoinLinkRequest](r)
	if err != nil {
		return nil, err
	}
	return s.node.JoinRoomByLink(r.Context(), in)
}
