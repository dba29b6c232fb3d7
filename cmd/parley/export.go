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
			&cli.StringFlag{Name: "with", Usage: "only the conversation with `NAME`"},
			&cli.PathFlag{Name: "o", Usage: "write to `FILE`, which only you may read, instead of standard output"},
			&cli.BoolFlag{Name: "force", Usage: "replace the file if it is there"},
		},
		Action: asking(0, 0, p.export),
	}
}

// exportFormat writes one kind of file, as the messages come.
type exportFormat interface {
	begin(me api.Whoami) error
	conversation(k api.Contact) error
	message(m api.Message) error
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
	people, err := exported(c.Context, client, c.String("with"))
	if err != nil {
		return err
	}
	me, err := client.Whoami(c.Context)
	if err != nil {
		return err
	}
	write := func(w io.Writer) error { return exportAll(c.Context, client, format(w), me, people) }
	if path := c.Path("o"); path != "" {
		return writeNew(path, c.Bool("force"), write)
	}
	return write(p.stdout)
}

// exported are the people whose conversations are wanted, by name.
func exported(ctx context.Context, client *api.Client, name string) ([]api.Contact, error) {
	all, err := client.Contacts(ctx)
	if err != nil {
		return nil, err
	}
	if name != "" {
		all = slices.DeleteFunc(all, func(k api.Contact) bool { return k.Name != name })
		if len(all) == 0 {
			return nil, fail(exitNotFound, "%q is none of your contacts", name).hint("parley contacts")
		}
	}
	slices.SortFunc(all, func(a, b api.Contact) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

func exportAll(ctx context.Context, client *api.Client, out exportFormat, me api.Whoami, people []api.Contact) error {
	if err := out.begin(me); err != nil {
		return err
	}
	for _, k := range people {
		if err := exportOne(ctx, client, out, k); err != nil {
			return err
		}
	}
	return out.end()
}

func exportOne(ctx context.Context, client *api.Client, out exportFormat, k api.Contact) error {
	for after := uint64(0); ; {
		page, err := client.HistoryAfter(ctx, k.Name, after, api.MaxHistory)
		if err != nil || len(page) == 0 {
			return err
		}
		if after == 0 {
			if err := out.conversation(k); err != nil {
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
