package main

import (
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/parley-chat/parley/cmd/parley/display"
	"github.com/parley-chat/parley/node/api"
)

// bar is one line at the bottom of the terminal that tells how far something is. Where
// there is no terminal it shows nothing.
type bar struct {
	out   *os.File // nil: nothing is shown
	name  string
	width int
	last  string
}

func (p *program) newBar(name string) *bar {
	b := &bar{name: name}
	if width, _, err := term.GetSize(int(p.stderr.Fd())); err == nil {
		b.out, b.width = p.stderr, width
	}
	return b
}

// showFile shows how far the file of a message is.
func (b *bar) showFile(m api.Message) {
	f := m.File
	if f.Progress == nil {
		b.line(b.name + ": " + fileState(m))
		return
	}
	b.show(*f.Progress, f.Size)
}

// show shows how far something is that has no message yet.
func (b *bar) show(p api.Progress, size int64) {
	text := progressText(&p, size)
	if p.Doing != api.Giving {
		text = b.drawn(p.Done, size) + " " + text
	}
	b.line(b.name + " " + text)
}

const barCells = 20

func (b *bar) drawn(done, size int64) string {
	full := barCells
	if size > 0 {
		full = int(min(done, size) * barCells / size)
	}
	return "[" + strings.Repeat("#", full) + strings.Repeat("-", barCells-full) + "]"
}

// line writes over what was there. It is cut so that it stays one line.
func (b *bar) line(text string) {
	if text = display.Clean(text); b.out == nil || text == b.last {
		return
	}
	if runes := []rune(text); len(runes) >= b.width {
		text = string(runes[:max(0, b.width-1)])
	}
	b.last = text
	redraw(b.out, text)
}

// end takes the line away.
func (b *bar) end() {
	if b.out != nil && b.last != "" {
		redraw(b.out, "")
	}
	b.last = ""
}
