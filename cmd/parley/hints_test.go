package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestHintsNameRealCommands reads what our texts tell people to type.
func TestHintsNameRealCommands(t *testing.T) {
	app := (&program{}).app()
	app.Setup()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	typed, found := regexp.MustCompile("(?:[:,]|or|[\"`]) ?parley ([a-z]+)"), 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range typed.FindAllSubmatch(source, -1) {
			found++
			if name := string(match[1]); app.Command(name) == nil {
				t.Errorf("%s: there is no command %q", file, name)
			}
		}
	}
	if found < 10 {
		t.Errorf("found only %d commands", found)
	}
}
