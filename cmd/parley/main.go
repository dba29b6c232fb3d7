// Command parley is the whole of Parley in one program: the rendezvous, a
// person's node, and the command line that talks to it.
package main

import "os"

// version is set when a release is built.
var version = "dev"

func main() {
	harden()
	os.Exit(run(os.Args))
}
