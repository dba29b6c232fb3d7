package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/invite"
	"github.com/parley-chat/parley/store"
)

func TestExitCodes(t *testing.T) {
	_, missing := os.Open(filepath.Join(t.TempDir(), "missing"))
	for _, tt := range []struct {
		err  error
		code int
		says string // in its text or hints
	}{
		{errors.New("oops"), exitError, "oops"},
		{usageError("no").hint("yes"), exitUsage, "yes"},
		{fmt.Errorf("ask: %w", api.ErrNotRunning), exitNotRunning, "parley up"},
		{vault.ErrWrongSecret, exitLocked, "nothing was changed"},
		{fmt.Errorf("open: %w", vault.ErrNoVault), exitNotFound, "parley join"},
		{store.ErrLocked, exitConflict, "another process"},
		{fmt.Errorf("add this device: %w", account.ErrFull), exitError, "24 words"},
		{invite.ErrNotInvite, exitUsage, "parley host invite"},
		{context.DeadlineExceeded, exitTimeout, ""},
		{fmt.Errorf("ask: %w", context.Canceled), exitError, "interrupted"},
		{missing, exitError, "no such file"},
		{fmt.Errorf("listen: %w", syscall.EADDRINUSE), exitError, "--listen"},
		{&api.Error{Code: api.ErrNotFound, Text: "who?", Hint: "parley contacts"}, exitNotFound, "parley contacts"},
		{&api.Error{Code: api.ErrOffline, Text: "away"}, exitTimeout, "away"},
		{&api.Error{Code: api.ErrConflict, Text: "taken"}, exitConflict, "taken"},
		{&api.Error{Code: "of_the_future", Text: "new"}, exitError, "new"},
		{protocol.Refuse(protocol.NameTaken, ""), exitConflict, "--name"},
		{fmt.Errorf("register: %w", protocol.Refuse(protocol.InviteExpired, "")), exitLocked, "ask for a new one"},
		{&protocol.Error{Code: protocol.SenderFull, RetryAfter: time.Minute}, exitError, "1m0s"},
	} {
		f := explain(tt.err)
		if all := f.text + strings.Join(f.hints, "\n"); f.code != tt.code || !strings.Contains(all, tt.says) {
			t.Errorf("%v: exit code %d, %q", tt.err, f.code, all)
		}
	}
}

// TestEveryAPIErrorHasAnExitCode reads the codes out of the API's source, so
// that none is forgotten.
func TestEveryAPIErrorHasAnExitCode(t *testing.T) {
	source, err := os.ReadFile("../../node/api/types.go")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.Lines(string(source)) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), "= \"")
		if !ok || !strings.HasPrefix(name, "Err") {
			continue
		}
		n++
		code, _, _ := strings.Cut(rest, `"`)
		if apiCodes[code] == exitOK {
			t.Errorf("%s has no exit code", code)
		}
	}
	if n < 9 {
		t.Errorf("found only %d codes", n)
	}
}
