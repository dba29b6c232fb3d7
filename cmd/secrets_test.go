package cmd

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// What a leaked secret looks like. Keys for tests live in testdata folders, in
// protocol/key/keytest and in tests, and only there.
var leaks = map[string]*regexp.Regexp{
	"private key":      regexp.MustCompile(`-----BEGIN [A-Z ]*PRIVATE KEY`),
	"cloud key":        regexp.MustCompile(`\b(AKIA|ASIA)[0-9A-Z]{16}\b`),
	"token":            regexp.MustCompile(`\b(ghp|gho|ghs|glpat|xoxb|sk_live)[_-][0-9A-Za-z]{16,}`),
	"default password": regexp.MustCompile(`(?i)\b(password|secret|api_?key)\b["']?\s*(:=|=|:)\s*["'][^"'$<{%\s]{6,}["']`),
}

// TestIM15_NoSecretInTheTree: no key, password or default secret is committed.
func TestIM15_NoSecretInTheTree(t *testing.T) {
	if len(findLeaks([]byte(`password = "hunter22"`))) == 0 || len(findLeaks([]byte("-----BEGIN RSA PRIVATE KEY"))) == 0 {
		t.Fatal("the scan does not find what it looks for")
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			switch d.Name() {
			case ".git", "bin", "dist", "testdata", "keytest", "node_modules":
				return filepath.SkipDir
			}
			return nil
		}
		if strings.HasSuffix(path, "_test.go") || !d.Type().IsRegular() { // tests plant secrets to look for them
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil || bytes.IndexByte(text, 0) >= 0 {
			return err
		}
		for what, line := range findLeaks(text) {
			t.Errorf("%s: %s: %s", path, what, line)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// findLeaks returns, for each kind that occurs, where.
func findLeaks(text []byte) map[string]string {
	found := map[string]string{}
	for what, pattern := range leaks {
		if at := pattern.Find(text); at != nil {
			found[what] = string(at[:min(len(at), 40)])
		}
	}
	return found
}
