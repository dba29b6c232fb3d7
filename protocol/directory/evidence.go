package directory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Kind says what evidence proves.
type Kind string

const (
	Fork    Kind = "fork"     // two heads that no one log can have
	Rebound Kind = "rebound"  // one name of two accounts in one log
	SetBack Kind = "set_back" // a chain that did not grow, in one log
)

// Evidence convicts a rendezvous by its own signatures. Anybody can check it.
type Evidence struct {
	Kind   Kind
	Log    Log
	Heads  []Head      // Fork: two, the smaller first; else the one that holds the leaves
	Part   Part        // how the tree of the last head begins; of no size for heads of one size
	Leaves []Inclusion // in the tree of Part; two, unless the kind is Fork
}

// Part says, with a proof, that the tree of a head begins with the tree of Size
// entries and that root.
type Part struct {
	Size  uint64    `json:"size"`
	Root  tlog.Hash `json:"root"`
	Proof Proof     `json:"proof,omitempty"`
}

// Convicted is the error of a log that was caught. It wraps ErrFork or
// ErrContradiction.
type Convicted struct{ Evidence Evidence }

func (c *Convicted) Error() string { return c.Unwrap().Error() + ": " + c.Evidence.String() }

func (c *Convicted) Unwrap() error {
	if c.Evidence.Kind == Fork {
		return ErrFork
	}
	return ErrContradiction
}

// convict returns a *Convicted, or what is wrong with the evidence: nobody is
// accused of what others could not check.
func (l Log) convict(e Evidence) error {
	e.Log = l
	if err := e.check(); err != nil {
		return err
	}
	return &Convicted{e}
}

func kindOf(first, second Leaf) Kind {
	if first.Account != second.Account {
		return Rebound
	}
	return SetBack
}

// check returns nil if the evidence proves its kind. The heads are opened, so
// that they are the log's is known.
func (e Evidence) check() error {
	if e.Kind == Fork {
		return e.checkFork()
	}
	if len(e.Heads) != 1 || len(e.Leaves) != 2 {
		return fmt.Errorf("%w evidence: one head and two entries prove a contradiction", ErrMalformed)
	}
	if err := checkTree(e.Part.Proof, e.Heads[0], e.Part.Size, e.Part.Root); err != nil {
		return err
	}
	for _, i := range e.Leaves {
		if err := i.Check(e.Part.Size, e.Part.Root); err != nil {
			return err
		}
	}
	first, second := e.Leaves[0], e.Leaves[1]
	if first.Index >= second.Index || !first.Leaf.Contradicts(second.Leaf) || e.Kind != kindOf(first.Leaf, second.Leaf) {
		return fmt.Errorf("%w: the entries do not contradict each other", ErrUnproven)
	}
	return nil
}

func (e Evidence) checkFork() error {
	if len(e.Heads) != 2 || len(e.Leaves) != 0 {
		return fmt.Errorf("%w evidence: two heads prove a fork", ErrMalformed)
	}
	small, large := e.Heads[0], e.Heads[1]
	if small.Size == large.Size {
		if small.Root == large.Root || e.Part.Size != 0 || e.Part.Root != (tlog.Hash{}) || len(e.Part.Proof) > 0 {
			return fmt.Errorf("%w: the heads agree", ErrUnproven)
		}
		return nil
	}
	if e.Part.Size != small.Size || e.Part.Root == small.Root {
		return fmt.Errorf("%w: the heads agree", ErrUnproven)
	}
	return checkTree(e.Part.Proof, large, e.Part.Size, e.Part.Root)
}

// String says in a sentence what the evidence proves.
func (e Evidence) String() string {
	at := func(h Head) string { return fmt.Sprintf("%d entries at %s", h.Size, h.Time.Format(time.RFC3339)) }
	switch e.Kind {
	case Fork:
		return fmt.Sprintf("%s signed two logs that differ: of %s, and of %s", e.Log.origin, at(e.Heads[0]), at(e.Heads[1]))
	case Rebound:
		return fmt.Sprintf("%s gave one name to two accounts: to %s in entry %d, to %s in entry %d", e.Log.origin,
			e.Leaves[0].Leaf.Account, e.Leaves[0].Index, e.Leaves[1].Leaf.Account, e.Leaves[1].Index)
	}
	return fmt.Sprintf("%s set the account %s back: from statement %d in entry %d to %d in entry %d", e.Log.origin,
		e.Leaves[0].Leaf.Account, e.Leaves[0].Leaf.Seq, e.Leaves[0].Index, e.Leaves[1].Leaf.Seq, e.Leaves[1].Index)
}

// MaxEvidence bounds a file of evidence, in bytes.
const MaxEvidence = 64 << 10

const evidenceFormat = "parley/1 evidence"

// evidenceFile is the file (SPEC "Evidence").
type evidenceFile struct {
	Format string         `json:"format"`
	Kind   Kind           `json:"kind"`
	Key    string         `json:"key"` // of the log
	Heads  []string       `json:"heads"`
	Part   *Part          `json:"part,omitempty"`
	Leaves []evidenceLeaf `json:"leaves,omitempty"`
}

type evidenceLeaf struct {
	Index uint64 `json:"index"`
	Leaf  []byte `json:"leaf"` // base64
	Proof Proof  `json:"proof,omitempty"`
}

// Marshal returns the file: JSON, with the heads as they were signed.
func (e Evidence) Marshal() []byte {
	f := evidenceFile{Format: evidenceFormat, Kind: e.Kind, Key: e.Log.Key()}
	for _, h := range e.Heads {
		f.Heads = append(f.Heads, h.note)
	}
	if e.Part.Size != 0 {
		f.Part = &e.Part
	}
	for _, i := range e.Leaves {
		f.Leaves = append(f.Leaves, evidenceLeaf{i.Index, i.Leaf.Marshal(), i.Proof})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	enc.Encode(f) // cannot fail: there is nothing in it that JSON has not
	return b.Bytes()
}

// CheckEvidence reads a file of evidence and checks it: nil means that the
// rendezvous of Evidence.Log did what Evidence.String says. Whether that
// rendezvous is one's own, the reader must see. An error wraps ErrMalformed,
// ErrBadSignature or ErrUnproven.
func CheckEvidence(b []byte) (Evidence, error) {
	e, err := parseEvidence(b)
	if err != nil {
		return Evidence{}, fmt.Errorf("check evidence: %w", err)
	}
	if err := e.check(); err != nil {
		return Evidence{}, fmt.Errorf("check evidence: %w", err)
	}
	return e, nil
}

func parseEvidence(b []byte) (e Evidence, err error) {
	if len(b) > MaxEvidence {
		return Evidence{}, fmt.Errorf("%w: file of %d bytes", ErrMalformed, len(b))
	}
	var f evidenceFile
	if err := json.Unmarshal(b, &f); err != nil {
		return Evidence{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if f.Format != evidenceFormat {
		return Evidence{}, fmt.Errorf("%w: not a file of evidence", ErrMalformed)
	}
	if len(f.Heads) > 2 || len(f.Leaves) > 2 { // before any signature is checked: each costs time
		return Evidence{}, fmt.Errorf("%w: %d heads and %d entries", ErrMalformed, len(f.Heads), len(f.Leaves))
	}
	e.Kind = f.Kind
	if e.Log, err = parseKey(f.Key); err != nil {
		return Evidence{}, err
	}
	for _, text := range f.Heads {
		h, err := e.Log.Open([]byte(text))
		if err != nil {
			return Evidence{}, err
		}
		e.Heads = append(e.Heads, h)
	}
	if f.Part != nil {
		e.Part = *f.Part
	}
	for _, l := range f.Leaves {
		leaf, err := ParseLeaf(l.Leaf)
		if err != nil {
			return Evidence{}, err
		}
		e.Leaves = append(e.Leaves, Inclusion{l.Index, leaf, l.Proof})
	}
	if !bytes.Equal(e.Marshal(), b) { // one file for one accusation
		return Evidence{}, fmt.Errorf("%w: not as it is written", ErrMalformed)
	}
	return e, nil
}
