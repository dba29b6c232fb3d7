package engine

import (
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// What a backup holds of the conversations.

const (
	archiveBatch = 100       // messages at once
	archiveBytes = 256 << 10 // of text; one message more may go over it
)

// ArchivePast returns messages of a conversation before a position (0: the
// end), newest first, at least one and as many as one transaction takes in
// again; nil if there are no more. Holes are left out. Next is where to go on.
func (e *Engine) ArchivePast(tx store.Tx, with protocol.AccountID, before uint64) (past *wire.Past, next uint64, err error) {
	end := store.PrefixEnd(store.Key(tableHistory, with[:]))
	if before > 0 {
		end = keyHistory(with, before)
	}
	past = &wire.Past{With: with[:]}
	size := 0
	for pair, err := range tx.ScanDown(keyHistory(with, 0), end) {
		if err != nil {
			return nil, 0, err
		}
		h, err := decodeRow[historyRow](pair.Value)
		if err != nil {
			return nil, 0, err
		}
		next = keyNumber(pair.Key)
		if h.state == StateHole {
			continue
		}
		if err := h.readText(tx, with, next); err != nil {
			return nil, 0, err
		}
		past.Messages = append(past.Messages, &wire.PastMessage{
			MsgId: h.id[:], Device: h.device[:], Mine: h.mine, Text: h.text,
			SentMs: uint64(millis(h.sent)), RecordedMs: uint64(millis(h.recorded)), State: uint32(indexOf(states, h.state)),
		})
		if size += len(h.text); len(past.Messages) == archiveBatch || size >= archiveBytes {
			break
		}
	}
	if len(past.Messages) == 0 {
		return nil, 0, nil
	}
	return past, next, nil
}

// TakePast takes messages that ArchivePast returned, or another device of the
// account sent, into the history. Taking them again changes nothing.
func (e *Engine) TakePast(tx store.Tx, now time.Time, past *wire.Past) (Hint, error) {
	w, err := e.begin(tx, now)
	if err != nil {
		return Hint{}, err
	}
	if err := w.takePast(past); err != nil {
		return Hint{}, err
	}
	return w.end()
}
