package web

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
)

// maxBody holds the longest text, escaped as badly as JSON can, in bytes.
const maxBody = 6*protocol.MaxText + 16<<10

type server struct {
	node *node.Node
	stop func()
}

func routes(n *node.Node, stop func()) http.Handler {
	s := server{n, stop}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", answer(s.status))
	mux.HandleFunc("GET /v1/whoami", answer(s.whoami))
	mux.HandleFunc("GET /v1/contacts", answer(s.contacts))
	mux.HandleFunc("POST /v1/contacts", answer(taking(s.add)))
	mux.HandleFunc("POST /v1/contacts/{name}/{verb}", answer(s.contact))
	mux.HandleFunc("GET /v1/contacts/{name}/safety", answer(s.safety))
	mux.HandleFunc("POST /v1/contacts/{name}/verify", answer(taking(s.verify)))
	mux.HandleFunc("POST /v1/contacts/{name}/scan", answer(taking(s.scan)))
	mux.HandleFunc("POST /v1/contacts/{name}/compare", answer(taking(s.compare)))
	mux.HandleFunc("GET /v1/contacts/{name}/compare", s.comparison)
	mux.HandleFunc("POST /v1/messages", answer(taking(s.send)))
	mux.HandleFunc("GET /v1/messages", answer(s.history))
	mux.HandleFunc("GET /v1/messages/{id}/trace", answer(s.trace))
	mux.HandleFunc("POST /v1/messages/{id}/{verb}", answer(taking(s.changeMessage)))
	mux.HandleFunc("POST /v1/files", s.sendFile)
	mux.HandleFunc("POST /v1/files/pipe", s.sendPipe)
	mux.HandleFunc("GET /v1/files", answer(s.files))
	mux.HandleFunc("POST /v1/files/{id}/{verb}", answer(taking(s.changeFile)))
	mux.HandleFunc("GET /v1/files/{id}/watch", s.watchFile)
	mux.HandleFunc("GET /v1/conversations/pinned", answer(s.pinned))
	mux.HandleFunc("GET /v1/conversations/settings", answer(s.conversation))
	mux.HandleFunc("POST /v1/conversations/timer", answer(taking(s.timer)))
	mux.HandleFunc("POST /v1/conversations/mute", answer(taking(s.mute)))
	mux.HandleFunc("POST /v1/read", answer(taking(s.read)))
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("GET /v1/events/last", answer(s.lastEvent))
	mux.HandleFunc("GET /v1/ping/{name}", s.ping)
	mux.HandleFunc("POST /v1/invites", answer(taking(s.invite)))
	mux.HandleFunc("GET /v1/rooms", answer(s.rooms))
	mux.HandleFunc("POST /v1/rooms", answer(taking(s.createRoom)))
	mux.HandleFunc("GET /v1/rooms/{room}", answer(s.room))
	mux.HandleFunc("GET /v1/rooms/{room}/members", answer(s.roomMembers))
	mux.HandleFunc("GET /v1/rooms/{room}/members/{who}", answer(s.roomMember))
	mux.HandleFunc("GET /v1/rooms/{room}/log", answer(s.roomLog))
	mux.HandleFunc("GET /v1/rooms/{room}/links", answer(s.roomLinks))
	mux.HandleFunc("POST /v1/rooms/{room}/links", answer(taking(s.makeRoomLink)))
	mux.HandleFunc("POST /v1/rooms/{room}/links/{link}/end", answer(s.endRoomLink))
	mux.HandleFunc("GET /v1/rooms/{room}/fork", answer(s.roomFork))
	mux.HandleFunc("POST /v1/rooms/{room}/fork", answer(taking(s.keepRoomLog)))
	mux.HandleFunc("POST /v1/rooms/join", answer(taking(s.joinRoomByLink)))
	mux.HandleFunc("POST /v1/rooms/{room}/{verb}", answer(taking(s.changeRoom)))
	mux.HandleFunc("GET /v1/rooms/{room}/guests", answer(s.roomGuests))
	mux.HandleFunc("POST /v1/rooms/{room}/guests", answer(taking(s.setRoomGuests)))
	mux.HandleFunc("GET /v1/guest", answer(s.guest))
	mux.HandleFunc("GET /v1/devices", answer(s.devices))
	mux.HandleFunc("GET /v1/devices/add", s.addDevice)
	mux.HandleFunc("POST /v1/devices/add/answer", answer(taking(s.answerDevice)))
	mux.HandleFunc("POST /v1/devices/{device}/rename", answer(taking(s.renameDevice)))
	mux.HandleFunc("POST /v1/devices/{device}/revoke", answer(taking(s.revokeDevice)))
	mux.HandleFunc("POST /v1/burn", answer(s.burn))
	mux.HandleFunc("GET /v1/keys", answer(s.keys))
	mux.HandleFunc("POST /v1/keys/rotate", answer(taking(s.rotateKeys)))
	mux.HandleFunc("POST /v1/keys/doctor", answer(s.doctor))
	mux.HandleFunc("GET /v1/keys/ledger", answer(s.ledger))
	mux.HandleFunc("GET /v1/evidence", answer(s.alarms))
	mux.HandleFunc("POST /v1/evidence/accept", answer(taking(s.acceptLog)))
	mux.HandleFunc("POST /v1/backup", s.backup)
	mux.HandleFunc("GET /v1/recovery", answer(s.recovery))
	mux.HandleFunc("POST /v1/recovery/words", answer(s.recoveryWords))
	mux.HandleFunc("POST /v1/recovery/confirm", answer(taking(s.confirmRecovery)))
	mux.HandleFunc("POST /v1/down", answer(s.down))
	mux.HandleFunc("/", answer(func(r *http.Request) (any, error) {
		return nil, refuse(api.ErrNotFound, "no such request: "+r.Method+" "+r.URL.Path)
	}))
	return mux
}

func (s server) status(r *http.Request) (any, error) { return s.node.Status(r.Context()) }
func (s server) whoami(*http.Request) (any, error)   { return s.node.Whoami(), nil }

func (s server) contacts(r *http.Request) (any, error) {
	all, err := s.node.Contacts(r.Context())
	return notNil(all), err
}

func (s server) add(r *http.Request, in api.AddRequest) (any, error) {
	return s.node.Add(r.Context(), in)
}

func (s server) contact(r *http.Request) (any, error) {
	name := r.PathValue("name")
	switch r.PathValue("verb") {
	case "accept":
		return s.node.Accept(r.Context(), name)
	case "decline":
		return s.node.Decline(r.Context(), name)
	case "block":
		return s.node.Block(r.Context(), name)
	case "unblock":
		return s.node.Unblock(r.Context(), name)
	case "remove":
		return s.node.Remove(r.Context(), name)
	case "accept_change":
		return s.node.AcceptChange(r.Context(), name)
	}
	return nil, refuse(api.ErrNotFound, "nothing to do with a contact is called "+strconv.Quote(r.PathValue("verb")))
}

func (s server) send(r *http.Request, in api.SendRequest) (any, error) {
	return s.node.Send(r.Context(), in)
}

func (s server) history(r *http.Request) (any, error) {
	before, err := number(r, "before", 0)
	if err != nil {
		return nil, err
	}
	after, err := number(r, "after", 0)
	if err != nil {
		return nil, err
	}
	limit, err := number(r, "limit", 50)
	if err != nil {
		return nil, err
	}
	limit = min(limit, api.MaxHistory)
	var page []api.Message
	if r.Form.Has("after") {
		page, err = s.node.HistoryAfter(r.Context(), r.FormValue("with"), after, int(limit))
	} else {
		page, err = s.node.History(r.Context(), r.FormValue("with"), before, int(limit))
	}
	return notNil(page), err
}

func (s server) trace(r *http.Request) (any, error) {
	return s.node.Trace(r.Context(), r.PathValue("id"))
}

func (s server) read(r *http.Request, in api.ReadRequest) (any, error) {
	return nil, s.node.MarkRead(r.Context(), in)
}

func (s server) invite(r *http.Request, in api.InviteRequest) (any, error) {
	return s.node.Invite(r.Context(), in)
}

func (s server) down(*http.Request) (any, error) {
	s.stop()
	return nil, nil
}

// answer turns a function into a handler: what it returns is sent as JSON, an
// error as api.Error; nothing at all as 204.
func answer(fn func(*http.Request) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		out, err := fn(r)
		give(w, out, err)
	}
}

func give(w http.ResponseWriter, out any, err error) {
	switch {
	case err != nil:
		refusal := asError(err)
		send(w, status(refusal.Code), refusal)
	case out == nil:
		w.WriteHeader(http.StatusNoContent)
	default:
		send(w, http.StatusOK, out)
	}
}

func send(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(v) // an error means the other end is gone
}

// body decodes a request's body, all of it.
func body[T any](r *http.Request) (in T, err error) {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&in); err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return in, refuse(api.ErrBadInput, "the request is too large")
		}
		return in, refuse(api.ErrBadInput, "cannot read the request: "+err.Error())
	}
	if _, err := d.Token(); err != io.EOF {
		return in, refuse(api.ErrBadInput, "the request goes on after its end")
	}
	return in, nil
}

// taking has a function take the request's body, decoded.
func taking[T any](fn func(*http.Request, T) (any, error)) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		in, err := body[T](r)
		if err != nil {
			return nil, err
		}
		return fn(r, in)
	}
}

// number reads a query parameter.
func number(r *http.Request, name string, unset uint64) (uint64, error) {
	text := r.FormValue(name)
	if text == "" {
		return unset, nil
	}
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0, refuse(api.ErrBadInput, strconv.Quote(text)+" is no number for "+name)
	}
	return n, nil
}

// notNil makes an empty list of none, so that JSON says [] and not null.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
