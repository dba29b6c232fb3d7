package main

import (
	"context"
	"errors"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

// verifyEmoji begins to compare or answers, and stays until it has ended; where
// nobody can be asked only until there are emoji to compare.
func (p *program) verifyEmoji(c *cli.Context, client *api.Client, name string) error {
	if _, err := client.Compare(c.Context, name, api.CompareStart); err != nil {
		return err
	}
	asks := p.interactive() && !c.Bool("json")
	for k, err := range client.Comparison(c.Context, name) {
		switch {
		case c.Context.Err() != nil:
			return p.stopComparing(c, client, name, asks)
		case err != nil:
			return err
		case k.Ended():
			return p.compared(c, k)
		case k.Stage == api.CompareWaiting:
			p.note("waiting for %s, who types: parley verify %s --emoji", name, p.ownName(c, client))
		case k.Stage == api.ComparePictures && !asks:
			return p.showPictures(c, k)
		case k.Said:
			p.note("waiting for what %s says ...", name)
		case k.Stage == api.ComparePictures:
			if err := p.comparePictures(c, client, k); err != nil {
				return err
			}
		}
	}
	return p.stopComparing(c, client, name, asks)
}

// stopComparing is for a person who went away. A script is not: it comes back.
func (p *program) stopComparing(c *cli.Context, client *api.Client, name string, asks bool) error {
	if !asks {
		return c.Context.Err()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Context), 2*time.Second)
	defer cancel()
	if _, err := client.Compare(ctx, name, api.CompareStop); err != nil {
		return err
	}
	return fail(exitError, "stopped; %s is told", name)
}

func (p *program) showPictures(c *cli.Context, k api.Comparison) error {
	if c.Bool("json") {
		return p.json(k)
	}
	p.say("Emoji with %s:", k.With)
	p.say("")
	for i, picture := range k.Pictures {
		p.say("    %d  %s  %s", i+1, picture.Emoji, picture.Name)
	}
	p.say("")
	if !p.interactive() {
		p.note("if %s sees the same: parley verify %s --match yes; else --match no", k.With, k.With)
	}
	return nil
}

// comparePictures shows the emoji and passes on what the user says of them.
func (p *program) comparePictures(c *cli.Context, client *api.Client, k api.Comparison) error {
	if err := p.showPictures(c, k); err != nil {
		return err
	}
	for {
		same, decided, err := p.askSame(c.Context, "Ask "+k.With+", over a phone or face to face: the same, in this order?")
		if c.Context.Err() != nil {
			return p.stopComparing(c, client, k.With, true)
		}
		if err != nil {
			return err
		}
		if decided {
			return p.sayCompared(c, client, k.With, same)
		}
	}
}

// sayCompared says what the user saw, if nobody has ended it meanwhile: then how
// it ended is shown next.
func (p *program) sayCompared(c *cli.Context, client *api.Client, name string, same bool) error {
	do := map[bool]string{true: api.CompareMatch, false: api.CompareDiffer}[same]
	_, err := client.Compare(c.Context, name, do)
	if isNotFound(err) {
		return nil
	}
	return err
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*api.Error](err)
	return ok && e.Code == api.ErrNotFound
}

// verifyMatch is the second half of --emoji where nobody could be asked. It stays
// until the other has said something too.
func (p *program) verifyMatch(c *cli.Context, client *api.Client, name string) error {
	answer := c.String("match")
	if !isYes(answer) && !isNo(answer) {
		return usageError("--match is yes or no, not %q", answer)
	}
	do := map[bool]string{true: api.CompareMatch, false: api.CompareDiffer}[isYes(answer)]
	_, unsaid := client.Compare(c.Context, name, do)
	if unsaid != nil && !isNotFound(unsaid) {
		return unsaid
	}
	for k, err := range client.Comparison(c.Context, name) {
		switch {
		case err != nil:
			return err
		case unsaid != nil && (!k.Ended() || k.Stage == api.CompareMatched):
			return unsaid
		case k.Ended(): // perhaps before it was said: the other was first to say no
			return p.compared(c, k)
		}
	}
	return c.Context.Err()
}

// compared says how a comparison ended.
func (p *program) compared(c *cli.Context, k api.Comparison) error {
	if c.Bool("json") {
		if err := p.json(k); err != nil {
			return err
		}
	}
	switch {
	case k.Stage == api.CompareDiffers:
		return inBetween(k.Text, k.With)
	case k.Stage == api.CompareEnded:
		return fail(exitTimeout, "%s", k.Text).hint("begin again: parley verify %s --emoji", k.With)
	case !c.Bool("json"):
		p.say("%s", k.Text)
	}
	return nil
}
