package engine

import (
	"fmt"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/store"
)

// A log that does not contradict itself may still say what is false: what it says
// of this account, and of everybody known here, is held against their chains.

// watchNames looks at the newest entries of the names that are known here, if
// they are not among the first since. The log was read to its end.
func (w *work) watchNames(log directory.Log, m *mirror, since uint64) error {
	if err := w.watchOwn(log, m, since, false); err != nil {
		return err
	}
	return eachPeer(w.tx, func(id protocol.AccountID, p *peerRow) error {
		if p.name == "" || p.relation == Self {
			return nil
		}
		newer, err := w.watchName(log, m, since, id, p.name)
		if err != nil || !newer || !p.listed() {
			return err
		}
		return w.wantRefresh(id)
	})
}

// watchOwn is watchName for this account. A statement that is not known is
// looked up; if that was done and it is still not, somebody else made it.
func (w *work) watchOwn(log directory.Log, m *mirror, since uint64, asked bool) error {
	id := w.e.id
	newer, err := w.watchName(log, m, since, id.Account, id.Name)
	if err != nil || !newer {
		return err
	}
	if !asked {
		return w.wantRefresh(id.Account)
	}
	leaf, index, _, err := m.Newest(directory.Label(log.Origin(), id.Name))
	if err != nil {
		return err
	}
	return w.falseEntry(m, index, leaf, "an entry says that this account has a statement %d, which is shown to nobody here", leaf.Seq)
}

// watchName tells whether the newest entry of a name is about a newer statement
// than is known of the account. If it says what is false, the alarm is kept.
func (w *work) watchName(log directory.Log, m *mirror, since uint64, id protocol.AccountID, name string) (newer bool, err error) {
	leaf, index, ok, err := m.Newest(directory.Label(log.Origin(), name))
	if err != nil || !ok || index < since {
		return false, err
	}
	if leaf.Account != id {
		return false, w.falseEntry(m, index, leaf, "an entry gives the name %q to another account, %s", name, leaf.Account)
	}
	b, err := get(w.tx, keyChain(id))
	if err != nil || b == nil {
		return false, err
	}
	chain, err := account.ParseChain(b)
	if err != nil {
		return false, fmt.Errorf("chain row: %w", store.ErrDamaged)
	}
	head, known := chain.HeadAt(leaf.Seq)
	if known && head != leaf.Head {
		return false, w.falseEntry(m, index, leaf, "an entry gives %q another statement %d than the one known here", name, leaf.Seq)
	}
	return !known, nil
}

// falseEntry keeps an entry of the log that says what is false, with its proof.
func (w *work) falseEntry(m *mirror, index uint64, leaf directory.Leaf, format string, args ...any) error {
	in, err := directory.ProveInclusion(index, leaf, m.full.Size, m)
	if err != nil {
		return err
	}
	r := logAlarmRow{At: w.now, Problem: fmt.Sprintf(format, args...), Shown: m.head, Entry: in}
	news, err := w.raise(r)
	if err != nil || !news {
		return err
	}
	return w.notice(NoticeFalseEntry, w.e.id.Account, "the directory's log says what is not so: "+r.Problem)
}
