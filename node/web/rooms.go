package web

import (
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) rooms(r *http.Request) (any, error) {
	all, err := s.node.Rooms(r.Context())
	return notNil(all), err
}

func (s server) room(r *http.Request) (any, error) {
	return s.node.Room(r.Context(), r.PathValue("room"))
}

func (s server) createRoom(r *http.Request) (any, error) {
	in, err := body[api.CreateRoomRequest](r)
	if err != nil {
		return nil, err
	}
	return s.node.CreateRoom(r.Context(), in)
}

func (s server) changeRoom(r *http.Request) (any, error) {
	in, err := body[api.RoomRequest](r)
	if err != nil {
		return nil, err
	}
	return s.node.ChangeRoom(r.Context(), r.PathValue("room"), r.PathValue("verb"), in)
}

func (s server) roomMembers(r *http.Request) (any, error) {
	all, err := s.node.RoomMembers(r.Context(), r.PathValue("room"))
	return notNil(all), err
}

func (s server) roomMember(r *http.Request) (any, error) {
	return s.node.RoomMember(r.Context(), r.PathValue("room"), r.PathValue("who"))
}

func (s server) roomLog(r *http.Request) (any, error) {
	before, err := number(r, "before", 0)
	if err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", 50)
	if err != nil {
		return nil, err
	}
	page, err := s.node.RoomLog(r.Context(), r.PathValue("room"), before, int(min(limit, api.MaxRoomLog)))
	return notNil(page), err
}
