package main

import (
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"

	"github.com/parley-chat/parley/cmd/parley/display"
	"github.com/parley-chat/parley/node/api"
)

// exportJSON writes a line for each message: what `parley history --json` says
// of it, with every byte of its text.
type exportJSON struct{ w io.Writer }

func (e *exportJSON) begin(api.Whoami) error      { return nil }
func (e *exportJSON) conversation(string) error   { return nil }
func (e *exportJSON) message(m api.Message) error { return writeJSON(e.w, m) }
func (e *exportJSON) end() error                  { return nil }

// exportMarkdown writes CommonMark. Texts are quoted and escaped: nothing in
// them is markup.
type exportMarkdown struct {
	w   io.Writer
	me  string
	day string
}

func (e *exportMarkdown) begin(me api.Whoami) error {
	e.me = me.Name
	return e.print("# Conversations of %s\n", markdownLine(me.Name))
}

func (e *exportMarkdown) conversation(title string) error {
	e.day = ""
	return e.print("\n## %s\n", markdownLine(display.Clean(title)))
}

func (e *exportMarkdown) message(m api.Message) error {
	s := exportedOf(m, e.me)
	if s.Day != e.day {
		e.day = s.Day
		if err := e.print("\n### %s\n", s.Day); err != nil {
			return err
		}
	}
	lines := strings.Split(s.Text, "\n")
	for i := range lines {
		lines[i] = "> " + markdownLine(lines[i])
	}
	note := ""
	if s.Note != "" {
		note = " \\[" + markdownLine(s.Note) + "\\]"
	}
	return e.print("\n**%s**, %s%s\n\n%s\n", markdownLine(s.Who), s.Clock, note, strings.Join(lines, "\\\n"))
}

func (e *exportMarkdown) end() error { return nil }

func (e *exportMarkdown) print(format string, args ...any) error {
	_, err := fmt.Fprintf(e.w, format, args...)
	return err
}

// markdownLine escapes a line: every ASCII punctuation mark (CommonMark 2.4),
// and spaces at the start, which would make it code.
func markdownLine(line string) string {
	var out strings.Builder
	rest := strings.TrimLeft(line, " ")
	out.WriteString(strings.Repeat("\u00a0", len(line)-len(rest)))
	for _, r := range rest {
		if r < 0x80 && strings.ContainsRune("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", r) {
			out.WriteByte('\\')
		}
		out.WriteRune(r)
	}
	return out.String()
}

// exportHTML writes one page that needs nothing else: no script, no picture, no
// link. The policy in it forbids them besides.
type exportHTML struct {
	w    io.Writer
	me   string
	day  string
	open bool // a conversation
}

func (e *exportHTML) begin(me api.Whoami) error {
	e.me = me.Name
	return pages.ExecuteTemplate(e.w, "begin", me.Name)
}

func (e *exportHTML) conversation(title string) error {
	if err := e.close(); err != nil {
		return err
	}
	e.open, e.day = true, ""
	return pages.ExecuteTemplate(e.w, "conversation", display.Clean(title))
}

func (e *exportHTML) message(m api.Message) error {
	s := exportedOf(m, e.me)
	if s.Day != e.day {
		e.day = s.Day
		if err := pages.ExecuteTemplate(e.w, "day", s.Day); err != nil {
			return err
		}
	}
	return pages.ExecuteTemplate(e.w, "message", s)
}

func (e *exportHTML) end() error {
	if err := e.close(); err != nil {
		return err
	}
	return pages.ExecuteTemplate(e.w, "end", nil)
}

func (e *exportHTML) close() error {
	if !e.open {
		return nil
	}
	return pages.ExecuteTemplate(e.w, "close", nil)
}

var pages = template.Must(template.New("").Parse(`
{{- define "begin"}}<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width">
<title>Conversations of {{.}}</title>
<style>
body { font: 1rem/1.5 sans-serif; max-width: 45rem; margin: 2rem auto; padding: 0 1rem; }
h3 { color: #555; font-size: 1rem; }
.m { margin: .7rem 0; }
.mine { margin-left: 3rem; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; padding: .4rem .7rem; background: #eee; border-radius: .4rem; }
.mine .text { background: #dcebdc; }
small { color: #555; }
@media (prefers-color-scheme: dark) {
	body { background: #151515; color: #eee; } .text { background: #333; } .mine .text { background: #24402a; } small, h3 { color: #aaa; }
}
</style>
</head>
<body>
<h1>Conversations of {{.}}</h1>
{{end}}
{{- define "conversation"}}<section>
<h2>{{.}}</h2>
{{end}}
{{- define "day"}}<h3>{{.}}</h3>
{{end}}
{{- define "message"}}<div class="m{{if .Mine}} mine{{end}}"><small><b>{{.Who}}</b> {{.Clock}}{{with .Note}} [{{.}}]{{end}}</small><p class="text" dir="auto">{{.Text}}</p></div>
{{end}}
{{- define "entry"}}<p><small>{{index . 0}}</small> {{index . 1}}</p>
{{end}}
{{- define "close"}}</section>
{{end}}
{{- define "end"}}</body>
</html>
{{end}}`))

// shown is a message as people read it.
type shown struct {
	Who, Day, Clock, Text, Note string
	Mine                        bool
}

func exportedOf(m api.Message, me string) shown {
	at := m.Recorded.Local()
	s := shown{Who: display.Clean(author(m, me)), Day: at.Format(time.DateOnly), Clock: at.Format("15:04"), Text: display.CleanLines(m.Text), Mine: m.Mine}
	switch {
	case m.Mine && !arrived(m):
		s.Note = display.Clean(describeState(m))
	case m.State == api.Hole:
		s.Note = "a message is missing"
	case m.Late:
		s.Note = "late"
	}
	s.Note = display.Clean(strings.Join(append(notEmpty(s.Note), besides(m)...), "; "))
	return s
}

func fullName(k api.Contact) string {
	if k.Display == "" || k.Display == k.Name {
		return k.Name
	}
	return k.Name + " (" + k.Display + ")"
}

// besides is what there is to a message besides its text.
func besides(m api.Message) (notes []string) {
	if m.Deleted {
		notes = append(notes, "deleted")
	}
	if m.File != nil {
		notes = append(notes, "file "+m.File.Name+", "+bytesText(m.File.Size))
	}
	if m.Edited != nil {
		notes = append(notes, "edited")
	}
	if m.ReplyTo != nil {
		notes = append(notes, strings.TrimSuffix("answers "+m.ReplyTo.From+": "+m.ReplyTo.Text, ": "))
	}
	if m.Pinned {
		notes = append(notes, "pinned")
	}
	for _, r := range m.Reactions {
		notes = append(notes, r.Emoji+" "+r.From)
	}
	return notes
}

func notEmpty(text string) []string {
	if text == "" {
		return nil
	}
	return []string{text}
}
