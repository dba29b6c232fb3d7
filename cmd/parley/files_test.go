package main

import (
	"testing"

	"github.com/parley-chat/parley/node/api"
)

func TestLooksLikePath(t *testing.T) {
	for arg, want := range map[string]bool{
		"./a": true, "../a": true, "/a": true, "~/a": true, ".": true, "..": true,
		"a": false, "a/b": false, "...": false, "~": false, "-": false, "": false, ".hidden": false, "hello": false,
	} {
		if got := looksLikePath(arg); got != want {
			t.Errorf("%q: %v, want %v", arg, got, want)
		}
	}
}

func TestSizeFlag(t *testing.T) {
	for text, want := range map[string]size{"0": 0, "500000": 500000, "500K": 500 << 10, "10m": 10 << 20, "1G": 1 << 30} {
		var got size
		if err := got.Set(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "K", "-1", "1.5M", "10MB", "1T", "99999999999G"} {
		if err := new(size).Set(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1<<20 - 1: "1.0 MiB", 1 << 30: "1.0 GiB", 1 << 40: "1.0 TiB", 1 << 50: "1024.0 TiB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestProgressText(t *testing.T) {
	for want, p := range map[string]api.Progress{
		"fetching 50 %  1.0 MiB/s  relayed  5 s left": {Doing: api.Fetching, Done: 5 << 20, Rate: 1 << 20, Path: "relayed"},
		"checking 0 %":              {Doing: api.Checking},
		"waits for 2 others":        {Doing: api.Waiting, Waits: "waits for 2 others"},
		"waiting":                   {Doing: api.Waiting},
		"giving  2.0 KiB/s  direct": {Doing: api.Giving, Rate: 2 << 10, Path: "direct"},
	} {
		if got := progressText(&p, 10<<20); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := progressText(&api.Progress{Doing: api.Fetching}, 0); got != "fetching" {
		t.Errorf("of an empty file %q", got)
	}
}

func TestFileOutcome(t *testing.T) {
	for want, m := range map[string]api.Message{
		"bob has it":                               {Mine: true, File: &api.File{State: api.FileDone, Answer: api.FileTaken}},
		"bob does not want it":                     {Mine: true, File: &api.File{State: api.FileDone, Answer: api.FileRefused}},
		"sent; bob has not fetched it":             {Mine: true, File: &api.File{State: api.FileDone}},
		"sent; your node gives it to who wants it": {Mine: true, Room: "x", File: &api.File{State: api.FileDone}},
		"here: /a/b":                               {File: &api.File{State: api.FileDone, Path: "/a/b"}},
		"failed: no room":                          {File: &api.File{State: api.FileFailed, Problem: "no room"}},
		"parley file accept abcdefgh":              {File: &api.File{State: api.FileOffered, Asks: true}},
		"offered":                                  {File: &api.File{State: api.FileOffered}},
		"waiting":                                  {File: &api.File{State: api.FileWanted}},
		"paused":                                   {File: &api.File{State: api.FilePaused}},
	} {
		m.With, m.ID = "bob", "abcdefghijkl"
		if got := fileOutcome(m); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
