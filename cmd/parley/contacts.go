package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) contactCommands() []*cli.Command {
	all := []*cli.Command{
		{Name: "contacts", Usage: "list your contacts", Action: asking(0, 0, p.contacts)},
		{Name: "requests", Usage: "list who asks to be your contact, and who invites you to a room", Action: asking(0, 0, p.requests)},
		{
			Name: "add", ArgsUsage: "NAME", Usage: "ask somebody to be your contact, or accept their request",
			Flags:  []cli.Flag{&cli.StringFlag{Name: "note", Usage: "a `TEXT` that goes with the request"}},
			Action: asking(1, 1, p.add),
		},
		p.contactVerb("accept", "accept a contact request", (*api.Client).Accept, "%s is your contact now"),
		p.contactVerb("decline", "decline a contact request; they are not told", decline, "the request of %s is gone"),
		p.contactVerb("block", "drop everything that comes from somebody, but for rooms with both of you; they are not told", (*api.Client).Block, "%s is blocked"),
		p.contactVerb("unblock", "undo block", (*api.Client).Unblock, "%s is not blocked any more"),
		p.contactVerb("remove", "remove a contact; the history stays", (*api.Client).Remove, "%s is no contact any more"),
		p.verifyCommand(),
		p.pingCommand(),
	}
	for _, c := range all {
		c.Category = "Contacts"
	}
	return all
}

// contactVerb makes a command that does one thing to one contact.
func (p *program) contactVerb(name, usage string, do func(*api.Client, context.Context, string) (api.Contact, error), done string) *cli.Command {
	c := &cli.Command{Name: name, ArgsUsage: "NAME", Usage: usage}
	c.Action = asking(1, 1, func(c *cli.Context, client *api.Client) error {
		k, err := do(client, c.Context, c.Args().First())
		if err != nil {
			return err
		}
		if c.Bool("json") {
			return p.json(k)
		}
		p.say(done, k.Name)
		return nil
	})
	c.BashComplete = p.complete(c, contactNames, nil)
	return c
}

// decline refuses somebody who is a contact already: that takes remove.
func decline(client *api.Client, ctx context.Context, name string) (api.Contact, error) {
	all, err := client.Contacts(ctx)
	if err != nil {
		return api.Contact{}, err
	}
	for _, k := range all {
		if k.Name == name && k.Relation == api.Accepted {
			return k, fail(exitConflict, "%s is your contact", name).hint("parley remove %s", name)
		}
	}
	return client.Decline(ctx, name)
}

func (p *program) add(c *cli.Context, client *api.Client) error {
	k, err := client.Add(c.Context, api.AddRequest{Name: c.Args().First(), Note: c.String("note")})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(k)
	}
	if k.Relation == api.Accepted {
		p.say("%s is your contact", k.Name)
		return nil
	}
	p.say("%s has been asked; they type: parley accept %s", k.Name, p.ownName(c, client))
	return nil
}

func (p *program) ownName(c *cli.Context, client *api.Client) string {
	me, err := client.Whoami(c.Context)
	if err != nil {
		return "NAME"
	}
	return me.Name
}

func (p *program) contacts(c *cli.Context, client *api.Client) error {
	all, err := client.Contacts(c.Context)
	if err != nil {
		return err
	}
	if err := p.listContacts(c, all, "nobody yet; ask somebody: parley add NAME"); err != nil || c.Bool("json") {
		return err
	}
	invited, err := invitations(c.Context, client)
	for _, r := range invited {
		p.note("%s: %s", roomLabel(r), invitation(r))
	}
	return err
}

func (p *program) requests(c *cli.Context, client *api.Client) error {
	all, err := client.Contacts(c.Context)
	if err != nil {
		return err
	}
	incoming := []api.Contact{}
	for _, k := range all {
		if k.Relation == api.Incoming {
			incoming = append(incoming, k)
		}
	}
	invited, err := invitations(c.Context, client)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(struct {
			Contacts []api.Contact `json:"contacts"`
			Rooms    []api.Room    `json:"rooms"`
		}{incoming, append([]api.Room{}, invited...)})
	}
	if len(incoming) > 0 || len(invited) == 0 {
		if err := p.listContacts(c, incoming, "no requests"); err != nil {
			return err
		}
	}
	p.table(roomRows(invited))
	return nil
}

func (p *program) listContacts(c *cli.Context, all []api.Contact, none string) error {
	if c.Bool("json") {
		return p.json(listed("contacts", all))
	}
	if len(all) == 0 {
		p.note("%s", none)
		return nil
	}
	var rows [][]string
	for _, k := range all {
		rows = append(rows, []string{k.Name, k.Display, describeContact(k), k.Note})
	}
	p.table(rows)
	return nil
}

// describeContact says in a few words what there is to know.
func describeContact(k api.Contact) string {
	switch k.Relation {
	case api.Requested:
		return "asked, no answer yet"
	case api.Incoming:
		return "asks for you: parley accept " + k.Name
	case api.Blocked:
		return "blocked"
	}
	var parts []string
	switch {
	case k.Path != "":
		parts = append(parts, string(k.Path))
	case k.Online == nil:
	case *k.Online:
		parts = append(parts, "online")
	default:
		parts = append(parts, "away")
	}
	switch {
	case k.KeyChanged:
		parts = append(parts, "KEY CHANGED, nothing is sent: parley verify "+k.Name)
	case k.Verified:
		parts = append(parts, "verified")
	}
	if k.Unread > 0 {
		parts = append(parts, fmt.Sprintf("%d unread", k.Unread))
	}
	if k.Queued > 0 {
		parts = append(parts, fmt.Sprintf("%d on their way", k.Queued))
	}
	if len(parts) == 0 {
		return "contact"
	}
	return strings.Join(parts, ", ")
}
