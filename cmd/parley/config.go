package main

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// configName is a file in the data directory that gives flags other defaults:
//
//	# lines of "name: value", a subset of YAML
//	lan: true
//	listen: /ip4/0.0.0.0/tcp/4040
//
// A flag on the command line wins over its environment variable, that over the
// file, and the file over the default.
const configName = "config.yaml"

// configurable are the flags that the file may set.
var configurable = []string{"announce", "auto-accept-bytes", "download-dir", "file-rate", "key-file", "lan", "listen", "open", "passphrase-file"}

// configure sets the flags of a command that nobody set from the file.
func configure(c *cli.Context, dir string) error {
	values, err := readConfig(filepath.Join(dir, configName))
	if err != nil {
		return err
	}
	for _, f := range c.Command.Flags {
		name := f.Names()[0]
		value, ok := values[name]
		if !ok || c.IsSet(name) {
			continue
		}
		if err := c.Set(name, value); err != nil {
			return usageError("%s: %s: %v", configName, name, err)
		}
	}
	return nil
}

func readConfig(path string) (map[string]string, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // a node that runs can be asked all the same
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	values := make(map[string]string)
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !slices.Contains(configurable, name) {
			return nil, usageError("%s line %d: %q sets nothing we know", path, n, line).
				hint("it may set: %s", strings.Join(configurable, ", "))
		}
		values[name] = strings.Trim(strings.TrimSpace(value), `"'`)
	}
	return values, lines.Err()
}
