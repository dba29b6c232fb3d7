package rendezvous

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// RelayInfo is what an operator sees of a relay that runs alone.
type RelayInfo struct {
	Peer         string    `json:"peer"`
	Approved     bool      `json:"approved"`
	Since        time.Time `json:"since,omitzero"` // approved
	Follows      bool      `json:"follows"`        // it is connected, so members may use it if it is approved
	Addrs        []string  `json:"addrs,omitempty"`
	Reservations int       `json:"reservations,omitempty"`
	Bytes        int64     `json:"bytes,omitempty"` // per circuit and direction
	DurationS    int64     `json:"duration_s,omitempty"`
}

// RelayInfos tells of the relays that are approved, and of those that ask to be,
// by peer id.
func (s *Server) RelayInfos(ctx context.Context) ([]RelayInfo, error) {
	stored, err := s.store.Relays(ctx)
	if err != nil {
		return nil, fmt.Errorf("read relays: %w", err)
	}
	infos := []RelayInfo{}
	following := s.relays.all()
	for _, r := range stored {
		info := RelayInfo{Peer: peer.ID(r.Peer).String(), Approved: true, Since: r.Added}
		if i := slices.IndexFunc(following, func(f *relayLink) bool { return f.peer == peer.ID(r.Peer) }); i >= 0 {
			info.describe(following[i])
			following = slices.Delete(following, i, i+1)
		}
		infos = append(infos, info)
	}
	for _, f := range following {
		info := RelayInfo{Peer: f.peer.String()}
		info.describe(f)
		infos = append(infos, info)
	}
	slices.SortFunc(infos, func(a, b RelayInfo) int { return strings.Compare(a.Peer, b.Peer) })
	return infos, nil
}

// describe adds what a relay that follows has announced.
func (i *RelayInfo) describe(f *relayLink) {
	shown := f.relay()
	i.Follows = true
	i.Reservations = int(shown.GetLimits().GetReservations())
	i.Bytes = int64(shown.GetLimits().GetBytes())
	i.DurationS = int64(shown.GetLimits().GetMs() / 1000)
	for _, b := range shown.GetAddrs() {
		if m, err := ma.NewMultiaddrBytes(b); err == nil {
			i.Addrs = append(i.Addrs, m.String())
		}
	}
}

type relayRequest struct {
	Peer string `json:"peer"`
}

func (s *Server) adminRelays(w http.ResponseWriter, r *http.Request) {
	infos, err := s.RelayInfos(r.Context())
	answerJSON(w, infos, err, http.StatusInternalServerError)
}

func (s *Server) adminAddRelay(w http.ResponseWriter, r *http.Request) {
	s.adminChangeRelay(w, r, s.AddRelay)
}

func (s *Server) adminRemoveRelay(w http.ResponseWriter, r *http.Request) {
	s.adminChangeRelay(w, r, s.RemoveRelay)
}

func (s *Server) adminChangeRelay(w http.ResponseWriter, r *http.Request, change func(context.Context, peer.ID) error) {
	var req relayRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminBody)).Decode(&req); err != nil {
		answerJSON(w, nil, fmt.Errorf("read request: %w", err), http.StatusBadRequest)
		return
	}
	id, err := peer.Decode(req.Peer)
	if err != nil {
		answerJSON(w, nil, fmt.Errorf("%q is no peer id of a relay", req.Peer), http.StatusBadRequest)
		return
	}
	if err := change(r.Context(), id); err != nil {
		answerJSON(w, nil, err, http.StatusBadRequest)
		return
	}
	s.adminRelays(w, r)
}

// Relays is Server.RelayInfos of the running rendezvous.
func (a *Admin) Relays(ctx context.Context) ([]RelayInfo, error) {
	return a.relays(ctx, http.MethodGet, "/v1/relays", nil)
}

// AddRelay is Server.AddRelay of the running rendezvous; it returns all relays.
func (a *Admin) AddRelay(ctx context.Context, id peer.ID) ([]RelayInfo, error) {
	return a.changeRelay(ctx, "/v1/relays/add", id)
}

// RemoveRelay is Server.RemoveRelay of the running rendezvous; it returns all
// relays.
func (a *Admin) RemoveRelay(ctx context.Context, id peer.ID) ([]RelayInfo, error) {
	return a.changeRelay(ctx, "/v1/relays/remove", id)
}

func (a *Admin) changeRelay(ctx context.Context, path string, id peer.ID) ([]RelayInfo, error) {
	body, err := json.Marshal(relayRequest{id.String()})
	if err != nil {
		return nil, err
	}
	return a.relays(ctx, http.MethodPost, path, body)
}

func (a *Admin) relays(ctx context.Context, method, path string, body []byte) (infos []RelayInfo, err error) {
	err = a.do(ctx, method, path, body, &infos)
	return infos, err
}
