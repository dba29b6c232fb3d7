package storetest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/parley-chat/parley/store"
)

// Crash is a workload that is killed and then inspected. The test binary runs
// itself as the child that works; see Main.
type Crash struct {
	Name string

	// Work writes until the process is killed. It calls ack, from any
	// goroutine, with a line for each thing that the store has promised. The
	// store may hold what an earlier, killed run left.
	Work func(kv store.KV, ack func(format string, args ...any)) error

	// Check looks at the store after a kill; acks are the lines of all runs.
	Check func(kv store.KV, acks []string) error
}

const (
	crashName = "STORETEST_CRASH"
	crashDir  = "STORETEST_DIR"
)

// Main is the TestMain of a package that uses Crash: in a child it works until
// it is killed, otherwise it runs the tests.
func Main(m *testing.M, open func(dir string) (store.KV, error), crashes ...Crash) {
	for _, c := range crashes {
		if c.Name == os.Getenv(crashName) {
			fmt.Fprintln(os.Stderr, c.work(open))
			os.Exit(1) // work does not end by itself
		}
	}
	os.Exit(m.Run())
}

func (c Crash) work(open func(string) (store.KV, error)) error {
	kv, err := open(os.Getenv(crashDir))
	if err != nil {
		return err
	}
	var mu sync.Mutex
	return c.Work(kv, func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(os.Stdout, format+"\n", args...) // unbuffered: what was printed was printed before the kill
	})
}

// Run kills the workload at random moments, rounds times over one directory,
// and checks the store after each. It runs beside other parallel tests.
func (c Crash) Run(t *testing.T, open func(dir string) (store.KV, error), rounds int) {
	t.Parallel()
	dir := t.TempDir()
	var acks []string
	for range rounds {
		acks = append(acks, c.killAfter(t, dir, 1+rand.IntN(300))...)
		kv, err := open(dir)
		if err != nil {
			t.Fatalf("open after the kill: %v", err)
		}
		if err := c.Check(kv, acks); err != nil {
			t.Fatalf("after %d acknowledgements: %v", len(acks), err)
		}
		if err := kv.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	t.Logf("%d kills, %d acknowledgements", rounds, len(acks))
}

// Command is a child that works on dir, not started yet.
func (c Crash) Command(dir string, wrapper ...string) *exec.Cmd {
	args := append(wrapper, os.Args[0])
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), crashName+"="+c.Name, crashDir+"="+dir)
	return cmd
}

// killAfter runs a child, kills it after n acknowledgements and returns all it
// had made.
func (c Crash) killAfter(t *testing.T, dir string, n int) (acks []string) {
	t.Helper()
	cmd := c.Command(dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	acks = readLines(stdout, func(count int) {
		if count == n {
			cmd.Process.Kill()
		}
	})
	cmd.Wait() // killed; the error says so
	if len(acks) < n {
		t.Fatalf("the child ended by itself after %d acknowledgements: %s", len(acks), stderr.String())
	}
	return acks
}

// readLines returns the complete lines of r.
func readLines(r io.Reader, each func(count int)) (lines []string) {
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return lines
		}
		lines = append(lines, line[:len(line)-1])
		each(len(lines))
	}
}

// Pairs is the workload of every KV that is durable: eight writers set two
// rows at a time. An acknowledged pair must be there, and no half of any.
var Pairs = Crash{
	Name: "pairs",
	Work: func(kv store.KV, ack func(string, ...any)) error {
		errs := make(chan error)
		run := rand.Uint64() // so that runs do not write over each other
		for w := range 8 {
			go func() {
				for n := 0; ; n++ {
					id := fmt.Sprintf("%016x-%d-%d", run, w, n)
					size := rand.IntN(2000)
					if err := kv.Update(ctx, set("a"+id, id, "b"+id, id+string(make([]byte, size)))); err != nil {
						errs <- err
						return
					}
					ack("%s", id)
				}
			}()
		}
		return <-errs
	},
	Check: func(kv store.KV, acks []string) error {
		return kv.View(ctx, func(tx store.Tx) error {
			seen := map[string]int{}
			for pair, err := range tx.Scan(nil, nil) {
				if err != nil {
					return err
				}
				id := string(pair.Key[1:])
				if !bytes.HasPrefix(pair.Value, []byte(id)) {
					return fmt.Errorf("row %s has another value", pair.Key)
				}
				seen[id]++
			}
			for id, halves := range seen {
				if halves != 2 {
					return fmt.Errorf("only one half of %s is there", id)
				}
			}
			for _, id := range acks {
				if seen[id] != 2 {
					return fmt.Errorf("%s was acknowledged and is not there", id)
				}
			}
			return nil
		})
	},
}
