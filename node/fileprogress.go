package node

import (
	"maps"
	"sync"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
)

// fileProgress is what is being done with files right now. It is for people only: what is
// to be done is in the store, and how far it is on the disk.
type fileProgress struct {
	mu  sync.Mutex
	now map[engine.FileRef]api.Progress // of files that are worked on, so bounded by that
}

func newFileProgress() *fileProgress { return &fileProgress{now: map[engine.FileRef]api.Progress{}} }

func (p *fileProgress) set(at engine.FileRef, now api.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now[at] = now
}

// drop ends what was set.
func (p *fileProgress) drop(at engine.FileRef) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.now, at)
}

// of returns what is done with a file; nil for nothing.
func (p *fileProgress) of(at engine.FileRef) *api.Progress {
	p.mu.Lock()
	defer p.mu.Unlock()
	now, ok := p.now[at]
	if !ok {
		return nil
	}
	return &now
}

// all returns the files that something is done with.
func (p *fileProgress) all() []engine.FileRef {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]engine.FileRef, 0, len(p.now))
	for at := range maps.Keys(p.now) {
		list = append(list, at)
	}
	return list
}
