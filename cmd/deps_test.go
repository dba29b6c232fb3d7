// Package cmd holds no code, only the rules of who may import whom. They are
// what keeps the rendezvous blind, the protocol pure, and the faces replaceable.
package cmd

import (
	"encoding/json"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/parley-chat/parley/"

// rules: a package that matches one of pkgs, and none of except, depends on
// nothing that matches one of never, not even through others. A pattern that
// ends in /... covers what is below it. Ours are written without the module.
var rules = []struct {
	name   string
	pkgs   []string
	except []string
	never  []string
}{
	{
		name:  "the protocol is pure",
		pkgs:  []string{"protocol", "protocol/..."},
		never: []string{"net", "net/http", "os/exec", "crypto/x509", "store/...", "node/...", "rendezvous/...", "cmd/...", "github.com/libp2p/...", "github.com/dgraph-io/..."},
	},
	{
		name:  "the store knows only the protocol's names",
		pkgs:  []string{"store", "store/..."},
		never: []string{"node/...", "rendezvous/...", "cmd/...", "github.com/libp2p/...", "protocol/envelope", "protocol/session"},
	},
	{
		name:  "the contract of the store has no backend",
		pkgs:  []string{"store"},
		never: []string{"store/badger", "store/memory", "store/embedded", "net", "github.com/dgraph-io/..."},
	},
	{
		name:  "the engine does no I/O",
		pkgs:  []string{"node/engine"},
		never: []string{"net", "net/http", "os/exec", "store/badger", "store/memory", "store/embedded", "github.com/libp2p/...", "github.com/dgraph-io/...", "node", "node/api", "node/vault", "node/web"},
	},
	{
		name:  "a backup is a file and nothing else",
		pkgs:  []string{"node/backup"},
		never: []string{"net", "net/http", "os/exec", "store/badger", "store/memory", "store/embedded", "github.com/libp2p/...", "github.com/dgraph-io/...", "node", "node/api", "node/vault", "node/web"},
	},
	{
		name:  "the rendezvous is blind",
		pkgs:  []string{"rendezvous", "rendezvous/..."},
		never: []string{"protocol/envelope", "protocol/session", "protocol/file", "protocol/room/chain", "protocol/room/guest", "protocol/pake", "protocol/internal/kdfchain", "node/...", "cmd/..."},
	},
	{
		name:  "moving files needs no network, and of the store what it knows of disks",
		pkgs:  []string{"node/transfer"},
		never: []string{"net", "net/http", "os/exec", "store", "store/badger", "store/memory", "store/embedded", "store/blob", "github.com/libp2p/...", "node", "node/api", "node/engine", "node/vault", "node/web"},
	},
	{
		name:  "who passes room messages on has nothing to open them with",
		pkgs:  []string{"protocol/room", "protocol/room/message"},
		never: []string{"protocol/envelope", "protocol/session", "protocol/file", "protocol/room/chain", "protocol/room/guest", "protocol/pake", "protocol/internal/kdfchain"},
	},
	{
		name:  "the relay runs alone",
		pkgs:  []string{"rendezvous/relay", "rendezvous/p2p"},
		never: []string{"store", "store/badger", "store/memory", "store/ordmap", "store/embedded", "store/storetest", "rendezvous", "github.com/dgraph-io/..."},
	},
	{
		name:  "whoever checks tokens needs nothing else",
		pkgs:  []string{"rendezvous/token"},
		never: []string{"store/...", "rendezvous", "github.com/libp2p/...", "github.com/dgraph-io/..."},
	},
	{
		name:   "a node knows the rendezvous by its protocol only",
		pkgs:   []string{"node", "node/..."},
		except: []string{"node/nodetest"},
		never:  []string{"rendezvous/...", "cmd/..."},
	},
	{
		name:  "faces see only the API",
		pkgs:  []string{"node/api", "node/tui"},
		never: []string{"node", "node/engine", "node/vault", "node/web", "store/...", "github.com/libp2p/...", "rendezvous/..."},
	},
	{
		name:  "only test code is for tests",
		pkgs:  []string{"cmd/parley", "cmd/parley/...", "node", "node/web", "node/vault", "node/engine", "node/backup", "rendezvous", "rendezvous/..."},
		never: []string{"testing", "node/nodetest", "node/natlab", "store/storetest", "store/memory"},
	},
}

// direct rules hold for what a package imports itself: the modules it may use.
var direct = []struct {
	name string
	pkgs []string
	may  []string // besides the standard library
}{
	{
		name: "the protocol uses x/crypto, x/mod's logs, x/text's normal forms, protobuf, ristretto255 and a list of words",
		pkgs: []string{"protocol", "protocol/..."},
		may:  []string{"protocol/...", "golang.org/x/crypto/...", "golang.org/x/mod/sumdb/note", "golang.org/x/mod/sumdb/tlog", "golang.org/x/text/unicode/norm", "google.golang.org/protobuf/...", "github.com/gtank/ristretto255", "github.com/tyler-smith/go-bip39/wordlists"},
	},
	{
		name: "the engine uses the protocol and the store's contract",
		pkgs: []string{"node/engine"},
		may:  []string{"protocol/...", "store", "golang.org/x/text/...", "golang.org/x/time/rate", "google.golang.org/protobuf/..."},
	},
	{
		name: "the store's contract uses the protocol's names, and the entries of the journal",
		pkgs: []string{"store"},
		may:  []string{"protocol", "protocol/audit", "protocol/ledger"},
	},
}

type pkg struct {
	ImportPath string
	Standard   bool
	Imports    []string
	Deps       []string // all, also indirect
}

// load lists our packages, and of each what it depends on.
func load(t *testing.T) (ours []pkg, standard map[string]bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-e", "-deps", "-json=ImportPath,Standard,Imports,Deps", module+"...")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	standard = map[string]bool{}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Standard {
			standard[p.ImportPath] = true
		}
		if strings.HasPrefix(p.ImportPath, module) {
			ours = append(ours, p)
		}
	}
	if len(ours) < 10 || !standard["fmt"] {
		t.Fatalf("go list found %d packages of ours and %d of the standard library", len(ours), len(standard))
	}
	return ours, standard
}

// covers tells whether a pattern means an import path.
func covers(pattern, path string) bool {
	path = strings.TrimPrefix(path, module)
	if base, ok := strings.CutSuffix(pattern, "/..."); ok {
		return path == base || strings.HasPrefix(path, base+"/")
	}
	return path == pattern
}

func anyCovers(patterns []string, path string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return covers(p, path) })
}

func TestWhoMayImportWhom(t *testing.T) {
	ours, standard := load(t)
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, p := range ours {
				if !anyCovers(rule.pkgs, p.ImportPath) || anyCovers(rule.except, p.ImportPath) {
					continue
				}
				for _, dep := range p.Deps {
					if anyCovers(rule.never, dep) {
						t.Errorf("%s depends on %s", p.ImportPath, dep)
					}
				}
			}
		})
	}
	for _, rule := range direct {
		t.Run(rule.name, func(t *testing.T) {
			for _, p := range ours {
				if !anyCovers(rule.pkgs, p.ImportPath) {
					continue
				}
				for _, dep := range p.Imports {
					if !standard[dep] && !anyCovers(rule.may, dep) {
						t.Errorf("%s imports %s", p.ImportPath, dep)
					}
				}
			}
		})
	}
}

// TestRulesBite makes sure that the rules can fail: each is broken by some
// package that it is not about.
func TestRulesBite(t *testing.T) {
	ours, _ := load(t)
	for _, rule := range rules {
		for _, pattern := range rule.pkgs {
			if pattern == "node/tui" || strings.HasSuffix(pattern, "/...") {
				continue
			}
			if !slices.ContainsFunc(ours, func(p pkg) bool { return covers(pattern, p.ImportPath) }) {
				t.Errorf("%s: there is no package %s", rule.name, pattern)
			}
		}
		if !slices.ContainsFunc(ours, func(p pkg) bool {
			return slices.ContainsFunc(p.Deps, func(dep string) bool { return anyCovers(rule.never, dep) })
		}) {
			t.Errorf("%s: nothing at all depends on %v", rule.name, rule.never)
		}
	}
}
