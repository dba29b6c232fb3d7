package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
	"pgregory.net/rapid"
)

func newProgram() *program {
	return &program{stdin: bufio.NewReader(strings.NewReader("")), stdout: os.Stdout, stderr: os.Stderr}
}

// got is what an action saw.
type got struct {
	command string
	texts   []string
	set     map[string]string
}

// parse runs a command line with all actions replaced by one that looks.
func parse(args ...string) (seen *got, err error) {
	app := newProgram().app()
	var replace func(all []*cli.Command)
	replace = func(all []*cli.Command) {
		for _, c := range all {
			c.Action = func(c *cli.Context) error {
				seen = &got{command: c.Command.HelpName, texts: c.Args().Slice(), set: map[string]string{}}
				for _, at := range c.Lineage() {
					for _, name := range at.LocalFlagNames() {
						seen.set[name] = fmt.Sprint(at.Generic(name))
					}
				}
				return nil
			}
			replace(c.Subcommands)
		}
	}
	replace(app.Commands)
	args, err = arrange(app, append([]string{"parley"}, args...))
	if err != nil {
		return nil, err
	}
	return seen, app.Run(args)
}

// leaves lists all commands that take arguments or flags, with their paths.
func leaves(all []*cli.Command, above ...string) map[string]*cli.Command {
	found := map[string]*cli.Command{}
	for _, c := range all {
		path := append(slices.Clone(above), c.Name)
		found[strings.Join(path, " ")] = c
		for name, sub := range leaves(c.Subcommands, path...) {
			found[name] = sub
		}
	}
	return found
}

// example gives a flag and, if it needs one, a value.
func example(f cli.Flag) (args []string, value string) {
	name := "--" + f.Names()[0]
	switch f := f.(type) {
	case *cli.BoolFlag:
		return []string{name}, "true"
	case *cli.IntFlag, *cli.Int64Flag, *cli.Uint64Flag:
		return []string{name, "7"}, "7"
	case *cli.StringSliceFlag:
		return []string{name, "/ip4/1.2.3.4/tcp/1"}, "[/ip4/1.2.3.4/tcp/1]"
	case *cli.GenericFlag:
		switch f.Value.(type) {
		case *size:
			return []string{name, "7"}, "7"
		case *paths:
			return []string{name, "./file"}, "./file"
		}
		if !takesValue(f) {
			return []string{name + "=24h"}, "1d"
		}
		return []string{name, "24h"}, "1d"
	}
	return []string{name, "-value"}, "-value"
}

// TestFlagsAfterArguments walks all commands: each flag may stand before,
// between and after the arguments, and never becomes text.
func TestFlagsAfterArguments(t *testing.T) {
	app := newProgram().app()
	commands := leaves(app.Commands)
	if len(commands) < 25 {
		t.Fatalf("only %d commands", len(commands))
	}
	for path, c := range commands {
		t.Run(path, func(t *testing.T) {
			flags := append(slices.Clone(c.Flags), app.Flags...)
			texts := []string{"alice", "-", "--help", "two words"}
			if len(c.Subcommands) > 0 {
				texts = nil // it takes none
			}
			for _, f := range flags {
				given, value := example(f)
				for at := 0; at <= 2; at++ {
					args := strings.Fields(path)
					if texts != nil {
						args = append(args, texts[:2]...)
						args = slices.Insert(args, len(args)-2+at, given...)
						args = append(append(args, "--"), texts[2:]...)
					} else {
						args = append(args, given...)
					}
					seen, err := parse(args...)
					if err != nil {
						t.Fatalf("%q: %v", args, err)
					}
					if seen == nil || seen.command != "parley "+path {
						t.Fatalf("%q ran %+v", args, seen)
					}
					if !slices.Equal(seen.texts, texts) {
						t.Errorf("%q: texts %q", args, seen.texts)
					}
					if seen.set[f.Names()[0]] != value {
						t.Errorf("%q: %s is %q, want %q", args, f.Names()[0], seen.set[f.Names()[0]], value)
					}
				}
			}
		})
	}
}

func TestUnknownFlagsAreRefusedByEveryCommand(t *testing.T) {
	for path := range leaves(newProgram().app().Commands) {
		for _, wrong := range []string{"--no-such-flag", "--no-such-flag=1", "-z", "-jn"} {
			seen, err := parse(append(strings.Fields(path), wrong)...)
			f, ok := errors.AsType[*failure](err)
			if seen != nil || !ok || f.code != exitUsage {
				t.Errorf("%s %s: ran %+v, %v", path, wrong, seen, err)
			}
		}
	}
}

// TestNoArgumentIsACommand makes sure that a contact may have any name.
func TestNoArgumentIsACommand(t *testing.T) {
	for path, c := range leaves(newProgram().app().Commands) {
		if len(c.Subcommands) > 0 {
			continue
		}
		for _, name := range []string{"help", "h", "json", "dir", "version", "send", "status"} {
			seen, err := parse(append(strings.Fields(path), name)...)
			if err != nil || seen == nil || seen.command != "parley "+path || !slices.Equal(seen.texts, []string{name}) {
				t.Errorf("%s %s: ran %+v, %v", path, name, seen, err)
			}
		}
	}
}

func TestArrange(t *testing.T) {
	for line, want := range map[string]string{
		"send bob hi --json":                       "--json=|send|--|bob|hi",
		"--dir /d send bob hi":                     "--dir=/d|send|--|bob|hi",
		"send bob hi --dir=/d":                     "--dir=/d|send|--|bob|hi",
		"send --wait bob hi":                       "send|--wait|--|bob|hi",
		"send bob hi --wait --timeout 5s":          "send|--wait|--timeout=5s|--|bob|hi",
		"send bob -- --json -":                     "send|--|bob|--json|-",
		"send bob - --json":                        "--json=|send|--|bob|-",
		"send bob -- -- a":                         "send|--|bob|--|a",
		"history bob -n 5":                         "history|--n=5|--|bob",
		"history bob -n=5":                         "history|--n=5|--|bob",
		"host invite --uses 3 --dir /h":            "--dir=/h|host|invite|--uses=3",
		"host --open --dir /h":                     "--dir=/h|host|--open",
		"--json":                                   "--json=",
		"send bob hi --help":                       "send|--help",
		"-v":                                       "--v",
		"add bob --note -":                         "add|--note=-|--|bob",
		"add bob --note --json":                    "add|--note=--json|--|bob",
		"send bob --generate-bash-completion":      "send|bob|--generate-bash-completion",
		"send bob --js --generate-bash-completion": "send|bob|--js|--generate-bash-completion",
		"": "",
	} {
		got, err := arrange(newProgram().app(), append([]string{"parley"}, strings.Fields(line)...))
		want = strings.ReplaceAll(want, "--json=", "--json")
		if err != nil || strings.Join(got[1:], "|") != want {
			t.Errorf("%q: %q, %v, want %s", line, got, err, want)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	for line, hint := range map[string]string{
		"sned bob hi":         "did you mean send?",
		"frobnicate":          "parley help lists all commands",
		"host inivte":         "did you mean invite?",
		"host hello":          "parley help lists all commands",
		"send bob hi --jsno":  "did you mean --json?; write -- before text that begins with a dash",
		"send bob -hello":     "did you mean --help?; write -- before text that begins with a dash",
		"history bob -n":      "",
		"up --keyring":        "write -- before text that begins with a dash",
		"join x --passphrase": "write -- before text that begins with a dash",
	} {
		_, err := parse(strings.Fields(line)...)
		f, ok := errors.AsType[*failure](err)
		if !ok || f.code != exitUsage || strings.Join(f.hints, "; ") != hint {
			t.Errorf("%q: %#v", line, err)
		}
	}
	for _, line := range []string{"history bob -n x", "host invite --ttl x", "send bob hi --wait=5s", "send bob hi --timeout x", "invite --uses 1.5", "up --lan=maybe"} {
		_, err := parse(strings.Fields(line)...)
		if f, ok := errors.AsType[*failure](err); !ok || f.code != exitUsage {
			t.Errorf("%q: %#v", line, err)
		}
	}
}

func TestArrangeLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		texts := rapid.SliceOfN(rapid.StringMatching(`[a-z -]{0,8}`), 0, 5).Draw(t, "texts")
		args := append([]string{"parley", "send", "--json", "--"}, texts...)
		got, err := arrange(newProgram().app(), args)
		if err != nil {
			t.Fatal(err)
		}
		want := append([]string{"parley", "--json", "send"}, args[3:]...)
		if len(texts) == 0 {
			want = want[:3]
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q became %q", args, got)
		}
	})
}
