package engine

import (
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

// FilesKept returns what is kept outside of the store for files: parts, copies, and lists
// of pieces. What is there and not among it was left by a crash.
func (e *Engine) FilesKept(tx store.Tx) (list []FileEnd, err error) {
	add := func(end FileEnd) {
		if end.Part != "" || end.Spool != "" || end.List != (file.Hash{}) {
			list = append(list, end)
		}
	}
	err = all(tx, []byte{tableFile}, func(pair store.Pair) (bool, error) {
		r, err := decodeRow[fileRow](pair.Value)
		end := FileEnd{FileRef: fileRefOf(pair.Key), ID: r.id, Name: r.name, List: r.list}
		if r.partial() {
			end.Part = r.path
		}
		if r.spool {
			end.Spool = r.path
		}
		add(end)
		return true, err
	})
	if err != nil {
		return nil, err
	}
	err = eachFileEnd(tx, func(end FileEnd) bool {
		add(end)
		return true
	})
	return list, err
}
