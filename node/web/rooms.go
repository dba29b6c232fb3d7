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

func (s server) createRoom(r *http.Request, in api.CreateRoomRequest) (any, error) {
	return s.node.CreateRoom(r.Context(), in)
}

func (s server) changeRoom(r *http.Request, in api.RoomRequest) (any, error) {
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

func (s server) roomLinks(r *http.Request) (any, error) {
	all, err := s.node.RoomLinks(r.Context(), r.PathValue("room"))
	return notNil(all), err
}

func (s server) makeRoomLink(r *http.Request, in api.RoomLinkRequest) (any, error) {
	return s.node.MakeRoomLink(r.Context(), r.PathValue("room"), in)
}

func (s server) endRoomLink(r *http.Request) (any, error) {
	return s.node.EndRoomLink(r.Context(), r.PathValue("room"), r.PathValue("link"))
}

func (s server) joinRoomByLink(r *http.Request, in api.JoinLinkRequest) (any, error) {
	return s.node.JoinRoomByLink(r.Context(), in)
}

func (s server) roomFork(r *http.Request) (any, error) {
	return s.node.RoomFork(r.Context(), r.PathValue("room"))
}

func (s server) keepRoomLog(r *http.Request, in api.KeepRequest) (any, error) {
	return s.node.KeepRoomLog(r.Context(), r.PathValue("room"), in)
}

func (s server) roomGuests(r *http.Request) (any, error) {
	return s.node.RoomGuests(r.Context(), r.PathValue("room"))
}

func (s server) setRoomGuests(r *http.Request, in api.GuestsRequest) (any, error) {
	return s.node.SetRoomGuests(r.Context(), r.PathValue("room"), in)
}

func (s server) guest(r *http.Request) (any, error) { return s.node.Guest(r.Context()) }
