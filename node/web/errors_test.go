package web

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/parley-chat/parley/node/api"
)

func TestErrorsOfTheNode(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   string
		status int
	}{
		{fmt.Errorf("add: %w", refuse(api.ErrConflict, "taken")), api.ErrConflict, http.StatusConflict},
		{fmt.Errorf("read events: %w", context.Canceled), api.ErrStopping, http.StatusServiceUnavailable},
		{fmt.Errorf("ask: %w", context.DeadlineExceeded), api.ErrTimeout, http.StatusGatewayTimeout},
		{errors.New("odd"), api.ErrInternal, http.StatusInternalServerError},
	} {
		e := asError(c.err)
		if e.Code != c.code || status(e.Code) != c.status {
			t.Errorf("%v: %v with status %d, want %s with %d", c.err, e, status(e.Code), c.code, c.status)
		}
	}
}
