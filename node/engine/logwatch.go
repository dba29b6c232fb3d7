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
	watch := func(id protocol.AccountID, name string) error {
		newer, err := w.watchName(log, m, since, id, name)
		if err != nil || !newer {
			return err
		}
		return w.wantRefresh(id)
	}
	if err := watch(w.e.id.Account, w.e.id.Name); err != nil {
		return err
	}
	return eachPeer(w.tx, func(id protocol.AccountID, p *peerRow) error {
		if !p.listed() {
			return nil
		}
		return watch(id, p.name)
	})
}

// ownStatementHidden keeps the alarm if the log names a statement of this account
// that was asked for, and was not shown: somebody else made it.
func (w *work) ownStatementHidden() error {
	v, err := w.e.logView(w.tx)
	if err != nil {
		return err
	}
	m, err := w.e.mirrored(w.tx, v.Log)
	if err != nil {
		return err
	}
	newer, err := w.watchName(v.Log, m, 0, w.e.id.Account, w.e.id.Name)
	if err != nil || !newer {
		return err
	}
	leaf, index, _, err := m.Newest(directory.Label(v.Log.Origin(), w.e.id.Name))
	if err != nil {
		return err
	}
	return w.falseEntry(m, index, leaf, "an entry says that this account has a statement %d, which continues nothing that is known here", leaf.Seq)
}

// watchName tells whether the newest entry of a name is about a newer statement
// than is known of the account. If it says what is false, the alarm is kept.
func (w *work) watchName(log directory.Log, m *mirror, since uint64, id protocol.AccountID, name string) (newer bool, err error) {
	leaf, index, ok, err := m.Newest(directory.Label(log.Origin(), name))
	if err != nil || !ok || index < since || index >= m.full.Size {
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
