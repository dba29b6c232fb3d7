package main

import (
	"embed"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"
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
