package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

// ChangeFile does something with the file of a message: accept, decline, pause, resume,
// cancel. It returns what the message is then.
func (n *Node) ChangeFile(ctx context.Context, id, verb string, r api.FileRequest) (now api.Message, err error) {
	folder := ""
	if verb == api.FileAccept {
		if folder, err = n.downloadTo(r.To); err != nil {
			return now, answer(err)
		}
	}
	n.home.busy()
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		found, err := n.findMessage(tx, id)
		if err != nil {
			return engine.Hint{}, err
		}
		h, err := n.changeFile(tx, found, verb, folder)
		if err != nil {
			return engine.Hint{}, err
		}
		m, err := n.eng.Message(tx, found)
		now = n.names(tx).message(m)
		return h, err
	})
	return now, answer(err)
}

func (n *Node) changeFile(tx store.Tx, id protocol.MsgID, verb, folder string) (engine.Hint, error) {
	switch verb {
	case api.FileAccept:
		return n.wantFile(tx, id, folder)
	case api.FileDecline:
		return n.eng.DeclineFile(tx, n.now(), id)
	case api.FilePause:
		return n.eng.PauseFile(tx, n.now(), id)
	case api.FileResume:
		return n.eng.ResumeFile(tx, n.now(), id)
	case api.FileCancel:
		return n.eng.CancelFile(tx, n.now(), id)
	}
	return engine.Hint{}, &api.Error{Code: api.ErrNotFound, Text: "nothing to do with a file is called " + strconv.Quote(verb)}
}

// wantFile has a file fetched: also one that was here, and is not any more.
func (n *Node) wantFile(tx store.Tx, id protocol.MsgID, folder string) (engine.Hint, error) {
	m, err := n.eng.Message(tx, id)
	if err != nil {
		return engine.Hint{}, err
	}
	if f := m.File; f != nil && f.State == engine.FileDone {
		if _, err := os.Lstat(f.Path); !errors.Is(err, fs.ErrNotExist) {
			return engine.Hint{}, fmt.Errorf("%w: %s", engine.ErrFileHere, f.Path)
		}
		if _, err := n.eng.FileChanged(tx, n.now(), f.FileRef, "it is not there any more"); err != nil {
			return engine.Hint{}, err
		}
	}
	return n.eng.WantFile(tx, n.now(), id, folder)
}

// downloadTo is the folder that an accepted file goes to: empty: the one set for downloads,
// which is made if it is not there.
func (n *Node) downloadTo(folder string) (string, error) {
	if folder == "" {
		if err := os.MkdirAll(n.downloads, 0o700); err != nil {
			return "", fmt.Errorf("make the folder for downloads: %w", err)
		}
		return n.downloads, nil
	}
	info, err := os.Stat(folder)
	if err != nil || !info.IsDir() || !filepath.IsAbs(folder) {
		return "", &api.Error{Code: api.ErrBadInput, Text: strconv.Quote(folder) + " is not a folder"}
	}
	return folder, nil
}

// filesShown is how many files of a conversation are listed.
const filesShown = 100

// Files returns the newest messages of a conversation that carry files, oldest first; of
// all conversations, if with is empty, those with whose files something is done or to be
// done.
func (n *Node) Files(ctx context.Context, with string) (list []api.Message, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		files, err := n.filesOf(tx, with)
		if err != nil {
			return err
		}
		for _, f := range files {
			m, err := n.eng.Message(tx, f.Message)
			if err != nil {
				return err
			}
			list = append(list, n.names(tx).message(m))
		}
		return nil
	})
	return list, answer(err)
}

func (n *Node) filesOf(tx store.Tx, with string) ([]engine.File, error) {
	if with != "" {
		a, err := n.conversation(tx, with)
		if err != nil {
			return nil, err
		}
		return n.eng.Files(tx, a, filesShown)
	}
	files, err := n.eng.OpenFiles(tx)
	if err != nil {
		return nil, err
	}
	open := map[engine.FileRef]bool{}
	for _, f := range files {
		open[f.FileRef] = true
	}
	for _, at := range n.files.busy() { // as of one that was stored and is being given
		if f, err := n.eng.File(tx, at); err == nil && !open[at] {
			files = append(files, f)
		}
	}
	return files, nil
}

// watchEvery is how often somebody who watches a file is told how far it is.
const watchEvery = 200 * time.Millisecond

// WatchFile yields the message with a file, and again whenever something about it has
// changed, until ctx ends or the node is closed.
func (n *Node) WatchFile(ctx context.Context, id string) iter.Seq2[api.Message, error] {
	return func(yield func(api.Message, error) bool) {
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		var last api.Message
		for {
			changed := n.events.next()
			m, err := n.fileMessage(ctx, id)
			if ctx.Err() != nil || n.ctx.Err() != nil {
				return
			}
			if err != nil {
				yield(m, answer(err))
				return
			}
			if !reflect.DeepEqual(m, last) && !yield(m, nil) {
				return
			}
			last = m
			select {
			case <-changed:
			case <-tick.C:
			case <-ctx.Done():
				return
			case <-n.ctx.Done():
				return
			}
		}
	}
}

func (n *Node) fileMessage(ctx context.Context, id string) (out api.Message, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		found, err := n.findMessage(tx, id)
		if err != nil {
			return err
		}
		m, err := n.eng.Message(tx, found)
		if err == nil && m.File == nil {
			err = engine.ErrNoFile
		}
		out = n.names(tx).message(m)
		return err
	})
	return out, err
}

// file is what faces see of a file; nil for nil.
func (s names) file(f *engine.File) *api.File {
	if f == nil {
		return nil
	}
	return &api.File{
		Name: f.Name, Size: f.Size, Type: f.Type, Folder: f.Folder, Thumbnail: f.Thumbnail, State: f.State.String(), Asks: f.Asks,
		Path: f.Path, Problem: f.Problem, Answer: f.Answer.String(), Stored: f.Stored.After(s.n.now()), Progress: s.n.files.progress(f.FileRef),
	}
}

// fileChanged tells people how far a file is; empty if nobody has to be told.
func (s names) fileChanged(e engine.Event, by string) string {
	f := e.Message.File
	if f == nil {
		return ""
	}
	if e.By != s.n.self.Account {
		switch engine.FileAnswer(e.Text) {
		case engine.FileTaken:
			return by + " has " + strconv.Quote(f.Name) + " now"
		case engine.FileRefused:
			return by + " does not want " + strconv.Quote(f.Name)
		}
		return ""
	}
	switch state := engine.FileState(e.Text); { // as it was then
	case state == engine.FileDone && !f.Source:
		return strconv.Quote(f.Name) + " is here: " + f.Path
	case state == engine.FileFailed:
		return strconv.Quote(f.Name) + " could not be fetched: " + f.Problem
	case state == engine.FileChanged && f.Source:
		return strconv.Quote(f.Name) + " cannot be given to others any more: " + f.Problem
	}
	return ""
}

// filesDir is the folder for what is kept of files besides the store: lists of pieces, and
// copies of what came from pipes.
func filesDir(dir string) string { return filepath.Join(dir, "files") }

// listPath is where the list of a file's pieces is, if it is not in the descriptor: by its
// hash, so that nobody who takes the id of another's file for his own gets at its list.
func (n *Node) listPath(list file.Hash) string {
	return filepath.Join(filesDir(n.dir), hex.EncodeToString(list[:])+".list")
}
