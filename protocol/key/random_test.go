package key_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/protocol/key"
)

const brokenRandom = "PARLEY_TEST_BROKEN_RANDOM"

var generators = map[string]func() error{
	"account":  func() error { key.NewAccount(); return nil },
	"recovery": func() error { key.NewRecovery(); return nil },
	"device":   func() error { key.NewDevice(); return nil },
	"link":     func() error { key.NewLink(); return nil },
	"identity": func() error { key.NewIdentity(); return nil },
	"host":     func() error { key.NewHost(); return nil },
	"rsa":      func() error { _, err := key.NewRSA(); return err },
	"file":     func() error { file.New(); return nil },
}

// KLC-01: without randomness from the system no key is made; the program ends
// or the caller gets an error. The test runs itself as a child whose source of
// randomness fails.
func TestKLC01_NoRandomnessNoKey(t *testing.T) {
	if name := os.Getenv(brokenRandom); name != "" {
		rand.Reader = failingReader{}
		if err := generators[name](); err != nil {
			fmt.Println("refused")
			os.Exit(3)
		}
		fmt.Println("made a key")
		os.Exit(0)
	}
	for name := range generators {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestKLC01_NoRandomnessNoKey$")
			// The setting makes the library ask rand.Reader for RSA keys too.
			cmd.Env = append(os.Environ(), brokenRandom+"="+name, "GODEBUG=cryptocustomrand=1")
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("child made a key: %s", out)
			}
			text := string(out)
			if !strings.Contains(text, "refused") && !strings.Contains(text, "failed to read random data") {
				t.Errorf("child ended for another reason: %s", text)
			}
		})
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errors.New("no entropy") }

// KLC-01: nothing here can even name another source of randomness.
func TestKLC01_OnlyCryptoRand(t *testing.T) {
	for _, dir := range []string{".", "../account", "../prekey", "../envelope", "../session", "../file"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, imp := range f.Imports {
				if path := strings.Trim(imp.Path.Value, `"`); strings.HasPrefix(path, "math/rand") {
					t.Errorf("%s imports %s", file, path)
				}
			}
		}
	}
}
