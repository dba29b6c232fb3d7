package main

import (
	"bytes"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
)

// printed returns what f prints to standard output.
func printed(t *testing.T, f func(p *program)) string {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	p := newProgram()
	p.stdout = out
	f(p)
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const evil = "\x1b[2J\u009b\u202eevil\r\n12:00 bob: I agree\x07"

// TestNothingPrintsAsItCame fills everything that is shown with hostile text.
func TestNothingPrintsAsItCame(t *testing.T) {
	now := time.Now()
	link := api.Link{Problem: evil, Path: evil, PeerID: evil}
	online := true
	contact := api.Contact{Name: evil, Display: evil, Note: evil, Relation: api.Accepted, Path: api.Path(evil), Online: &online}
	message := api.Message{ID: evil, With: evil, Text: evil, Path: api.Path(evil), Problem: evil, State: api.Received, Recorded: now}
	out := printed(t, func(p *program) {
		p.say("%s %v %s %v", evil, errors.New(evil), block{"      ", evil}, []string{evil})
		p.table([][]string{{evil, evil}})
		p.showMessage("", message)
		p.showMessage(label(evil)+" ", api.Message{With: "#" + evil, Room: evil, From: "~" + evil, Text: evil, State: api.Received, Recorded: now})
		p.table(roomRows([]api.Room{{ID: evil, Name: evil, Topic: evil, Stage: api.RoomInvited, By: evil}}))
		p.say("%s", describeRoom(api.Room{ID: evil, Name: evil, Stage: api.RoomJoined, Role: evil, Forked: true}))
		p.say("%s", describeMember(api.RoomMember{Name: evil, Role: api.RoomInvited, By: evil}))
		for _, cause := range []string{"invited", "not_done", "fork", evil} {
			p.showRoomEvent(api.Event{Cause: cause, With: "#" + evil, Room: evil, Text: evil})
		}
		p.showMessage("", api.Message{
			With: evil, Text: evil, State: api.Received, Recorded: now,
			Reactions: []api.Reaction{{Emoji: evil, From: evil}}, ReplyTo: &api.Quote{From: evil, Text: evil},
		})
		p.say("%s", describeLink(link))
		p.say("%s", describeContact(contact))
		p.say("%s", describeState(message))
		p.say("%s", describePrekeys(api.Prekeys{LastProblem: evil}))
		if err := p.json(message); err != nil {
			t.Error(err)
		}
	})
	for _, r := range out {
		if r < ' ' && r != '\n' || r >= 0x7f && r < 0xa0 || r == '\u202e' {
			t.Errorf("%U was printed:\n%q", r, out)
		}
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(line, "12:00 bob") {
			t.Errorf("a message passes for another:\n%s", out)
		}
	}
}

// TestNoNameOfARoomSpeaks: what others call a room is not taken for a message, and never
// reaches a shell unless it is one harmless word.
func TestNoNameOfARoomSpeaks(t *testing.T) {
	id := strings.Repeat("abcdefgh", 6)
	for name, want := range map[string][2]string{ // what is shown, what is typed
		"climbing":            {"#climbing", "climbing"},
		"攀岩-2.0_x":            {"#攀岩-2.0_x", "攀岩-2.0_x"},
		"Sunday climbing":     {`#"Sunday climbing"`, "abcdefgh"},
		"x alice: I owe you":  {`#"x alice: I owe you"`, "abcdefgh"},
		`x" alice: I owe you`: {`#"x' alice: I owe you"`, "abcdefgh"},
		"$(rm -rf ~)":         {`#"$(rm -rf ~)"`, "abcdefgh"},
		"`id`":                {"#\"`id`\"", "abcdefgh"},
		"--yes":               {`#"--yes"`, "abcdefgh"},
		"":                    {"#abcdefgh", "abcdefgh"},
	} {
		r := api.Room{ID: id, Name: name}
		if got := [2]string{roomLabel(r), roomWord(r)}; got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	m := api.Message{Room: id, From: "~bob: yes. alice"}
	if got := author(m, "me"); got != "~bob. yes. alice" {
		t.Errorf("an author is shown as %q", got)
	}
}

// TestOnlyOneWayToPrint looks for prints that do not go through print.go. What
// writes without it prints text of ours: scripts, prompts, QR codes. Exports
// are documents, escaped as their formats want.
func TestOnlyOneWayToPrint(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") || slices.Contains([]string{"print.go", "qr.go", "export_formats.go"}, name) {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok && (strings.HasPrefix(sel.Sel.Name, "Fprint") || strings.HasPrefix(sel.Sel.Name, "Print")) {
				t.Errorf("%s prints with %s", name, sel.Sel.Name)
			}
			return true
		})
	}
}

func TestJSONHasItsVersion(t *testing.T) {
	out := printed(t, func(p *program) {
		for _, v := range []any{struct{}{}, api.Link{PeerID: "bob"}} {
			if err := p.json(v); err != nil {
				t.Error(err)
			}
		}
	})
	want := "{\"v\":1}\n{\"v\":1,\"up\":false,\"peer_id\":\"bob\"}\n"
	if out != want {
		t.Errorf("%s", out)
	}
}

func TestSpan(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 s", 59 * time.Second: "59 s", 61 * time.Second: "1 min", 90 * time.Minute: "1 h 30 min", 49 * time.Hour: "2 days",
	} {
		if got := span(d); got != want {
			t.Errorf("%v: %s", d, got)
		}
	}
}

func TestQR(t *testing.T) {
	var out bytes.Buffer
	if err := printQR(&out, "parley://join#"+strings.Repeat("A", 900), false); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	width := len([]rune(lines[0]))
	for _, l := range lines {
		if len([]rune(l)) != width || strings.Trim(l, " █▀▄") != "" {
			t.Errorf("line %q", l)
		}
	}
	if (width+1)/2 != len(lines) || lines[0] != strings.Repeat("█", width) {
		t.Errorf("%d columns, %d lines, first %q", width, len(lines), lines[0])
	}
	out.Reset()
	if err := printQR(&out, strings.Repeat("x", 5000), false); err == nil {
		t.Error("made a QR code of 5000 bytes")
	}
}
