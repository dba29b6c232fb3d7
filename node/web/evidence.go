package web

import "net/http"

func (s server) alarms(r *http.Request) (any, error) {
	list, err := s.node.Alarms(r.Context())
	return notNil(list), err
}

func (s server) acceptLog(r *http.Request) (any, error) { return s.node.AcceptLog(r.Context()) }
