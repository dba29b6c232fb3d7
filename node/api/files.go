package api

import (
	"context"
	"io"
	"iter"
	"net/http"
	"net/url"
)

// File is the file that a message carries, and how far it is on this device.
type File struct {
	Name      string    `json:"name"`
	Size      int64     `json:"size"`           // bytes; of a folder, those of its archive
	Type      string    `json:"type,omitempty"` // media type, as its author says
	Folder    bool      `json:"folder,omitempty"`
	Thumbnail []byte    `json:"thumbnail,omitempty"` // a small JPEG
	State     string    `json:"state"`
	Asks      bool      `json:"asks,omitempty"`    // the user has not answered yet
	Path      string    `json:"path,omitempty"`    // where it is; until it is here, the folder it goes to
	Problem   string    `json:"problem,omitempty"` // why it failed, or cannot be given to others
	Answer    string    `json:"answer,omitempty"`  // of an own one to a contact: done, declined
	Stored    bool      `json:"stored,omitempty"`  // this device stored it at the rendezvous
	Progress  *Progress `json:"progress,omitempty"`
}

// States of a File.
const (
	FileOffered   = "offered"   // to be had, and not wanted here
	FileWanted    = "wanted"    // being fetched, or waiting for that
	FilePaused    = "paused"    // by the user
	FileDone      = "done"      // on this device, at Path
	FileDeclined  = "declined"  // by the user
	FileCancelled = "cancelled" // by the user
	FileFailed    = "failed"    // Problem says why
	FileChanged   = "changed"   // what was on this device is not there as it was: nobody is given it
)

// Answers to a File.
const (
	FileTaken   = "done"     // a device of the contact has it
	FileRefused = "declined" // by the contact
)

// CauseFile is the cause of events of kind changed that tell how far a file is.
const CauseFile = "file"

// Progress is what is being done with a file right now.
type Progress struct {
	Doing string `json:"doing"`
	Done  int64  `json:"done"`            // bytes; of giving 0
	Rate  int64  `json:"rate,omitempty"`  // bytes per second
	Path  string `json:"path,omitempty"`  // direct, relayed, stored
	Waits string `json:"waits,omitempty"` // why, if it does nothing, in words
}

// What is done with a file.
const (
	Checking = "checking" // what is here of it
	Fetching = "fetching"
	Giving   = "giving"  // to others
	Storing  = "storing" // at the rendezvous
	Waiting  = "waiting"
)

// What a user may do with the file of a message, besides sending it.
const (
	FileAccept  = "accept" // FileRequest.To: the folder it goes to; empty: the one set for downloads
	FileDecline = "decline"
	FilePause   = "pause" // of an own one: giving it to others
	FileResume  = "resume"
	FileCancel  = "cancel"
)

// SendFileRequest is a message with a file or a folder of this computer.
type SendFileRequest struct {
	ID      string `json:"id,omitempty"` // as in SendRequest
	To      string `json:"to"`
	Text    string `json:"text,omitempty"`
	ReplyTo string `json:"reply_to,omitempty"`
	Path    string `json:"path"`           // absolute
	Name    string `json:"name,omitempty"` // what the file is called for others; empty: as at Path
}

// Sending is how far sending a file is, before the message with it is on its way.
type Sending struct {
	Done    int64    `json:"done"`              // bytes read and sealed
	Size    int64    `json:"size"`              // of
	Skipped []string `json:"skipped,omitempty"` // at the end: what of a folder is not sent, and why
	Message *Message `json:"message,omitempty"` // at the end: the message is durable on this device
}

// FileRequest goes with what a user does with a file.
type FileRequest struct {
	To string `json:"to,omitempty"`
}

// SendFile reads a file and then sends a message with it: what it yields last has the
// message. Nothing is sent if the loop, or ctx, ends before. The file stays where it is:
// others are given what lies there.
func (c *Client) SendFile(ctx context.Context, r SendFileRequest) iter.Seq2[Sending, error] {
	return streamOf[Sending](ctx, c, "POST", "/v1/files", r)
}

// SendPipe reads a file from in to its end, and then sends a message with it; Path of r
// is empty.
func (c *Client) SendPipe(ctx context.Context, r SendFileRequest, in io.Reader) (m Message, err error) {
	q := url.Values{"id": {r.ID}, "to": {r.To}, "text": {r.Text}, "reply_to": {r.ReplyTo}, "name": {r.Name}}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://parley/v1/files/pipe?"+q.Encode(), io.NopCloser(in))
	if err != nil {
		return m, err
	}
	body, err := c.send(req)
	if err != nil {
		return m, err
	}
	defer body.Close()
	return m, decode(body, &m)
}

// Files returns the newest messages of a conversation with files, oldest first; of
// all conversations, if with is empty, those with files that something is to
// be done with.
func (c *Client) Files(ctx context.Context, with string) (list []Message, err error) {
	return list, c.call(ctx, "GET", "/v1/files?"+url.Values{"with": {with}}.Encode(), nil, &list)
}

// ChangeFile does one of the things there are to do with the file of a message.
func (c *Client) ChangeFile(ctx context.Context, id, verb string, r FileRequest) (m Message, err error) {
	return m, c.call(ctx, "POST", "/v1/files/"+url.PathEscape(id)+"/"+url.PathEscape(verb), r, &m)
}

// WatchFile yields the message with a file as it is, and whenever something about it
// changes, until ctx ends or the loop does.
func (c *Client) WatchFile(ctx context.Context, id string) iter.Seq2[Message, error] {
	return stream[Message](ctx, c, "/v1/files/"+url.PathEscape(id)+"/watch")
}
