package node

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// ChangeMessage does something to a message: react, edit, delete, pin, unpin. It returns
// what the message is then; an empty one if it is gone.
func (n *Node) ChangeMessage(ctx context.Context, id, verb string, r api.MessageRequest) (now api.Message, err error) {
	n.home.busy()
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		found, err := n.findMessage(tx, id)
		if err != nil {
			return engine.Hint{}, err
		}
		h, err := n.changeMessage(tx, found, verb, r)
		if err != nil {
			return engine.Hint{}, err
		}
		m, err := n.eng.Message(tx, found)
		if errors.Is(err, engine.ErrNotFound) {
			return h, nil
		}
		now = n.names(tx).message(m)
		return h, err
	})
	if errors.Is(err, engine.ErrNotFound) { // hidden
		err = noMessage
	}
	return now, answer(err)
}

var noMessage = &api.Error{Code: api.ErrNotFound, Text: "there is no message of this id here", Hint: "parley history NAME --ids"}

// findMessage finds a message by its id, or the beginning of that.
func (n *Node) findMessage(tx store.Tx, id string) (protocol.MsgID, error) {
	found, err := n.eng.FindMessage(tx, id)
	switch {
	case errors.Is(err, engine.ErrNotFound):
		err = noMessage
	case errors.Is(err, engine.ErrConflict):
		err = &api.Error{Code: api.ErrConflict, Text: "the ids of several messages begin so", Hint: "type more of it: parley history NAME --json"}
	}
	return found, err
}

func (n *Node) changeMessage(tx store.Tx, id protocol.MsgID, verb string, r api.MessageRequest) (engine.Hint, error) {
	switch verb {
	case api.MessageReact:
		return n.eng.React(tx, n.now(), id, r.Emoji)
	case api.MessageEdit:
		m, err := n.eng.Message(tx, id)
		if err != nil {
			return engine.Hint{}, err
		}
		mentions, err := n.mentioned(tx, m.With, r.Text)
		if err != nil {
			return engine.Hint{}, err
		}
		return n.eng.Edit(tx, n.now(), id, r.Text, mentions)
	case api.MessageDelete:
		if r.ForMe {
			return n.eng.Hide(tx, n.now(), id)
		}
		return n.eng.Delete(tx, n.now(), id)
	case api.MessagePin, api.MessageUnpin:
		return n.eng.Pin(tx, n.now(), id, verb == api.MessagePin)
	}
	return engine.Hint{}, &api.Error{Code: api.ErrNotFound, Text: "nothing to do with a message is called " + strconv.Quote(verb)}
}

// mentioned finds the members of a room whom a text names by @.
func (n *Node) mentioned(tx store.Tx, with protocol.AccountID, text string) (list []protocol.AccountID, err error) {
	if !strings.Contains(text, "@") {
		return nil, nil
	}
	r, err := n.eng.Room(tx, n.now(), protocol.RoomID(with))
	if errors.Is(err, engine.ErrNoRoom) || err == nil && r.State == nil {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	called := map[string]bool{}
	for _, word := range strings.Fields(strings.ToLower(text)) {
		if i := strings.IndexByte(word, '@'); i >= 0 {
			called[strings.TrimRight(strings.TrimPrefix(word[i+1:], "~"), ".,:;!?)]}'\"")] = true
		}
	}
	names := n.names(tx)
	for _, m := range r.State.Members() {
		if name := strings.ToLower(strings.TrimPrefix(names.inRoom(r.ID, m.Account), "~")); called[name] && len(list) < engine.MaxMentions {
			list = append(list, m.Account)
		}
	}
	return list, nil
}

// Pinned returns the pinned messages of a conversation, oldest first.
func (n *Node) Pinned(ctx context.Context, with string) ([]api.Message, error) {
	return n.page(ctx, with, 0, api.MaxHistory, func(tx store.Tx, a protocol.AccountID, _ uint64, limit int) ([]engine.Message, error) {
		return n.eng.Pinned(tx, a, limit)
	})
}

// Conversation returns what is set for a conversation.
func (n *Node) Conversation(ctx context.Context, with string) (s api.Conversation, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		a, err := n.conversation(tx, with)
		if err != nil {
			return err
		}
		set, err := n.eng.Settings(tx, a)
		s = api.Conversation{With: n.names(tx).of(a), Lasts: int64(set.Timer / time.Second)}
		if set.Quiet.After(n.now()) {
			s.QuietUntil = &set.Quiet
		}
		return err
	})
	return s, answer(err)
}

// SetTimer sets how long new messages of a conversation last, for all who are in it.
func (n *Node) SetTimer(ctx context.Context, r api.TimerRequest) (api.Conversation, error) {
	n.home.busy()
	lasts := time.Duration(max(-1, min(r.Lasts, int64(engine.MaxLasts/time.Second)+1))) * time.Second
	return n.set(ctx, r.With, func(tx store.Tx, a protocol.AccountID) (engine.Hint, error) {
		return n.eng.SetTimer(tx, n.now(), a, lasts)
	})
}

// Mute puts off notifications of a conversation, or brings them back.
func (n *Node) Mute(ctx context.Context, r api.MuteRequest) (api.Conversation, error) {
	until := time.Time{}
	if r.Until != nil {
		until = *r.Until
	}
	return n.set(ctx, r.With, func(tx store.Tx, a protocol.AccountID) (engine.Hint, error) {
		return n.eng.Quiet(tx, n.now(), a, until)
	})
}

func (n *Node) set(ctx context.Context, with string, fn func(store.Tx, protocol.AccountID) (engine.Hint, error)) (api.Conversation, error) {
	err := n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		a, err := n.conversation(tx, with)
		if err != nil {
			return engine.Hint{}, err
		}
		return fn(tx, a)
	})
	if err != nil {
		return api.Conversation{}, answer(err)
	}
	return n.Conversation(ctx, with)
}

// in returns the name of an account as a conversation calls it.
func (s names) in(with, a protocol.AccountID) string {
	if a == s.n.self.Account {
		return s.n.self.Name
	}
	if id, is := s.roomOf(with); is {
		return s.inRoom(id, a)
	}
	return s.of(a)
}

// extras puts into out what most messages do not have.
func (s names) extras(out *api.Message, m engine.Message) {
	out.Deleted, out.Pinned, out.Edited, out.Expires = m.Deleted, m.Pinned, unlessZero(m.Edited), unlessZero(m.Expires)
	out.Lasts = int64(m.Lasts / time.Second)
	for _, a := range m.Mentions {
		out.Mentions = append(out.Mentions, s.in(m.With, a))
		out.MentionsMe = out.MentionsMe || a == s.n.self.Account
	}
	for _, r := range m.Reactions {
		out.Reactions = append(out.Reactions, api.Reaction{Emoji: r.Emoji, From: s.in(m.With, r.By), Mine: r.By == s.n.self.Account})
	}
	if m.ReplyTo.IsZero() {
		return
	}
	out.ReplyTo = &api.Quote{ID: m.ReplyTo.ID.String(), From: s.in(m.With, m.ReplyTo.Author)}
	if quoted, err := s.n.eng.Referred(s.tx, s.n.now(), m.With, m.ReplyTo); err == nil {
		out.ReplyTo.Text = excerptOf(quoted)
	}
}

// excerptLength is how much of a message is quoted, in characters.
const excerptLength = 60

// excerptOf is the beginning of what a message says, or what its file is called.
func excerptOf(m engine.Message) string {
	if m.Text == "" && m.File != nil {
		return m.File.Name
	}
	return excerpt(m.Text)
}

// excerpt is the beginning of a text's first line.
func excerpt(text string) string {
	line, _, more := strings.Cut(text, "\n")
	if runes := []rune(line); len(runes) > excerptLength {
		line, more = string(runes[:excerptLength]), true
	}
	if more {
		line += "…"
	}
	return line
}

// changed tells people what somebody did in a conversation; empty if nobody has to be
// told.
func (s names) changed(e engine.Event) string {
	by := s.in(e.With, e.By)
	switch {
	case e.Cause == engine.CauseTimer:
		return by + " set " + timerText(e.Text)
	case e.Message == nil:
		return ""
	}
	what := strconv.Quote(excerptOf(*e.Message))
	switch e.Cause {
	case engine.CauseFile:
		return s.fileChanged(e, by)
	case engine.CauseReaction:
		for _, r := range e.Message.Reactions {
			if r.By == e.By {
				return fmt.Sprintf("%s reacted %s to %s", by, r.Emoji, what)
			}
		}
		return by + " took a reaction back to " + what
	case engine.CauseEdited:
		return by + " changed a message to " + what
	case engine.CauseDeleted:
		return by + " deleted a message"
	case engine.CausePinned:
		return by + " pinned " + what
	case engine.CauseUnpinned:
		return by + " unpinned " + what
	}
	return ""
}

func timerText(lasts string) string {
	d, err := time.ParseDuration(lasts)
	if err != nil || d == 0 {
		return "new messages to stay"
	}
	return "new messages to disappear " + strings.TrimSuffix(strings.TrimSuffix(d.String(), "0s"), "0m") + " after they are read"
}
