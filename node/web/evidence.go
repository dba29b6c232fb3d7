package web

import (
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) alarms(r *http.Request) (any, error) {
	list, err := s.node.Alarms(r.Context())
	return notNil(list), err
}

func (s server) acceptLog(r *http.Request, in api.AcceptRequest) (any, error) {
	return s.node.AcceptLog(r.Context(), in)
}
