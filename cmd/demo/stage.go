package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
)

// stage is where the demo plays: one directory, one rendezvous, three people.
type stage struct {
	ctx  context.Context
	dir  string
	bin  string
	host *drive.Host

	alice, bob, carol drive.Person
}

func newStage(ctx context.Context, bin string) (*stage, error) {
	bin, err := filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(bin); err != nil {
		return nil, fmt.Errorf("the parley binary is missing (make build): %w", err)
	}
	dir, err := os.MkdirTemp("", "parley-demo-")
	if err != nil {
		return nil, err
	}
	person := func(name string) drive.Person {
		return drive.Person{Name: name, Bin: bin, Dir: filepath.Join(dir, name), Key: filepath.Join(dir, name+".key")}
	}
	return &stage{ctx: ctx, dir: dir, bin: bin, alice: person("alice"), bob: person("bob"), carol: person("carol")}, nil
}

// close stops every process and removes the directory, also after ^C.
func (s *stage) close() {
	ctx := context.WithoutCancel(s.ctx)
	for _, p := range []drive.Person{s.alice, s.bob, s.carol} {
		p.Run(ctx, "down") // fails where nothing runs, which is what is wanted
	}
	if s.host != nil {
		s.host.Stop()
	}
	os.RemoveAll(s.dir)
}

func title(text string) { fmt.Printf("\n── %s\n", text) }

func (s *stage) startHost() error {
	fmt.Println("friend$ parley host")
	log, err := os.Create(filepath.Join(s.dir, "host.log"))
	if err != nil {
		return err
	}
	defer log.Close() // the rendezvous has its own descriptor of it
	s.host, err = drive.StartHost(s.ctx, s.bin, filepath.Join(s.dir, "host"), nil, log, "",
		"--listen", "/ip4/127.0.0.1/tcp/0", "--listen", "/ip4/127.0.0.1/udp/0/quic-v1")
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%w\n%s", err, said)
	}
	fmt.Println("  " + s.host.Invite)
	return nil
}

// run shows a command and what it printed.
func (s *stage) run(p drive.Person, args ...string) error {
	shown := make([]string, len(args))
	for i, a := range args {
		if shown[i] = a; strings.ContainsAny(a, " !#") {
			shown[i] = "'" + a + "'"
		}
	}
	fmt.Printf("%s$ parley %s\n", p.Name, strings.Join(shown, " "))
	out, err := p.Run(s.ctx, args...)
	if text := strings.TrimRight(string(out), "\n"); text != "" {
		fmt.Println("  " + strings.ReplaceAll(text, "\n", "\n  "))
	}
	return err
}

func (s *stage) until(what string, done func() bool) error {
	return drive.Until(s.ctx, 30*time.Second, what, done)
}

// relation tells what a contact is to a person: requested, incoming, accepted.
func (s *stage) relation(p drive.Person, name string) string {
	c, _ := p.Contact(s.ctx, name)
	return c.Relation
}

// invitation says what to try while the demo stays up.
func (s *stage) invitation() {
	title("It is all still running. In another terminal, try")
	fmt.Printf(`  export PATH=%s:$PATH
  PARLEY_DIR=%s parley listen
  PARLEY_DIR=%s parley send bob 'from another terminal'
  PARLEY_DIR=%s parley room send climbing 'to all of you'
  PARLEY_DIR=%s parley ping bob
  PARLEY_DIR=%s parley status
^C stops everything and removes %s
`, filepath.Dir(s.bin), s.bob.Dir, s.alice.Dir, s.alice.Dir, s.alice.Dir, s.bob.Dir, s.dir)
}
