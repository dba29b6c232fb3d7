package main

import (
	"context"
	"embed"
	"io/fs"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) otherCommands() []*cli.Command {
	return []*cli.Command{
		{
			Name: "completion", ArgsUsage: "bash|zsh|fish|pwsh", Usage: "print a script that completes commands in your shell",
			Description: "bash:  source <(parley completion bash)\nzsh:   source <(parley completion zsh)\nfish:  parley completion fish | source\npwsh:  parley completion pwsh | Out-String | Invoke-Expression",
			Action:      with(1, 1, p.completion),
		},
		{Name: "version", Usage: "print the version", Action: with(0, 0, p.showVersion)},
	}
}

//go:embed completion
var completions embed.FS

func (p *program) completion(c *cli.Context) error {
	shell := c.Args().First()
	script, err := fs.ReadFile(completions, "completion/"+shell)
	if err != nil || strings.ContainsAny(shell, "./") {
		return usageError("there is no completion for %q", shell).hint("there is for bash, zsh, fish and pwsh")
	}
	_, err = p.stdout.Write(script)
	return err
}

// completeContacts offers, besides flags, the names of contacts for the first
// argument. It is quick, or offers none.
func (p *program) completeContacts(command *cli.Command) cli.BashCompleteFunc {
	return func(c *cli.Context) {
		cli.DefaultCompleteWithFlags(command)(c)
		dir, err := dataDir(c)
		if err != nil || c.NArg() > 0 {
			return
		}
		client, err := api.Dial(dir)
		if err != nil {
			return
		}
		defer client.Close()
		ctx, cancel := context.WithTimeout(c.Context, 300*time.Millisecond)
		defer cancel()
		all, err := client.Contacts(ctx)
		if err != nil {
			return
		}
		for _, k := range all {
			p.say("%s", k.Name)
		}
	}
}
