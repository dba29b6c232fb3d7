package node

import (
	"cmp"
	"context"
	"errors"
	"io"
	"iter"
	"mime"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/transfer"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

// SendFile reads a file or a folder, seals it once to know its pieces, and then writes a
// message with it: what it yields last has that. If the loop or ctx ends before, nothing
// was sent.
func (n *Node) SendFile(ctx context.Context, r api.SendFileRequest) iter.Seq2[api.Sending, error] {
	return func(yield func(api.Sending, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(n.ctx, cancel)()
		job := &sendJob{n: n, r: r}
		ended := make(chan struct{})
		go func() { // ends with ctx, which this loop waits for
			defer close(ended)
			job.run(ctx)
		}()
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				yield(job.result, answer(job.err))
				return
			case <-tick.C:
			}
			if !yield(api.Sending{Done: job.done.Load(), Size: job.size.Load()}, nil) {
				cancel()
				<-ended
				return
			}
		}
	}
}

// sendJob is one file that is being prepared and sent.
type sendJob struct {
	n          *Node
	r          api.SendFileRequest
	done, size atomic.Int64
	result     api.Sending // result and err are read when it has ended
	err        error
}

func (j *sendJob) run(ctx context.Context) {
	if !j.n.enter() {
		j.err = context.Canceled
		return
	}
	defer j.n.leave()
	j.result, j.err = j.send(ctx)
}

func (j *sendJob) send(ctx context.Context) (sent api.Sending, err error) {
	if !filepath.IsAbs(j.r.Path) {
		return sent, &api.Error{Code: api.ErrBadInput, Text: "the path must be absolute, such as /home/you/film.mkv"}
	}
	id, err := j.n.maySendFile(ctx, &j.r)
	if err != nil {
		return sent, err
	}
	content, skipped, err := transfer.Open(j.r.Path)
	if err != nil {
		return sent, err
	}
	defer content.Close()
	j.size.Store(content.Size())
	name := cmp.Or(j.r.Name, filepath.Base(j.r.Path))
	d, list, err := transfer.Prepare(ctx, content, name, j.done.Store)
	if err != nil {
		return sent, err
	}
	if !d.Folder {
		j.n.describe(ctx, d, content)
	}
	m, _, err := j.n.sendPrepared(ctx, id, j.r, &engine.FileDraft{Descriptor: *d, Path: j.r.Path}, list)
	return api.Sending{Done: d.Size, Size: d.Size, Skipped: skipped, Message: &m}, err
}

// SendPipe reads a file to its end, keeps a sealed copy of it, and then writes a message
// with it.
func (n *Node) SendPipe(ctx context.Context, r api.SendFileRequest, in io.Reader) (m api.Message, err error) {
	if r.Name == "" {
		return m, &api.Error{Code: api.ErrBadInput, Text: "what comes from a pipe needs a name"}
	}
	id, err := n.maySendFile(ctx, &r)
	if err != nil {
		return m, answer(err)
	}
	path := filepath.Join(filesDir(n.dir), protocol.NewMsgID().String()+".spool")
	d, list, err := transfer.Spool(ctx, in, path, r.Name)
	if err != nil {
		return m, answer(err)
	}
	d.Type = mediaType(d.Name)
	m, used, err := n.sendPrepared(ctx, id, r, &engine.FileDraft{Descriptor: *d, Path: path, Spool: true}, list)
	if !used {
		err = errors.Join(err, os.Remove(path))
	}
	return m, answer(err)
}

// maySendFile looks, before a file is read that may be large, whether it can be sent at
// all.
func (n *Node) maySendFile(ctx context.Context, r *api.SendFileRequest) (id protocol.MsgID, err error) {
	id = protocol.NewMsgID()
	if r.ID != "" {
		if err := id.UnmarshalText([]byte(r.ID)); err != nil {
			return id, err
		}
	}
	return id, n.kv.View(ctx, func(tx store.Tx) error {
		with, err := n.conversation(tx, r.To)
		if err != nil {
			return err
		}
		return n.eng.MayWrite(tx, n.now(), with, r.Text, true)
	})
}

// sendPrepared keeps the list of a file and writes the message with it. It is not used if
// the message of that id was written before, with the same file.
func (n *Node) sendPrepared(ctx context.Context, id protocol.MsgID, r api.SendFileRequest, draft *engine.FileDraft, list file.List) (sent api.Message, used bool, err error) {
	if draft.Descriptor.Inline == nil {
		kept := n.listPath(draft.Descriptor.List)
		if err := transfer.SaveList(kept, list); err != nil {
			return sent, false, err
		}
		defer func() {
			if !used {
				err = errors.Join(err, os.Remove(kept))
			}
		}()
	}
	n.home.busy()
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		h, err := n.compose(tx, id, api.SendRequest{To: r.To, Text: r.Text, ReplyTo: r.ReplyTo}, draft)
		if err != nil {
			return engine.Hint{}, err
		}
		m, err := n.eng.Message(tx, id)
		sent = n.names(tx).message(m)
		used = m.File != nil && m.File.ID == draft.Descriptor.ID
		return h, err
	})
	return sent, used && err == nil, err
}

// describe adds to a descriptor what kind of file it is, and of a picture a small one.
func (n *Node) describe(ctx context.Context, d *file.Descriptor, content transfer.Content) {
	d.Type = mediaType(d.Name)
	if !strings.HasPrefix(d.Type, "image/") {
		return
	}
	thumbnail, err := n.thumbnail(ctx, content)
	if err == nil {
		d.Thumbnail = thumbnail
	} else {
		n.log.Debug("no thumbnail", "err", err)
	}
}

// thumbnailTime is how long a small picture may take to make: the largest takes two seconds.
const thumbnailTime = 10 * time.Second

// thumbnail makes the small picture of a picture, one at a time.
func (n *Node) thumbnail(ctx context.Context, content transfer.Content) ([]byte, error) {
	select {
	case n.thumbs <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-n.thumbs }()
	ctx, cancel := context.WithTimeout(ctx, thumbnailTime)
	defer cancel()
	return transfer.Thumbnail(ctx, content, content.Size())
}

// mediaType is what a file's name says about its kind; empty if it says nothing.
func mediaType(name string) string {
	kind, _, err := mime.ParseMediaType(mime.TypeByExtension(filepath.Ext(name)))
	if err != nil || len(kind) > file.MaxType {
		return ""
	}
	return kind
}
