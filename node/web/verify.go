package web

import (
	"context"
	"iter"
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func (s server) safety(r *http.Request) (any, error) {
	return s.node.Safety(r.Context(), r.PathValue("name"))
}

func (s server) verify(r *http.Request, in api.VerifyRequest) (any, error) {
	return nil, s.node.SetVerified(r.Context(), r.PathValue("name"), in.Verified)
}

func (s server) scan(r *http.Request, in api.ScanRequest) (any, error) {
	return s.node.Scan(r.Context(), r.PathValue("name"), in.Code)
}

func (s server) compare(r *http.Request, in api.CompareRequest) (any, error) {
	return s.node.Compare(r.Context(), r.PathValue("name"), in.Do)
}

func (s server) comparison(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	stream(w, r, func(ctx context.Context) iter.Seq2[api.Comparison, error] { return s.node.Comparison(ctx, name) })
}
