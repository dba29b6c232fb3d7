package web

import (
	"context"
	"errors"
	"net/http"

	"github.com/parley-chat/parley/node/api"
)

func refuse(code, text string) *api.Error { return &api.Error{Code: code, Text: text} }

// asError finds the answer for an error of the node.
func asError(err error) *api.Error {
	if e, ok := errors.AsType[*api.Error](err); ok {
		return e
	}
	if errors.Is(err, context.Canceled) { // the caller went away, or the node does
		return refuse(api.ErrStopping, "the node is stopping")
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return refuse(api.ErrTimeout, err.Error())
	}
	return refuse(api.ErrInternal, err.Error())
}

// status finds the HTTP status for an error code.
func status(code string) int {
	switch code {
	case api.ErrBadInput:
		return http.StatusBadRequest
	case api.ErrNotFound:
		return http.StatusNotFound
	case api.ErrNotAccepted, api.ErrRefused:
		return http.StatusForbidden
	case api.ErrConflict, api.ErrMismatch:
		return http.StatusConflict
	case api.ErrOffline, api.ErrStopping:
		return http.StatusServiceUnavailable
	case api.ErrFull:
		return http.StatusInsufficientStorage
	case api.ErrTimeout:
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}
