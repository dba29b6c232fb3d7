package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// ErrNotRunning says that no node answers on the data directory's socket.
var ErrNotRunning = errors.New("no node is running here")

// Limits of a Client. The server stays well inside them.
const (
	callTimeout   = 20 * time.Second // twice what a call to the rendezvous may take
	silence       = 45 * time.Second // a stream has a heartbeat every 15 s
	maxAnswer     = 128 << 20        // bytes
	maxStreamLine = 1 << 20          // bytes
)

// Client talks to a running node. Its methods may be used from several
// goroutines; their errors are *Error, or ErrNotRunning once the node is gone.
type Client struct{ http *http.Client }

// Dial finds the node that runs in dir and checks that it answers.
func Dial(dir string) (*Client, error) {
	path, err := socketPath(dir)
	if err != nil {
		return nil, fmt.Errorf("find the node's socket: %w", err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "unix", path)
	}
	conn, err := dial(context.Background(), "", "")
	if err != nil {
		return nil, explain(err)
	}
	conn.Close()
	return &Client{http: &http.Client{Transport: &http.Transport{DialContext: dial}}}, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// explain turns the errors of a socket without a server into ErrNotRunning.
func explain(err error) error {
	for _, gone := range []error{fs.ErrNotExist, syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, gone) {
			return ErrNotRunning
		}
	}
	return fmt.Errorf("talk to the node: %w", err)
}

func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.call(ctx, "GET", "/v1/status", nil, &s)
}

func (c *Client) Whoami(ctx context.Context) (w Whoami, err error) {
	return w, c.call(ctx, "GET", "/v1/whoami", nil, &w)
}

// Contacts returns all contacts and contact requests.
func (c *Client) Contacts(ctx context.Context) (all []Contact, err error) {
	return all, c.call(ctx, "GET", "/v1/contacts", nil, &all)
}

func (c *Client) Add(ctx context.Context, r AddRequest) (k Contact, err error) {
	return k, c.call(ctx, "POST", "/v1/contacts", r, &k)
}

func (c *Client) Accept(ctx context.Context, name string) (Contact, error) {
	return c.contact(ctx, name, "accept")
}

func (c *Client) Decline(ctx context.Context, name string) (Contact, error) {
	return c.contact(ctx, name, "decline")
}

func (c *Client) Block(ctx context.Context, name string) (Contact, error) {
	return c.contact(ctx, name, "block")
}

func (c *Client) Unblock(ctx context.Context, name string) (Contact, error) {
	return c.contact(ctx, name, "unblock")
}

func (c *Client) Remove(ctx context.Context, name string) (Contact, error) {
	return c.contact(ctx, name, "remove")
}

func (c *Client) contact(ctx context.Context, name, verb string) (k Contact, err error) {
	return k, c.call(ctx, "POST", contactPath(name, verb), nil, &k)
}

// Send queues a message. It is durable on this device when Send returns.
func (c *Client) Send(ctx context.Context, r SendRequest) (m Message, err error) {
	return m, c.call(ctx, "POST", "/v1/messages", r, &m)
}

// MaxHistory is how many messages one call of History returns at most.
const MaxHistory = 200

// History returns up to limit messages of a conversation, ascending: those
// before a position, or the newest if before is 0.
func (c *Client) History(ctx context.Context, with string, before uint64, limit int) (page []Message, err error) {
	q := url.Values{"with": {with}, "limit": {strconv.Itoa(limit)}}
	if before > 0 {
		q.Set("before", strconv.FormatUint(before, 10))
	}
	return page, c.call(ctx, "GET", "/v1/messages?"+q.Encode(), nil, &page)
}

// HistoryAfter returns up to limit messages of a conversation, ascending: the
// oldest after a position, from the start if that is 0.
func (c *Client) HistoryAfter(ctx context.Context, with string, after uint64, limit int) (page []Message, err error) {
	q := url.Values{"with": {with}, "limit": {strconv.Itoa(limit)}, "after": {strconv.FormatUint(after, 10)}}
	return page, c.call(ctx, "GET", "/v1/messages?"+q.Encode(), nil, &page)
}

// Trace tells what happened to a message, given its id or a prefix of it.
func (c *Client) Trace(ctx context.Context, id string) (t Trace, err error) {
	return t, c.call(ctx, "GET", "/v1/messages/"+url.PathEscape(id)+"/trace", nil, &t)
}

func (c *Client) MarkRead(ctx context.Context, r ReadRequest) error {
	return c.call(ctx, "POST", "/v1/read", r, nil)
}

func (c *Client) Invite(ctx context.Context, r InviteRequest) (i Invite, err error) {
	return i, c.call(ctx, "POST", "/v1/invites", r, &i)
}

// Down asks the node to stop. It stops after Down has returned.
func (c *Client) Down(ctx context.Context) error {
	return c.call(ctx, "POST", "/v1/down", nil, nil)
}

// Events yields what happens after event after, and goes on until ctx ends or
// the loop does.
func (c *Client) Events(ctx context.Context, after uint64) iter.Seq2[Event, error] {
	return stream[Event](ctx, c, "/v1/events?after="+strconv.FormatUint(after, 10))
}

// LastEvent returns the number of the newest event: Events begins behind it without
// missing any.
func (c *Client) LastEvent(ctx context.Context) (uint64, error) {
	var last LastEvent
	err := c.call(ctx, "GET", "/v1/events/last", nil, &last)
	return last.Seq, err
}

// NewEvents yields what happens from now on.
func (c *Client) NewEvents(ctx context.Context) iter.Seq2[Event, error] {
	return stream[Event](ctx, c, "/v1/events?after=last")
}

// Ping yields one answer or failure a second until ctx ends or the loop does.
func (c *Client) Ping(ctx context.Context, name string) iter.Seq2[Pong, error] {
	return stream[Pong](ctx, c, "/v1/ping/"+url.PathEscape(name))
}

// call makes one request; in and out are JSON, and may be nil.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	limited, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	body, err := c.do(limited, method, path, in)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		return &Error{Code: ErrTimeout, Text: fmt.Sprintf("the node has not answered for %v", callTimeout), Hint: "if it is stuck, kill its process and type: parley up"}
	}
	if err != nil {
		return err
	}
	defer body.Close()
	if out == nil {
		return nil
	}
	return decode(body, out)
}

func decode(body io.Reader, out any) error {
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(out); err != nil {
		return fmt.Errorf("read the node's answer: %w", err)
	}
	return nil
}

// do makes a request and sends it.
func (c *Client) do(ctx context.Context, method, path string, in any) (io.ReadCloser, error) {
	var body io.Reader
	if in != nil {
		text, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://parley"+path, body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	return c.send(req)
}

// send sends a request and returns the body of a 2xx answer; any other is an
// *Error.
func (c *Client) send(req *http.Request) (io.ReadCloser, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		if err := req.Context().Err(); err != nil {
			return nil, err
		}
		return nil, explain(err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	refusal := new(Error)
	err = json.NewDecoder(io.LimitReader(resp.Body, maxStreamLine)).Decode(refusal)
	if err != nil || refusal.Code == "" {
		return nil, &Error{Code: ErrInternal, Text: "the node answered " + resp.Status}
	}
	if refusal.Code == ErrStopping {
		return nil, ErrNotRunning
	}
	return nil, refusal
}

// Line is one line of a stream: a value, or the error that ended it. Between
// them an empty line now and then shows that the node is alive.
type Line[T any] struct {
	Value *T     `json:"value,omitempty"`
	Error *Error `json:"error,omitempty"`
}

// stream reads a stream line by line, until it ends or falls silent.
func stream[T any](ctx context.Context, c *Client, path string) iter.Seq2[T, error] {
	return streamOf[T](ctx, c, "GET", path, nil)
}

// streamOf is stream for any request.
func streamOf[T any](ctx context.Context, c *Client, method, path string, in any) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		inner, cancel := context.WithCancel(ctx)
		defer cancel()
		body, err := c.do(inner, method, path, in)
		if err != nil {
			yield(none, err)
			return
		}
		defer body.Close()
		watchdog := time.AfterFunc(silence, cancel)
		defer watchdog.Stop()
		lines := bufio.NewScanner(body)
		lines.Buffer(nil, maxStreamLine)
		for lines.Scan() {
			watchdog.Stop() // the caller may take its time
			if len(lines.Bytes()) > 0 && !yieldLine(lines.Bytes(), yield) {
				return
			}
			watchdog.Reset(silence)
		}
		yield(none, streamEnd(ctx, inner, lines.Err()))
	}
}

// yieldLine hands on one line of a stream: a value, or the error that ends it.
// It tells whether to go on.
func yieldLine[T any](line []byte, yield func(T, error) bool) bool {
	var item Line[T]
	var none T
	switch err := json.Unmarshal(line, &item); {
	case err != nil:
		yield(none, fmt.Errorf("read the node's stream: %w", err))
		return false
	case item.Error != nil && item.Error.Code == ErrStopping:
		yield(none, ErrNotRunning)
		return false
	case item.Error != nil:
		yield(none, item.Error)
		return false
	case item.Value == nil:
		return true // a newer node's line
	}
	return yield(*item.Value, nil)
}

func streamEnd(outer, inner context.Context, err error) error {
	switch {
	case outer.Err() != nil:
		return outer.Err()
	case inner.Err() != nil:
		return &Error{Code: ErrTimeout, Text: "the node has been silent for too long"}
	case err == nil:
		return ErrNotRunning // it stopped and ended the stream
	}
	return explain(err)
}
