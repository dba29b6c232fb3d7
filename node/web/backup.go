package web

import (
	"net/http"
	"time"

	"github.com/parley-chat/parley/node/api"
)

func (s server) recovery(r *http.Request) (any, error)      { return s.node.Recovery(r.Context()) }
func (s server) recoveryWords(r *http.Request) (any, error) { return s.node.RecoveryWords(r.Context()) }

func (s server) confirmRecovery(r *http.Request, in api.ConfirmRequest) (any, error) {
	return nil, s.node.ConfirmRecovery(r.Context(), in)
}

// backup sends a backup as it is made. An error that comes after the first byte
// cuts the answer off, so that the other end does not take it for whole.
func (s server) backup(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	out := &fileWriter{w: w, control: http.NewResponseController(w)}
	in, err := body[api.BackupRequest](r)
	if err == nil {
		err = out.control.SetReadDeadline(time.Time{})
	}
	if err == nil {
		err = s.node.Backup(r.Context(), in, out)
	}
	switch {
	case err == nil:
	case out.begun:
		panic(http.ErrAbortHandler)
	default:
		refusal := asError(err)
		send(w, status(refusal.Code), refusal)
	}
}

// fileWriter sends bytes to a reader who must go on taking them.
type fileWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	begun   bool
}

func (f *fileWriter) Write(b []byte) (int, error) {
	if !f.begun {
		f.begun = true
		f.w.Header().Set("Content-Type", "application/octet-stream")
	}
	if err := f.control.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return f.w.Write(b)
}
