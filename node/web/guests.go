package web

import (
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) roomGuests(r *http.Request) (any, error) {
	return s.node.RoomGuests(r.Context(), r.PathValue("room"))
}

func (s server) setRoomGuests(r *http.Request) (any, error) {
	in, err := body[api.GuestsRequest](r)
	if err != nil {
		return nil, err
	}
	return s.node.SetRoomGuests(r.Context(), r.PathValue("room"), in)
}

func (s server) guest(r *http.Request) (any, error) { return s.node.Guest(r.Context()) }
