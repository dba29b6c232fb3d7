package main

import (
	"context"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

// lister finds what may stand in an argument, given those before it.
type lister func(ctx context.Context, client *api.Client, before []string) ([]string, error)

// offeringRooms has the shell complete a command's first argument with rooms, and
// those after it with what rest lists, if anything.
func (p *program) offeringRooms(c *cli.Command, rest lister) *cli.Command {
	c.BashComplete = p.complete(c, roomNames, rest)
	return c
}

// complete offers, besides flags, what first lists for the first argument and rest for
// the others. It is quick, or offers none. Shells may expand what they are given: only
// plain words are.
func (p *program) complete(command *cli.Command, first, rest lister) cli.BashCompleteFunc {
	return func(c *cli.Context) {
		cli.DefaultCompleteWithFlags(command)(c)
		list := first
		if c.NArg() > 0 {
			list = rest
		}
		dir, err := dataDir(c)
		if err != nil || list == nil {
			return
		}
		client, err := api.Dial(dir)
		if err != nil {
			return
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(c.Context, 300*time.Millisecond)
		defer cancel()
		words, err := list(ctx, client, c.Args().Slice())
		if err != nil {
			return
		}
		for _, word := range words {
			if plain(word) {
				p.say("%s", word)
			}
		}
	}
}

func contactNames(ctx context.Context, client *api.Client, _ []string) (names []string, err error) {
	all, err := client.Contacts(ctx)
	for _, k := range all {
		names = append(names, k.Name)
	}
	return names, err
}

func roomNames(ctx context.Context, client *api.Client, _ []string) (words []string, err error) {
	all, err := client.Rooms(ctx)
	for _, r := range all {
		words = append(words, roomWord(r))
	}
	return words, err
}

// memberNames lists who is in the room that the first argument names.
func memberNames(ctx context.Context, client *api.Client, before []string) (words []string, err error) {
	all, err := client.RoomMembers(ctx, before[0])
	for _, m := range all {
		if !m.Self {
			words = append(words, typed(m.Name, m.Account))
		}
	}
	return words, err
}
