package main

import (
	"os"
	"path/filepath"

	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/rendezvous"
	"github.com/parley-chat/parley/rendezvous/relay"
)

// Whose a data directory can be.
const (
	aNode       = "a node"
	aRendezvous = "a rendezvous"
	aRelay      = "a relay"
)

// ownerOf tells whose a data directory is; empty: nobody's yet.
func ownerOf(dir string) string {
	if _, _, err := vault.Kind(dir); err == nil {
		return aNode
	}
	for name, owner := range map[string]string{rendezvous.IdentityFile: aRendezvous, relay.IdentityFile: aRelay} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return owner
		}
	}
	return ""
}

// checkDir keeps a server out of the directories of others, and so from having
// their names.
func checkDir(dir, server string) error {
	owner := ownerOf(dir)
	if owner == "" || owner == server {
		return nil
	}
	return fail(exitConflict, "%s belongs to %s", dir, owner).hint("choose another directory for %s: --dir", server)
}
