package badger

// recent remembers rows that updates read or wrote lately, because Badger
// looks through all its levels for every read, the more so for rows that change
// often, such as counters. Only updates use it: they take turns and always see
// the latest commit, so what it holds is never out of date.
//
// It keeps two generations; a full young one becomes the old one.
type recent struct {
	young, old map[string]write
	size       int // bytes of young
}

const (
	recentSize   = 1 << 20 // bytes of one generation
	recentMaxRow = 1 << 10 // bytes of a value worth keeping
)

func (r *recent) get(row []byte) (w write, ok bool) {
	if w, ok = r.young[string(row)]; !ok {
		w, ok = r.old[string(row)]
	}
	return w, ok
}

// put remembers a row; the caller must not change the value any more.
func (r *recent) put(row []byte, w write) {
	if len(w.value) > recentMaxRow {
		delete(r.young, string(row))
		delete(r.old, string(row))
		return
	}
	if r.size > recentSize || r.young == nil {
		r.young, r.old, r.size = make(map[string]write, len(r.young)), r.young, 0
	}
	r.young[string(row)] = w
	r.size += len(row) + len(w.value) + 100
}
