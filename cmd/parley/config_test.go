package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// listens returns what `parley up` would listen at.
func listens(t *testing.T, dir string, args ...string) (addrs []string, err error) {
	t.Helper()
	app := newProgram().app()
	app.Command("up").Action = with(0, 0, func(c *cli.Context) error {
		addrs = given(c, "listen")
		return nil
	})
	args, err = arrange(app, append([]string{"parley", "up", "--dir", dir}, args...))
	if err != nil {
		t.Fatal(err)
	}
	return addrs, app.Run(args)
}

func TestConfigPrecedence(t *testing.T) {
	dir := t.TempDir()
	check := func(want string, args ...string) {
		t.Helper()
		got, err := listens(t, dir, args...)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("listens at %q, %v, want %q", got, err, want)
		}
	}
	if got, err := listens(t, dir); got != nil || err != nil {
		t.Errorf("default: %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(dir, configName), []byte("# mine\n\nlisten: \"/file, /file2\"\nlan: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check("/file /file2")
	t.Setenv("PARLEY_LISTEN", "/env")
	check("/env")
	check("/flag /flag2", "--listen", "/flag", "--listen=/flag2")
}

func TestConfigMistakes(t *testing.T) {
	for _, text := range []string{"listne: x", "no colon", "passphrase: hunter2", "lan: maybe", "dir: /x", "- listen"} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, configName), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := listens(t, dir)
		if f, ok := errors.AsType[*failure](err); !ok || f.code != exitUsage {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestDuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"7d": 7 * 24 * time.Hour, "90m": 90 * time.Minute, "1h30m": 90 * time.Minute} {
		var d duration
		if err := d.Set(text); err != nil || time.Duration(d) != want {
			t.Errorf("%s: %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "d", "-1d", "-5m", "0s", "1.5d", "week", "99999999d"} {
		var d duration
		if err := d.Set(text); err == nil {
			t.Errorf("%q is %v", text, d)
		}
	}
}
