package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
)

// hostile is what somebody may write, or be called.
const hostile = "<script>alert(1)</script> \x1b[2J\u202e# *bold* [x](javascript:alert(1)) \n## heading\n    code\n```\n> quote & \" '"

func exportOf(t *testing.T, format string) string {
	t.Helper()
	var out bytes.Buffer
	f := exportFormats[format](&out)
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.Local)
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	check(f.begin(api.Whoami{Name: "alice"}))
	for _, name := range []string{"bob", "carol"} {
		check(f.conversation(fullName(api.Contact{Name: name, Display: hostile})))
		check(f.message(api.Message{With: name, Text: hostile, State: api.Received, Recorded: at, Position: 1}))
		check(f.message(api.Message{With: name, Mine: true, Text: "mine", State: api.Failed, Problem: hostile, Recorded: at.AddDate(0, 0, 1), Position: 2}))
		check(f.message(api.Message{With: name, State: api.Hole, Recorded: at.AddDate(0, 0, 1), Position: 3}))
	}
	check(f.conversation(roomLabel(api.Room{Name: hostile})))
	check(f.message(api.Message{With: "#" + hostile, Room: "id", From: "~" + hostile, Text: hostile, State: api.Received, Recorded: at, Position: 1}))
	check(f.message(api.Message{With: "#climbing", Room: "id", Mine: true, Text: "stored is said", State: api.Stored, Recorded: at, Position: 2}))
	check(f.conversation(hostile))
	check(f.entry("id", api.RoomEntry{Seq: 1, Time: at, By: hostile, What: "join", Text: hostile + " joined"}))
	check(f.end())
	return out.String()
}

func TestExportIsSafe(t *testing.T) {
	for format := range exportFormats {
		for _, r := range exportOf(t, format) {
			if r < ' ' && r != '\n' && !(format == "html" && r == '\t') || r == 0x7f || r == '\u202e' {
				t.Errorf("%s: control character %q", format, r)
			}
		}
	}
	html := exportOf(t, "html")
	for _, tag := range []string{"<script", "<a ", "<img", "href", "src="} {
		if strings.Contains(html, tag) {
			t.Errorf("html has %q", tag)
		}
	}
	for _, tag := range []string{"section", "div", "p", "h2", "body", "html"} {
		if opened, closed := strings.Count(html, "<"+tag+">")+strings.Count(html, "<"+tag+" "), strings.Count(html, "</"+tag+">"); opened == 0 || opened != closed {
			t.Errorf("%s: opened %d times, closed %d times", tag, opened, closed)
		}
	}
	for _, line := range strings.Split(exportOf(t, "md"), "\n") {
		plain := strings.TrimPrefix(line, "> ")
		for i, r := range plain {
			if strings.ContainsRune("<[`*_", r) && (i == 0 || plain[i-1] != '\\') && !strings.HasPrefix(line, "**") {
				t.Errorf("markdown line %q: %q is not escaped", line, r)
			}
		}
		if plain != line && (strings.HasPrefix(plain, "#") || strings.HasPrefix(plain, " ")) {
			t.Errorf("markdown line %q is markup", line)
		}
	}
}

func TestExportShowsEverything(t *testing.T) {
	md := exportOf(t, "md")
	for _, want := range []string{"# Conversations of alice", "\n## bob \\(", "\n## carol \\(", "### 2026-11-21", "### 2026-11-22", "**alice**, 12:00 \\[failed", "**alice**, 12:00\n\n> stored is said", "\\[a message is missing\\]", "\u00a0\u00a0\u00a0\u00a0code"} {
		if !strings.Contains(md, want) {
			t.Errorf("markdown has no %q:\n%s", want, md)
		}
	}
	if n := strings.Count(exportOf(t, "json"), "\n"); n != 9 {
		t.Errorf("%d lines of JSON", n)
	}
}

func TestWordGrid(t *testing.T) {
	var list []string
	for i := range 24 {
		list = append(list, strings.Repeat("x", 3+i%6))
	}
	lines := strings.Split(strings.TrimSuffix(wordGrid(list), "\n"), "\n")
	if len(lines) != 6 || !strings.HasPrefix(lines[0], " 1 xxx ") || !strings.Contains(lines[0], " 7 xxx") || !strings.HasSuffix(strings.TrimRight(lines[5], " "), "24 xxxxxxxx") {
		t.Errorf("%q", lines)
	}
}
