package engine

import (
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

// The log of the directory is mirrored: all of its entries, the hashes of its
// tree, and where the newest entry of each label is. Whoever has them can say of
// any head whether it is of the same log.

const (
	hashesPerRow = 256  // 8 KiB
	leavesPerRow = 64   // 6.5 KiB
	maxPage      = 2048 // entries taken in at a time; more do not fit a transaction

	// maxMirror is how many entries are mirrored, which takes about 1 GB. A log
	// that is longer is proven look-up by look-up only.
	maxMirror = 1 << 22
)

// mirrorRow says how much of the log is mirrored.
type mirrorRow struct {
	gen   uint64 // in the keys of the mirror's rows; those of lower ones are to be deleted
	size  uint64 // entries
	head  []byte // the last head whose entries were all mirrored, as it was signed
	reads uint64 // how often the log was read to its end

	accepted time.Time // when the user last accepted the log as it is; older heads are not compared
	dropped  []byte    // the heads that were held then: what was found against them is told no more

	problem string // why the log could not be read on the last time; "": it could
	told    string // the notice that was made of it, so that it is made once
}

func (r *mirrorRow) encode() []byte {
	e := newRow(64 + len(r.head) + len(r.dropped) + len(r.problem))
	e.u64(r.gen)
	e.u64(r.size)
	e.bytes(r.head)
	e.u64(r.reads)
	e.time(r.accepted)
	e.bytes(r.dropped)
	e.string(r.problem)
	e.string(r.told)
	return e.b
}

func (r *mirrorRow) decode(b []byte) error {
	d := readRow(b)
	r.gen, r.size, r.head, r.reads = d.u64(), d.u64(), d.bytes(), d.u64()
	r.accepted, r.dropped, r.problem, r.told = d.time(), d.bytes(), d.string(), d.string()
	return d.end("mirror")
}

// packedRow holds items of one size.
type packedRow struct{ items []byte }

func (r *packedRow) encode() []byte {
	e := newRow(4 + len(r.items))
	e.bytes(r.items)
	return e.b
}

func (r *packedRow) decode(b []byte) error {
	d := readRow(b)
	r.items = d.bytes()
	return d.end("packed")
}

// newestRow is where the newest entry of a label is.
type newestRow struct{ index uint64 }

func (r *newestRow) encode() []byte {
	e := newRow(8)
	e.u64(r.index)
	return e.b
}

func (r *newestRow) decode(b []byte) error {
	d := readRow(b)
	r.index = d.u64()
	return d.end("label")
}

func keyMirror() []byte { return store.Key(tableMirror) }

// mirror reads what is mirrored of the log. It implements directory.Rows.
type mirror struct {
	mirrorRow
	tx   store.Tx
	full directory.Head    // mirrorRow.head
	read map[string][]byte // rows of hashes that were read
}

// mirrored reads how far the log is mirrored.
func (e *Engine) mirrored(tx store.Tx, log directory.Log) (*mirror, error) {
	r, _, err := load[mirrorRow](tx, keyMirror())
	if err != nil {
		return nil, err
	}
	m := &mirror{mirrorRow: r, tx: tx, read: map[string][]byte{}}
	if len(r.head) == 0 {
		return m, nil
	}
	if m.full, err = log.Open(r.head); err != nil || m.full.Size > r.size {
		return nil, fmt.Errorf("mirror row: %w", store.ErrDamaged)
	}
	return m, nil
}

// ReadHashes implements directory.Rows.
func (m *mirror) ReadHashes(indexes []int64) ([]directory.Hash, error) {
	hashes := make([]directory.Hash, len(indexes))
	for i, index := range indexes {
		key := store.Key(tableLogHash, m.gen, uint64(index)/hashesPerRow)
		items, ok := m.read[string(key)]
		if !ok {
			var err error
			if items, err = packed(m.tx, key); err != nil {
				return nil, err
			}
			m.read[string(key)] = items
		}
		item, err := itemAt(items, uint64(index)%hashesPerRow, directory.HashSize)
		if err != nil {
			return nil, err
		}
		hashes[i] = directory.Hash(item)
	}
	return hashes, nil
}

// Newest implements directory.Rows.
func (m *mirror) Newest(label [32]byte) (leaf directory.Leaf, index uint64, ok bool, err error) {
	r, ok, err := load[newestRow](m.tx, m.keyNewest(label))
	if err != nil || !ok {
		return leaf, 0, false, err
	}
	items, err := packed(m.tx, store.Key(tableLogLeaf, m.gen, r.index/leavesPerRow))
	if err != nil {
		return leaf, 0, false, err
	}
	item, err := itemAt(items, r.index%leavesPerRow, directory.LeafSize)
	if err != nil {
		return leaf, 0, false, err
	}
	leaf, err = directory.ParseLeaf(item)
	return leaf, r.index, true, err
}

func (m *mirror) keyNewest(label [32]byte) []byte { return store.Key(tableLogLabel, m.gen, label[:]) }

// mirror stores what a page adds, and changes m.
func (w *work) mirror(m *mirror, page directory.Page, f directory.Folded) error {
	hashes := directory.HashCount(m.size)
	if err := w.pack(tableLogHash, m.gen, hashes, hashesPerRow, directory.Proof(f.Hashes).Bytes(), directory.HashSize); err != nil {
		return err
	}
	leaves := make([]byte, 0, len(page.Leaves)*directory.LeafSize)
	for _, leaf := range page.Leaves {
		leaves = append(leaves, leaf.Marshal()...)
	}
	if err := w.pack(tableLogLeaf, m.gen, m.size, leavesPerRow, leaves, directory.LeafSize); err != nil {
		return err
	}
	for label, index := range f.Newest {
		if err := w.put(m.keyNewest(label), &newestRow{index}); err != nil {
			return err
		}
	}
	m.size = f.Size
	clear(m.read)
	return nil
}

// pack adds items of one size behind the first count ones of a table.
func (w *work) pack(table byte, gen, count, perRow uint64, items []byte, size int) error {
	for len(items) > 0 {
		key := store.Key(table, gen, count/perRow)
		var r packedRow
		if have := int(count%perRow) * size; have > 0 {
			before, err := packed(w.tx, key)
			if err != nil {
				return err
			}
			if len(before) < have {
				return fmt.Errorf("packed row: %w", store.ErrDamaged)
			}
			r.items = before[:have:have]
		}
		n := min(len(items), int(perRow)*size-len(r.items))
		r.items = append(r.items, items[:n]...)
		if err := w.put(key, &r); err != nil {
			return err
		}
		items, count = items[n:], count+uint64(n/size)
	}
	return nil
}

// packed reads the items of a row.
func packed(tx store.Tx, key []byte) ([]byte, error) {
	r, ok, err := load[packedRow](tx, key)
	if err == nil && !ok {
		err = fmt.Errorf("packed row is missing: %w", store.ErrDamaged)
	}
	return r.items, err
}

func itemAt(items []byte, i uint64, size int) ([]byte, error) {
	if (i+1)*uint64(size) > uint64(len(items)) {
		return nil, fmt.Errorf("packed row: %w", store.ErrDamaged)
	}
	return items[i*uint64(size):][:size], nil
}

// sweepMirror deletes the rows of mirrors that were dropped.
func (w *work) sweepMirror() error {
	m, _, err := load[mirrorRow](w.tx, keyMirror())
	if err != nil {
		return err
	}
	for _, table := range []byte{tableLogHash, tableLogLeaf, tableLogLabel} {
		for pair, err := range w.tx.Scan([]byte{table}, store.Key(table, m.gen)) {
			if err != nil {
				return err
			}
			if w.full(0) { // small rows: bounded by their size
				return w.at(w.now, timerMirror, nil)
			}
			if err := w.delete(pair.Key); err != nil {
				return err
			}
		}
	}
	return nil
}
