package rendezvous

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/parley-chat/parley/protocol/audit"
)

func (s *Server) adminAudit(w http.ResponseWriter, r *http.Request) {
	q := AuditQuery{Account: r.FormValue("account"), Kind: audit.Kind(r.FormValue("kind"))}
	after, err1 := strconv.ParseUint(r.FormValue("after"), 10, 64)
	since, err2 := strconv.ParseInt(r.FormValue("since_ms"), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		answerJSON(w, nil, err, http.StatusBadRequest)
		return
	}
	q.After, q.Since = after, time.UnixMilli(since)
	page, err := s.Audit(r.Context(), q)
	answerJSON(w, page, err, http.StatusInternalServerError)
}

// Audit is Server.Audit of the running rendezvous.
func (a *Admin) Audit(ctx context.Context, q AuditQuery) (page AuditPage, err error) {
	values := url.Values{
		"after":    {strconv.FormatUint(q.After, 10)},
		"since_ms": {strconv.FormatInt(q.Since.UnixMilli(), 10)},
		"account":  {q.Account},
		"kind":     {string(q.Kind)},
	}
	err = a.do(ctx, http.MethodGet, "/v1/audit?"+values.Encode(), nil, &page)
	return page, err
}
