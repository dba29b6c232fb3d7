//go:build race

package engine

import "flag"

// Under the race detector a schedule costs ten times as much: fewer are tried, unless
// the command line says how many.
func init() {
	if err := flag.Set("rapid.checks", "10"); err != nil {
		panic(err)
	}
}
