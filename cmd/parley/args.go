package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange moves flags to where the cli package looks for them: it stops at the
// first argument that is none, and would take `send bob hello --json` for a
// message with the text "hello --json". Flags may stand anywhere, also those of
// the program after a command; "--" ends them. An unknown flag or command is an
// error and never becomes text.
func arrange(app *cli.App, args []string) ([]string, error) {
	if len(args) > 1 && args[len(args)-1] == "--generate-bash-completion" {
		return args, nil
	}
	app.Setup() // adds the flags for help and version
	line := commandLine{levels: []level{{flags: app.Flags, subcommands: app.Commands}}}
	for rest := args[1:]; len(rest) > 0; {
		var err error
		if rest, err = line.take(rest); err != nil {
			return nil, err
		}
	}
	return append(args[:1:1], line.join()...), nil
}

// commandLine is a command line being sorted out.
type commandLine struct {
	levels []level  // the program, its command, the command's subcommand
	texts  []string // the other arguments
	help   bool     // asked for: the texts do not matter
}

type level struct {
	name        string
	flags       []cli.Flag
	subcommands []*cli.Command
	given       []string // its flags as they were given
}

// take sorts in the first argument, with its value if it is a flag that has
// one, and returns the others.
func (l *commandLine) take(args []string) (rest []string, err error) {
	arg, rest := args[0], args[1:]
	switch {
	case arg == "--":
		for _, text := range rest {
			if err := l.takeText(text); err != nil {
				return nil, err
			}
		}
		return nil, nil
	case strings.HasPrefix(arg, "-") && arg != "-":
		return l.takeFlag(arg, rest)
	}
	return rest, l.takeText(arg)
}

func (l *commandLine) takeText(arg string) error {
	here := l.levels[len(l.levels)-1]
	if len(here.subcommands) == 0 {
		l.texts = append(l.texts, arg)
		return nil
	}
	for _, c := range here.subcommands {
		if c.HasName(arg) {
			l.levels = append(l.levels, level{name: arg, flags: append(c.Flags[:len(c.Flags):len(c.Flags)], cli.HelpFlag), subcommands: c.Subcommands})
			return nil
		}
	}
	var names []string
	for _, c := range here.subcommands {
		names = append(names, c.Names()...)
	}
	f := usageError("there is no command %q", arg)
	if name := closest(arg, names); name != "" {
		return f.hint("did you mean %s?", name)
	}
	return f.hint("parley help lists all commands")
}

func (l *commandLine) takeFlag(arg string, rest []string) ([]string, error) {
	name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	at, flag := l.find(name)
	if flag == nil {
		f := usageError("there is no flag %q here", arg)
		if name := closest(name, l.flagNames()); name != "" {
			f.hint("did you mean %s?", name)
		}
		return nil, f.hint("write -- before text that begins with a dash")
	}
	given := "--" + name
	if !hasValue && takesValue(flag) {
		if len(rest) == 0 {
			return nil, usageError("the flag %q needs a value", given)
		}
		value, hasValue, rest = rest[0], true, rest[1:]
	}
	if hasValue {
		given += "=" + value
	}
	l.levels[at].given = append(l.levels[at].given, given)
	l.help = l.help || slices.Contains(cli.HelpFlag.Names(), name)
	return rest, nil
}

// find looks for a flag from the innermost command outwards.
func (l *commandLine) find(name string) (at int, flag cli.Flag) {
	for i := len(l.levels) - 1; i >= 0; i-- {
		for _, f := range l.levels[i].flags {
			if slices.Contains(f.Names(), name) {
				return i, f
			}
		}
	}
	return 0, nil
}

func (l *commandLine) flagNames() (names []string) {
	for _, level := range l.levels {
		for _, f := range level.flags {
			for _, name := range f.Names() {
				names = append(names, strings.Repeat("-", min(2, len(name)))+name)
			}
		}
	}
	return names
}

// takesValue is false for flags that may stand alone.
func takesValue(f cli.Flag) bool {
	_, alone := f.(*cli.BoolFlag)
	return !alone
}

// join writes the line down again, flags first at each level.
func (l *commandLine) join() (args []string) {
	for i, level := range l.levels {
		if i > 0 {
			args = append(args, level.name)
		}
		args = append(args, level.given...)
	}
	if len(l.texts) > 0 && !l.help {
		args = append(append(args, "--"), l.texts...)
	}
	return args
}

// closest finds the known word that is at most two letters away, if any.
func closest(word string, known []string) (best string) {
	distance := 3
	for _, k := range known {
		if d := editDistance(strings.TrimLeft(word, "-"), strings.TrimLeft(k, "-")); d < distance && d < len(k)-1 {
			best, distance = k, d
		}
	}
	return best
}

// editDistance counts the letters to insert, delete or change (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
