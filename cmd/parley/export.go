package main

import (
	"context"
	"io"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "write your conversations to a file that other programs read",
		Description: "The file is not encrypted. What you want back on another computer is a backup: parley backup create FILE",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "format", Usage: "`FORMAT` json (a line for each message), html or md", Value: "json"},
			&cli.StringFlag{Name: "with", Usage: "only the conversation with `NAME`, or with # before it of that room"},
			&cli.PathFlag{Name: "o", Usage: "write to `FILE`, which only you may read, instead of standard output"},
			&cli.BoolFlag{Name: "force", Usage: "replace the file if it is there"},
		},
		Action: asking(0, 0, p.export),
	}
}

// exportFormat writes one kind of file, as the messages come.
type exportFormat interface {
	begin(me api.Whoami) error
	conversation(title string) error
	message(m api.Message) error
	entry(room string, e api.RoomEntry) error // of the room's log
	end() error
}

var exportFormats = map[string]func(io.Writer) exportFormat{
	"json": func(w io.Writer) exportFormat { return &exportJSON{w: w} },
	"html": func(w io.Writer) exportFormat { return &exportHTML{w: w} },
	"md":   func(w io.Writer) exportFormat { return &exportMarkdown{w: w} },
}

func (p *program) export(c *cli.Context, client *api.Client) error {
	format, ok := exportFormats[c.String("format")]
	if !ok {
		return usageError("there is no format %q", c.String("format")).hint("there are json, html and md")
	}
	what, err := exported(c.Context, client, c.String("with"))
	if err != nil {
		return err
	}
	me, err := client.Whoami(c.Context)
	if err != nil {
		return err
	}
	write := func(w io.Writer) error { return exportAll(c.Context, client, format(w), me, what) }
	if path := c.Path("o"); path != "" {
		return writeNew(path, c.Bool("force"), write)
	}
	return write(p.stdout)
}

// talk is a conversation that is exported.
type talk struct{ with, title, room string }

// exported are the conversations that are wanted, by name, those of rooms last.
func exported(ctx context.Context, client *api.Client, with string) ([]talk, error) {
	if strings.HasPrefix(with, "#") {
		r, err := client.Room(ctx, with)
		return []talk{talkIn(r)}, err
	}
	people, err := client.Contacts(ctx)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(people, func(a, b api.Contact) int { return strings.Compare(a.Name, b.Name) })
	var list []talk
	for _, k := range people {
		if with == "" || k.Name == with {
			list = append(list, talk{with: k.Name, title: fullName(k)})
		}
	}
	switch {
	case with != "" && len(list) == 0:
		return nil, fail(exitNotFound, "%q is none of your contacts", with).hint("parley contacts; for a room: --with '#ROOM'")
	case with != "":
		return list, nil
	}
	rooms, err := client.Rooms(ctx)
	for _, r := range rooms {
		list = append(list, talkIn(r))
	}
	return list, err
}

func talkIn(r api.Room) talk { return talk{conversation("", r.ID), roomLabel(r), r.ID} }

func exportAll(ctx context.Context, client *api.Client, out exportFormat, me api.Whoami, what []talk) error {
	if err := out.begin(me); err != nil {
		return err
	}
	for _, t := range what {
		if err := exportOne(ctx, client, out, t); err != nil {
			return err
		}
		if t.room == "" {
			continue
		}
		if err := exportLog(ctx, client, out, t); err != nil {
			return err
		}
	}
	return out.end()
}

func exportOne(ctx context.Context, client *api.Client, out exportFormat, t talk) error {
	for after := uint64(0); ; {
		page, err := client.HistoryAfter(ctx, t.with, after, api.MaxHistory)
		if err != nil || len(page) == 0 {
			return err
		}
		if after == 0 {
			if err := out.conversation(t.title); err != nil {
				return err
			}
		}
		for _, m := range page {
			if err := out.message(m); err != nil {
				return err
			}
		}
		after = page[len(page)-1].Position
	}
}
