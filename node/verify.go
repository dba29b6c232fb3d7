package node

import (
	"context"
	"errors"
	"iter"
	"slices"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/store"
)

// Safety returns the number that two people compare to know that nobody is
// between them.
func (n *Node) Safety(ctx context.Context, name string) (s api.Safety, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		c, err := n.contactByName(tx, name)
		if err != nil {
			return err
		}
		s.With, s.Verified, s.KeyChanged = c.Name, c.Verified && !c.Held, c.Held
		s.Code = account.VerifyCode(n.self.Account, c.Account, n.self.Name, c.Name)
		if s.Number, err = n.eng.SafetyNumber(tx, c.Account); err != nil {
			return err
		}
		return n.addStanding(tx, &s, c.Account)
	})
	return s, answer(err)
}

// addStanding adds what the log and the contacts say for a contact's key.
func (n *Node) addStanding(tx store.Tx, s *api.Safety, a protocol.AccountID) error {
	standing, err := n.eng.Standing(tx, n.now(), a)
	if err != nil {
		return err
	}
	s.Since, s.Confirmed = standing.Since, []string{}
	if standing.Logged {
		s.Entry = &standing.Entry
	}
	names := n.names(tx)
	for _, a := range standing.Confirmed {
		s.Confirmed = append(s.Confirmed, names.of(a))
	}
	slices.Sort(s.Confirmed)
	return nil
}

// SetVerified notes what the user found by comparing the numbers.
func (n *Node) SetVerified(ctx context.Context, name string, verified bool) error {
	return answer(n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		c, err := n.contactByName(tx, name)
		if err != nil {
			return engine.Hint{}, err
		}
		return n.eng.SetVerified(tx, n.now(), c.Account, verified)
	}))
}

// Scan verifies a contact by the code that their screen shows. One that is about
// the two of us and does not fit means that somebody is in between.
func (n *Node) Scan(ctx context.Context, name, code string) (api.Safety, error) {
	var verdict account.Verdict
	err := n.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		c, err := n.contactByName(tx, name)
		if err != nil {
			return h, err
		}
		verdict, err = account.CheckVerifyCode(code, n.self.Account, c.Account, n.self.Name, c.Name)
		if err != nil || verdict == account.NotAboutUs {
			return h, err
		}
		return n.eng.SetVerified(tx, n.now(), c.Account, verdict == account.Match)
	})
	switch {
	case errors.Is(err, account.ErrNotVerifyCode):
		return api.Safety{}, &api.Error{Code: api.ErrBadInput, Text: err.Error(), Hint: "on their computer: parley verify " + n.self.Name}
	case err != nil:
		return api.Safety{}, answer(err)
	case verdict == account.NotAboutUs:
		return api.Safety{}, &api.Error{Code: api.ErrBadInput, Text: "this code is not about you and " + name, Hint: "on their computer: parley verify " + n.self.Name}
	case verdict == account.Mismatch:
		return api.Safety{}, &api.Error{
			Code: api.ErrMismatch, Text: "the code does not fit: somebody may be in between",
			Hint: "write nothing secret to " + name + ", and find out together what happened",
		}
	}
	return n.Safety(ctx, name)
}

// AcceptChange goes on writing to a contact whose account was recovered.
func (n *Node) AcceptChange(ctx context.Context, name string) (api.Contact, error) {
	return n.change(ctx, name, n.eng.AcceptRecovery)
}

// Compare begins comparing emoji with a contact or answers them, says what the
// user saw, or stops it; and returns how far it is then.
func (n *Node) Compare(ctx context.Context, name, do string) (out api.Comparison, err error) {
	err = n.do(ctx, func(tx store.Tx) (h engine.Hint, err error) {
		c, err := n.contactByName(tx, name)
		if err != nil {
			return h, err
		}
		switch do {
		case api.CompareStart:
			h, err = n.eng.Compare(tx, n.now(), c.Account)
		case api.CompareMatch, api.CompareDiffer:
			h, err = n.eng.Compared(tx, n.now(), c.Account, do == api.CompareMatch)
		case api.CompareStop:
			h, err = n.eng.StopComparing(tx, n.now(), c.Account)
		default:
			err = &api.Error{Code: api.ErrBadInput, Text: "what to do about a comparison is start, match, differ or stop"}
		}
		if err != nil {
			return h, err
		}
		out, err = n.comparison(tx, c)
		return h, err
	})
	return out, answer(err)
}

func (n *Node) comparison(tx store.Tx, with engine.Contact) (api.Comparison, error) {
	c, err := n.eng.Comparison(tx, n.now(), with.Account)
	if err != nil {
		return api.Comparison{}, err
	}
	out := api.Comparison{With: with.Name, Stage: string(c.Stage), Said: c.Said, Until: c.Until, Text: c.Text}
	for _, p := range c.Pictures {
		out.Pictures = append(out.Pictures, api.Picture{Emoji: p.Emoji, Name: p.English, NameZH: p.Chinese})
	}
	return out, nil
}

// Comparison yields how far comparing emoji with a contact is, now and with each
// change, until it has ended.
func (n *Node) Comparison(ctx context.Context, name string) iter.Seq2[api.Comparison, error] {
	return func(yield func(api.Comparison, error) bool) {
		var shown api.Comparison
		for {
			more := n.events.next()
			now, err := n.comparisonWith(ctx, name)
			if errors.Is(err, engine.ErrNoComparison) && shown.Stage != "" {
				now, err = api.Comparison{With: shown.With, Stage: api.CompareEnded, Until: shown.Until, Text: "it was not finished in time"}, nil
			}
			if err != nil {
				yield(shown, answer(err))
				return
			}
			if now.Stage != shown.Stage || now.Said != shown.Said || !slices.Equal(now.Pictures, shown.Pictures) {
				if !yield(now, nil) || now.Ended() {
					return
				}
			}
			shown = now
			select {
			case <-more:
			case <-ctx.Done():
				return
			case <-n.ctx.Done():
				return
			}
		}
	}
}

func (n *Node) comparisonWith(ctx context.Context, name string) (out api.Comparison, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		c, err := n.contactByName(tx, name)
		if err == nil {
			out, err = n.comparison(tx, c)
		}
		return err
	})
	return out, err
}
