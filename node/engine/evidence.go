package engine

import (
	"fmt"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// What convicts the rendezvous goes to all contacts, and is checked by each who
// gets it (SPEC "Gossip").

// hearEvidence takes over what convicts our rendezvous, if it does.
func (w *work) hearEvidence(from protocol.AccountID, p *peerRow, file []byte) error {
	v, err := w.e.logView(w.tx)
	if err != nil {
		return err
	}
	e, err := directory.CheckEvidence(file)
	if err != nil || e.Log.Origin() != v.Log.Origin() {
		return nil
	}
	if err := w.markTold(from, file); err != nil {
		return err
	}
	m, err := w.e.mirrored(w.tx, v.Log)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(e.Heads, func(h directory.Head) bool { return h.Time.Before(m.accepted) }) {
		return nil // the user has seen it
	}
	cause := &logChanged{cause: &directory.Convicted{Evidence: e}, held: e.Heads[0].Bytes(), shown: e.Heads[len(e.Heads)-1].Bytes()}
	news, err := w.raise(cause.alarm(w.now))
	if err != nil || !news {
		return err
	}
	return w.notice(NoticeLogChanged, from, fmt.Sprintf("%s sent evidence: %v", p.name, e))
}

// markTold notes that an account has the evidence.
func (w *work) markTold(a protocol.AccountID, file []byte) error {
	r, _, err := load[heardRow](w.tx, keyHeard(a))
	if err != nil {
		return err
	}
	r.told = protocol.IDOf(file)
	return w.put(keyHeard(a), &r)
}

// spreadEvidence sends what convicts the rendezvous to all contacts, and to our
// other devices, once, as far as one transaction may carry it. It begins behind
// an account.
func (w *work) spreadEvidence(after []byte) error {
	alarm, _, err := load[logAlarmRow](w.tx, w.e.keyLogAlarm())
	if err != nil || len(alarm.Evidence) == 0 {
		return err
	}
	start := []byte{tablePeer}
	if len(after) > 0 {
		start = store.PrefixEnd(store.Key(tablePeer, after))
	}
	for pair, err := range w.tx.Scan(start, store.PrefixEnd([]byte{tablePeer})) {
		if err != nil {
			return err
		}
		a := protocol.AccountID(pair.Key[1:])
		if err := w.tellEvidence(a, alarm.Evidence); err != nil {
			return err
		}
		if w.full(0) {
			return w.at(w.now, timerEvidence, a[:])
		}
	}
	return nil
}

// tellEvidence sends the evidence to the devices of an account, unless it has it.
func (w *work) tellEvidence(a protocol.AccountID, file []byte) error {
	p, err := w.peer(a)
	if err != nil || !p.close() {
		return err
	}
	r, _, err := load[heardRow](w.tx, keyHeard(a))
	if err != nil || r.told == protocol.IDOf(file) {
		return err
	}
	for _, device := range p.valid(w.now) {
		d, err := w.device(device)
		if err != nil {
			return err
		}
		if err := w.postUrgent(device, d, &wire.Content{Evidence: file}); err != nil {
			return err
		}
	}
	return w.markTold(a, file)
}
