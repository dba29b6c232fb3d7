package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/urfave/cli/v2"
)

// TestHintsNameRealCommands reads what our texts tell people to type.
func TestHintsNameRealCommands(t *testing.T) {
	app := (&program{}).app()
	app.Setup()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, "../../node/errors.go")
	typed, found := regexp.MustCompile("(?:[:,]|or|[\"`]) ?parley ([a-z]+)(?: ([a-z]+))?"), 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range typed.FindAllSubmatch(source, -1) {
			found++
			name, sub := string(match[1]), string(match[2])
			c := app.Command(name)
			if c == nil {
				t.Errorf("%s: there is no command %q", file, name)
				continue
			}
			of := func(s *cli.Command) bool { return s.HasName(sub) }
			if sub != "" && len(c.Subcommands) > 0 && !slices.ContainsFunc(c.Subcommands, of) {
				t.Errorf("%s: there is no command %q of %s", file, sub, name)
			}
		}
	}
	if found < 10 {
		t.Errorf("found only %d commands", found)
	}
}
