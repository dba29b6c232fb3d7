package main

import (
	"fmt"
	"io"
	"strings"

	"rsc.io/qr"
)

// quiet is the white border that scanners need, in modules.
const quiet = 2

// printQR prints a QR code, two rows of modules to a line. On a terminal the
// colours are set, so that it is black on white whatever the theme; elsewhere
// a full block stands for white, as on a dark screen.
func printQR(w io.Writer, text string, colours bool) error {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return fmt.Errorf("make QR code: %w", err)
	}
	start, end := "", ""
	if colours {
		start, end = "\x1b[97;40m", "\x1b[0m" // white blocks on black
	}
	for y := -quiet; y < code.Size+quiet; y += 2 {
		var line strings.Builder
		for x := -quiet; x < code.Size+quiet; x++ {
			line.WriteString(halfBlock(!code.Black(x, y), y+1 < code.Size+quiet && !code.Black(x, y+1)))
		}
		if _, err := fmt.Fprintln(w, start+line.String()+end); err != nil {
			return err
		}
	}
	return nil
}

func halfBlock(upper, lower bool) string {
	switch {
	case upper && lower:
		return "█"
	case upper:
		return "▀"
	case lower:
		return "▄"
	}
	return " "
}
