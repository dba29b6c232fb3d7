package web

import (
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) keys(r *http.Request) (any, error) { return s.node.Keys(r.Context()) }

func (s server) rotateKeys(r *http.Request, in api.RotateRequest) (any, error) {
	return s.node.RotateKeys(r.Context(), in)
}

func (s server) doctor(r *http.Request) (any, error) { return s.node.Doctor(r.Context()) }

func (s server) ledger(r *http.Request) (any, error) {
	after, err := number(r, "after", 0)
	if err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", 100)
	if err != nil {
		return nil, err
	}
	page, err := s.node.Ledger(r.Context(), after, int(min(limit, api.MaxLedger)))
	page.Entries = notNil(page.Entries)
	return page, err
}
