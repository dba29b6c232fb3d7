package main

import (
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parley-chat/parley/cmd/parley/display"
	"github.com/parley-chat/parley/node/api"
)

// Everything that is printed goes through this file: here, and only here, text
// of other people is made safe.

// say prints a line of an answer. The format is ours; what it is filled with
// may be anybody's and is cleaned.
func (p *program) say(format string, args ...any) { p.print(p.stdout, format, args) }

// note prints a line that is no answer: progress, advice, questions.
func (p *program) note(format string, args ...any) { p.print(p.stderr, format, args) }

func (p *program) print(w io.Writer, format string, args []any) {
	for i, arg := range args {
		args[i] = clean(arg)
	}
	fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf(format, args...), " \n"))
}

// redraw writes a line over the last one of a terminal.
func redraw(terminal io.Writer, line string) { fmt.Fprint(terminal, "\r\x1b[K"+display.Clean(line)) }

// block is text that may keep its line breaks; later lines are indented by it.
type block struct{ indent, text string }

func clean(arg any) any {
	switch arg := arg.(type) {
	case block:
		return strings.ReplaceAll(display.CleanLines(arg.text), "\n", "\n"+arg.indent)
	case error:
		return display.Clean(arg.Error())
	case fmt.Stringer:
		return display.Clean(arg.String())
	}
	switch v := reflect.ValueOf(arg); v.Kind() {
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint64, reflect.Float64:
		return arg
	case reflect.String:
		return display.Clean(v.String())
	default:
		return display.Clean(fmt.Sprint(arg))
	}
}

// table prints rows in columns.
func (p *program) table(rows [][]string) {
	var widths []int
	for _, row := range rows {
		for i := range row {
			row[i] = display.Clean(row[i])
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i]))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		fmt.Fprintln(p.stdout, strings.TrimRight(line.String(), " "))
	}
}

// json prints v, which encodes as an object, with the version of our JSON.
func (p *program) json(v any) error { return writeJSON(p.stdout, v) }

// listed is a list as our JSON has it: under a name, and never null.
func listed[T any](name string, all []T) map[string][]T {
	return map[string][]T{name: append([]T{}, all...)}
}

func writeJSON(w io.Writer, v any) error {
	encoded, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	rest := display.JSON(encoded)[1:]
	if len(rest) > 1 {
		rest = append([]byte{','}, rest...)
	}
	_, err = fmt.Fprintf(w, "{\"v\":%d%s\n", api.V, rest)
	return err
}

// complain prints why the program fails, and what to do.
func (p *program) complain(f *failure, asJSON bool) {
	if asJSON {
		writeJSON(p.stderr, struct {
			Error string   `json:"error"`
			Hint  []string `json:"hint,omitempty"`
			Code  int      `json:"code"`
		}{f.text, f.hints, f.code})
		return
	}
	p.note("parley: error: %s", f.text)
	for _, hint := range f.hints {
		p.note("hint: %s", hint)
	}
}

// clock shows a time: only the time of day if that is enough.
func clock(t time.Time) string {
	t = t.Local()
	if time.Since(t) < 20*time.Hour && time.Since(t) > -time.Hour {
		return t.Format("15:04")
	}
	return minute(t)
}

// minute shows a time with its day.
func minute(t time.Time) string { return t.Local().Format("2006-01-02 15:04") }

// age shows how long ago something was, in its one or two largest units.
func age(t time.Time) string { return span(time.Since(t)) }

func span(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < time.Second:
		return "0 s"
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%d h %d min", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%d days", d/day)
}

func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
