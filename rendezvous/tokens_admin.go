package rendezvous

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/parley-chat/parley/store"
)

// KeysStatus is what an operator sees of the keys that tokens are signed with.
type KeysStatus struct {
	Issuer string           `json:"issuer"` // as tokens name it
	Change uint64           `json:"change"` // number of the last change
	Keys   []SigningKeyInfo `json:"keys"`   // the oldest first
	Alarm  string           `json:"alarm,omitempty"`
}

// SigningKeyInfo is one key.
type SigningKeyInfo struct {
	ID    string    `json:"id"`
	State string    `json:"state"`
	Since time.Time `json:"since"` // in this state
	Until time.Time `json:"until"` // when the next state is due; of the one that signs, when its successor is
}

// KeysStatus tells how the signing keys are.
func (s *Server) KeysStatus(ctx context.Context) (KeysStatus, error) {
	keys, number, err := s.store.SigningKeys(ctx)
	if err != nil {
		return KeysStatus{}, fmt.Errorf("read signing keys: %w", err)
	}
	st := KeysStatus{Issuer: s.issuer.name, Change: number, Keys: []SigningKeyInfo{}, Alarm: s.issuer.trouble()}
	next, waits := inState(keys, store.KeyPublished)
	for _, k := range keys {
		info := SigningKeyInfo{ID: k.ID, State: k.State.String()}
		switch k.State {
		case store.KeyPublished:
			info.Since, info.Until = k.Published, k.Published.Add(publishFor)
		case store.KeySigning:
			info.Since, info.Until = k.Signing, k.Signing.Add(rotateEvery)
			if waits {
				info.Until = next.Published.Add(publishFor)
			}
		case store.KeyRetiring:
			info.Since, info.Until = k.Retiring, k.Retiring.Add(retireFor)
		}
		st.Keys = append(st.Keys, info)
	}
	return st, nil
}

// RotateKeys publishes the next signing key at once. It signs as soon as all
// verifiers know it; the present one retires then. Repeating it before changes
// nothing.
func (s *Server) RotateKeys(ctx context.Context) (KeysStatus, error) {
	return s.tellAndShowKeys(ctx, s.issuer.rotate(ctx))
}

// RevokeKey takes a signing key away at once: no token by it is good any more,
// also if the error is that the key set does not look as it should. ErrNotFound if
// there is none with this id.
func (s *Server) RevokeKey(ctx context.Context, id string) (KeysStatus, error) {
	return s.tellAndShowKeys(ctx, s.issuer.revoke(ctx, id))
}

// tellAndShowKeys ends a change of keys. Links are told even if the change went
// wrong afterwards: perhaps a key is gone.
func (s *Server) tellAndShowKeys(ctx context.Context, changed error) (KeysStatus, error) {
	if err := errors.Join(changed, s.tellKeys(context.WithoutCancel(ctx))); err != nil {
		return KeysStatus{}, err
	}
	return s.KeysStatus(ctx)
}

// trouble is what went wrong with the last change of keys; empty: nothing.
func (i *issuer) trouble() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.alarm
}

type revokeRequest struct {
	ID string `json:"id"`
}

func (s *Server) adminKeys(w http.ResponseWriter, r *http.Request) {
	st, err := s.KeysStatus(r.Context())
	answerJSON(w, st, err, http.StatusInternalServerError)
}

func (s *Server) adminRotate(w http.ResponseWriter, r *http.Request) {
	st, err := s.RotateKeys(r.Context())
	answerJSON(w, st, err, http.StatusInternalServerError)
}

func (s *Server) adminRevoke(w http.ResponseWriter, r *http.Request) {
	var req revokeRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminBody)).Decode(&req); err != nil {
		answerJSON(w, nil, fmt.Errorf("read request: %w", err), http.StatusBadRequest)
		return
	}
	st, err := s.RevokeKey(r.Context(), req.ID)
	answerJSON(w, st, err, http.StatusBadRequest)
}

// KeysStatus is Server.KeysStatus of the running rendezvous.
func (a *Admin) KeysStatus(ctx context.Context) (KeysStatus, error) {
	return a.keys(ctx, http.MethodGet, "/v1/keys", nil)
}

// RotateKeys is Server.RotateKeys of the running rendezvous.
func (a *Admin) RotateKeys(ctx context.Context) (KeysStatus, error) {
	return a.keys(ctx, http.MethodPost, "/v1/keys/rotate", nil)
}

// RevokeKey is Server.RevokeKey of the running rendezvous.
func (a *Admin) RevokeKey(ctx context.Context, id string) (KeysStatus, error) {
	body, err := json.Marshal(revokeRequest{id})
	if err != nil {
		return KeysStatus{}, err
	}
	return a.keys(ctx, http.MethodPost, "/v1/keys/revoke", body)
}

func (a *Admin) keys(ctx context.Context, method, path string, body []byte) (st KeysStatus, err error) {
	err = a.do(ctx, method, path, body, &st)
	return st, err
}
