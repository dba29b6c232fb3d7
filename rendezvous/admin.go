package rendezvous

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/parley-chat/parley/store"
)

const (
	adminSocket  = "admin.sock"
	adminTimeout = 10 * time.Second
	maxAdminBody = 4 << 10 // bytes of a request

	maxSocketPath = 103 // bytes; the least that systems allow
)

// Status is what an operator sees of a running rendezvous.
type Status struct {
	Peer         string   `json:"peer"`
	Addrs        []string `json:"addrs"`
	Open         bool     `json:"open"`     // anyone may register
	UptimeS      int64    `json:"uptime_s"` // seconds
	Online       int      `json:"online"`   // devices with a link
	Connections  int      `json:"connections"`
	Reservations int      `json:"reservations"`
	Circuits     int      `json:"circuits"`
	Accounts     int      `json:"accounts"`
	Mail         int      `json:"mail"` // envelopes that wait
	MailBytes    int      `json:"mail_bytes"`
	Blobs        int      `json:"blobs"` // sealed files that wait, or come in
	BlobBytes    int      `json:"blob_bytes"`
	HTTP         string   `json:"http,omitempty"`      // host:port
	KeyAlarm     string   `json:"key_alarm,omitempty"` // what is wrong with the signing keys

	Audit  store.AuditHead `json:"audit"`
	Relays int             `json:"relays"`        // that run alone and that members may use now
	Asking int             `json:"relays_asking"` // that ask to be approved
}

// Status tells how the server is doing.
func (s *Server) Status(ctx context.Context) (Status, error) {
	totals, err := s.store.Totals(ctx)
	if err != nil {
		return Status{}, fmt.Errorf("count what is stored: %w", err)
	}
	journal, err := s.store.AuditHead(ctx)
	if err != nil {
		return Status{}, fmt.Errorf("read the head of the audit journal: %w", err)
	}
	st := Status{
		Peer:         s.PeerID().String(),
		Open:         s.cfg.Open,
		UptimeS:      int64(s.now().Sub(s.started) / time.Second),
		Online:       s.presence.count(),
		Connections:  len(s.host.Network().Conns()),
		Reservations: s.relay.Reservations(),
		Circuits:     s.relay.Circuits(),
		Accounts:     totals.Accounts,
		Mail:         totals.Mail.Count,
		MailBytes:    totals.Mail.Bytes,
		Blobs:        totals.Blobs.Count,
		BlobBytes:    totals.Blobs.Bytes,
		KeyAlarm:     s.issuer.trouble(),
		Audit:        journal,
	}
	st.Relays, st.Asking = s.relays.count()
	if s.web != nil {
		st.HTTP = s.web.addr.String()
	}
	for _, a := range s.Addrs() {
		st.Addrs = append(st.Addrs, a.String())
	}
	return st, nil
}

type inviteRequest struct {
	Uses int   `json:"uses"`  // 0: InviteUses
	TTLS int64 `json:"ttl_s"` // seconds; 0: InviteTTL
}

type inviteAnswer struct {
	Link    string    `json:"link"`
	Expires time.Time `json:"expires"`
}

type errorAnswer struct {
	Error string `json:"error"`
}

// ErrNotFound means that there is no account, relay or signing key of the name
// that was given.
var ErrNotFound = errors.New("not known here")

// serveAdmin answers the operator on a socket in the data directory, until ctx
// ends. Whoever can open the socket is the operator.
func (s *Server) serveAdmin(ctx context.Context) error {
	path := filepath.Join(s.cfg.Dir, adminSocket)
	if len(path) > maxSocketPath {
		s.log.Warn("no admin socket: the path of the data directory is too long", "bytes", len(path), "at_most", maxSocketPath)
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("clear admin socket: %w", err)
	}
	// The directory is private, so nobody gets in before the mode is set.
	listener, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("open admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return errors.Join(fmt.Errorf("make admin socket private: %w", err), listener.Close())
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.adminStatus)
	mux.HandleFunc("POST /v1/invites", s.adminInvite)
	mux.HandleFunc("GET /v1/keys", s.adminKeys)
	mux.HandleFunc("POST /v1/keys/rotate", s.adminRotate)
	mux.HandleFunc("POST /v1/keys/revoke", s.adminRevoke)
	mux.HandleFunc("GET /v1/audit", s.adminAudit)
	mux.HandleFunc("GET /v1/relays", s.adminRelays)
	mux.HandleFunc("POST /v1/relays/add", s.adminAddRelay)
	mux.HandleFunc("POST /v1/relays/remove", s.adminRemoveRelay)
	server := &http.Server{Handler: mux, ReadTimeout: adminTimeout, WriteTimeout: adminTimeout, MaxHeaderBytes: 8 << 10}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		<-ctx.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminTimeout)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	}()
	err = server.Serve(listener)
	cancel()
	<-ended
	if !errors.Is(err, http.ErrServerClosed) { // which is: ctx ended
		return fmt.Errorf("serve admin socket: %w", err)
	}
	return nil
}

func (s *Server) adminStatus(w http.ResponseWriter, r *http.Request) {
	st, err := s.Status(r.Context())
	answerJSON(w, st, err, http.StatusInternalServerError)
}

func (s *Server) adminInvite(w http.ResponseWriter, r *http.Request) {
	var req inviteRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxAdminBody)).Decode(&req); err != nil {
		answerJSON(w, nil, fmt.Errorf("read request: %w", err), http.StatusBadRequest)
		return
	}
	link, expires, err := s.NewInvite(r.Context(), req.Uses, time.Duration(req.TTLS)*time.Second)
	answerJSON(w, inviteAnswer{link, expires}, err, http.StatusBadRequest)
}

func answerJSON(w http.ResponseWriter, v any, err error, failed int) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		v = errorAnswer{err.Error()}
		if errors.Is(err, ErrNotFound) {
			failed = http.StatusNotFound
		}
		w.WriteHeader(failed)
	}
	json.NewEncoder(w).Encode(v)
}

// adminError is what the running rendezvous answers instead.
type adminError struct {
	status int // of HTTP
	text   string
}

func (e *adminError) Error() string { return "rendezvous: " + e.text }

func (e *adminError) Is(target error) bool {
	return target == ErrNotFound && e.status == http.StatusNotFound
}

// Admin talks to a rendezvous that runs on this machine.
type Admin struct{ client http.Client }

// NewAdmin makes a client for the rendezvous with this data directory.
func NewAdmin(dir string) *Admin {
	path := filepath.Join(dir, adminSocket)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	return &Admin{http.Client{Timeout: adminTimeout, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status is Server.Status of the running rendezvous.
func (a *Admin) Status(ctx context.Context) (Status, error) {
	var st Status
	err := a.do(ctx, http.MethodGet, "/v1/status", nil, &st)
	return st, err
}

// NewInvite is Server.NewInvite of the running rendezvous.
func (a *Admin) NewInvite(ctx context.Context, uses int, ttl time.Duration) (link string, expires time.Time, err error) {
	body, err := json.Marshal(inviteRequest{Uses: uses, TTLS: int64(ttl / time.Second)})
	if err != nil {
		return "", time.Time{}, err
	}
	var answer inviteAnswer
	err = a.do(ctx, http.MethodPost, "/v1/invites", body, &answer)
	return answer.Link, answer.Expires, err
}

func (a *Admin) do(ctx context.Context, method, path string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://rendezvous"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := a.client.Do(req)
	if err != nil {
		return fmt.Errorf("reach the rendezvous (is it running?): %w", err)
	}
	defer resp.Body.Close()
	d := json.NewDecoder(io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode != http.StatusOK {
		var e errorAnswer
		if d.Decode(&e) != nil {
			return fmt.Errorf("rendezvous: %s", resp.Status)
		}
		return &adminError{resp.StatusCode, e.Error}
	}
	if err := d.Decode(answer); err != nil {
		return fmt.Errorf("read the rendezvous's answer: %w", err)
	}
	return nil
}
