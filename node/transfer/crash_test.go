package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/transfer"
)

// With this variable set the test binary receives the file it names, prints where it
// is, and ends.
const childFile = "PARLEY_TEST_RECEIVE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childFile); path != "" {
		if err := receiveHere(path, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// receiveHere receives what lies sealed at path, beside its descriptor, into a folder.
func receiveHere(path, into string) error {
	o, err := readOffer(path)
	if err != nil {
		return err
	}
	pieces, err := transfer.OpenSpooled(path, o.d, o.list)
	if err != nil {
		return err
	}
	p, err := transfer.OpenPart(into, "tag", o.d, o.list)
	if err != nil {
		return err
	}
	ctx := context.Background()
	if err := p.Check(ctx, nil); err != nil {
		return err
	}
	if err := transfer.Fetch(ctx, p, []transfer.Source{&giver{pieces: pieces, name: "disk"}}, transfer.Options{}); err != nil {
		return err
	}
	name, err := p.Finish(ctx)
	if err != nil {
		return err
	}
	fmt.Println(name)
	return errors.Join(p.Close(), transfer.RemovePart(into, o.d.Name, "tag"))
}

// A receiver that is killed at any moment, again and again, ends with the whole file
// under its name, once, and there is never anything else under that name.
func TestReceiverKilled(t *testing.T) {
	for _, folder := range []bool{false, true} {
		t.Run(fmt.Sprintf("folder %v", folder), func(t *testing.T) {
			t.Parallel() // it waits for the disk
			src := write(t, filepath.Join(t.TempDir(), "film.mkv"), noise(3, 8<<20))
			if folder {
				src = sample(t)
				for i := range 50 {
					write(t, filepath.Join(src, "z", fmt.Sprint(i)), noise(uint64(i), 50_000))
				}
			}
			c, _ := open(t, src)
			want := all(t, c)
			path, into := filepath.Join(t.TempDir(), "sealed"), t.TempDir()
			if err := writeOffer(path, bytes.NewReader(want), filepath.Base(src), folder); err != nil {
				t.Fatal(err)
			}
			final := filepath.Join(into, filepath.Base(src))
			same := func() bool {
				c, _, err := transfer.Open(final)
				if errors.Is(err, os.ErrNotExist) {
					return false
				}
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if !bytes.Equal(all(t, c), want) {
					t.Fatal("something that is not the file has its name")
				}
				return true
			}
			whole := measure(t, path, t.TempDir())
			for range 6 {
				child := exec.Command(os.Args[0], into)
				child.Env = append(os.Environ(), childFile+"="+path)
				if err := child.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(rand.N(whole)) // whatever it does by then
				child.Process.Kill()
				child.Wait()
				same()
			}
			child := exec.Command(os.Args[0], into)
			child.Env = append(os.Environ(), childFile+"="+path)
			if out, err := child.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if !same() {
				t.Error("it did not get its name")
			}
			for _, name := range names(t, into) { // killed after the hidden file was removed, it is received once more
				if strings.HasPrefix(name, ".") {
					t.Errorf("left: %q", names(t, into))
				}
			}
		})
	}
}

// measure tells how long a receiver takes that is not killed.
func measure(t *testing.T, path, into string) time.Duration {
	t.Helper()
	began := time.Now()
	child := exec.Command(os.Args[0], into)
	child.Env = append(os.Environ(), childFile+"="+path)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return time.Since(began)
}
