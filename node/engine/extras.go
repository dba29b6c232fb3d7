package engine

import (
	"slices"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/wire"
)

// Bounds of what goes with a text.
const (
	MaxMentions = 32
	MaxLasts    = 365 * 24 * time.Hour
)

// extras is what most messages do not have.
type extras struct {
	reply    Ref
	mentions []protocol.AccountID
	edited   time.Time     // at_ms of the edit in force; zero: never
	lasts    time.Duration // 0: for ever
	expires  time.Time     // zero: not known yet
	marked   bool          // there are marks of it
	pinned   bool
	deleted  bool             // for everyone
	hidden   bool             // not shown any more; the row stays, so that a copy is not shown either
	gone     bool             // the text is destroyed: deleted, or hidden and no copy has to be sealed again
	carries  bool             // a file:
	file     *file.Descriptor // kept with the text; nil also if the row was read without that
}

func (x *extras) isZero() bool {
	return x.reply.IsZero() && len(x.mentions) == 0 && x.edited.IsZero() && x.lasts == 0 && x.expires.IsZero() &&
		!x.marked && !x.pinned && !x.deleted && !x.hidden && !x.gone && !x.carries
}

func (x *extras) encode(e *encoder) {
	e.bool(x.marked, x.pinned, x.deleted, x.hidden, x.gone, x.carries)
	e.raw(x.reply.Author[:])
	e.raw(x.reply.ID[:])
	e.u8(uint8(len(x.mentions)))
	for _, a := range x.mentions {
		e.raw(a[:])
	}
	e.time(x.edited)
	e.u64(uint64(x.lasts / time.Millisecond))
	e.time(x.expires)
}

func (x *extras) decode(d *decoder) {
	d.bool(&x.marked, &x.pinned, &x.deleted, &x.hidden, &x.gone, &x.carries)
	d.fixed(x.reply.Author[:])
	d.fixed(x.reply.ID[:])
	if n := d.count(32); n > 0 {
		x.mentions = make([]protocol.AccountID, n)
	}
	for i := range x.mentions {
		d.fixed(x.mentions[i][:])
	}
	x.edited = d.time()
	x.lasts = lastsOf(d.u64())
	x.expires = d.time()
}

// refOf reads a Ref; not ok if it names no message.
func refOf(r *wire.Ref) (ref Ref, ok bool) {
	author, err := protocol.FromBytes[protocol.AccountID](r.GetAuthor())
	id, err2 := protocol.FromBytes[protocol.MsgID](r.GetMsgId())
	if err != nil || err2 != nil {
		return Ref{}, false
	}
	return Ref{author, id}, true
}

// wire is nil for the zero Ref.
func (r Ref) wire() *wire.Ref {
	if r.IsZero() {
		return nil
	}
	return &wire.Ref{Author: slices.Clone(r.Author[:]), MsgId: slices.Clone(r.ID[:])}
}

// mentionsOf reads mentioned accounts, each once, as many as there may be.
func mentionsOf(raw [][]byte) (list []protocol.AccountID) {
	for _, b := range raw[:min(len(raw), MaxMentions)] {
		if a, err := protocol.FromBytes[protocol.AccountID](b); err == nil {
			list = addOnce(list, a)
		}
	}
	return list
}

func accountBytes(list []protocol.AccountID) (raw [][]byte) {
	for _, a := range list {
		raw = append(raw, slices.Clone(a[:]))
	}
	return raw
}

// lastsOf reads how long a message lasts.
func lastsOf(ms uint64) time.Duration {
	return time.Duration(min(ms, uint64(MaxLasts/time.Millisecond))) * time.Millisecond
}

// extrasOf reads what goes with a text.
func extrasOf(t *wire.Text) extras {
	x := extras{mentions: mentionsOf(t.GetMentions()), lasts: lastsOf(t.GetLastsMs()), deleted: t.GetGone(), gone: t.GetGone()}
	x.reply, _ = refOf(t.GetReplyTo())
	return x
}

// wireText is what a message says, as it is sealed now.
func (h *historyRow) wireText() *wire.Text {
	return &wire.Text{
		Text: h.text, ReplyTo: h.reply.wire(), Mentions: accountBytes(h.mentions),
		LastsMs: uint64(h.lasts / time.Millisecond), Gone: h.gone, File: h.wireFile(),
	}
}
