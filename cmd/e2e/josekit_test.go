package e2e

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/parley-chat/parley/rendezvous/token"
)

// jose is a process that runs testdata/jose/verifier.mjs.
type jose struct {
	t   *testing.T
	in  *json.Encoder
	out *bufio.Scanner
}

// question and answer are lines to and from it.
type question struct {
	Token  string `json:"token,omitempty"`
	Reload bool   `json:"reload,omitempty"`
}

type answer struct {
	Claims  *claims  `json:"claims"`
	Refusal string   `json:"refusal"` // the code of jose's error
	Known   []string `json:"known"`   // ids of the keys that it has read
}

// claims are what both read in a token.
type claims struct {
	Issuer  string `json:"iss"`
	Account string `json:"sub"`
	Device  string `json:"device"`
	Peer    string `json:"peer"`
	Scope   string `json:"scope"`
	Issued  int64  `json:"iat"`
	Expires int64  `json:"exp"`
}

func claimsOf(c token.Claims) claims {
	return claims{c.Issuer, c.Account.String(), c.Device.String(), c.Peer, c.Scope, c.Issued.Unix(), c.Expires.Unix()}
}

// startJose runs a verifier for relays; searches says whether it reads the set
// for every key id that it does not know.
func (g *group) startJose(dir, url, issuer, searches string) *jose {
	g.t.Helper()
	cmd := exec.CommandContext(g.ctx, "node", "verifier.mjs", url, issuer, "relay", searches)
	cmd.Dir = dir
	stdin, err := cmd.StdinPipe()
	g.must(err)
	stdout, err := cmd.StdoutPipe()
	g.must(err)
	cmd.Stderr = g.logFile("jose-" + searches)
	g.must(cmd.Start())
	g.t.Cleanup(func() {
		stdin.Close() // it ends at the end of its questions
		if err := cmd.Wait(); err != nil {
			g.t.Errorf("jose: %v", err)
		}
	})
	return &jose{t: g.t, in: json.NewEncoder(stdin), out: bufio.NewScanner(stdout)}
}

func (j *jose) ask(q question) (a answer) {
	j.t.Helper()
	if err := j.in.Encode(q); err != nil {
		j.t.Fatalf("ask jose: %v", err)
	}
	if !j.out.Scan() {
		j.t.Fatalf("jose says nothing: %v", j.out.Err())
	}
	if err := json.Unmarshal(j.out.Bytes(), &a); err != nil {
		j.t.Fatalf("jose says %s: %v", j.out.Bytes(), err)
	}
	return a
}

// want checks a token; an empty refusal means that it must be taken.
func (j *jose) want(text, refusal string) answer {
	j.t.Helper()
	said := j.ask(question{Token: text})
	if said.Refusal != refusal || (said.Claims != nil) != (refusal == "") {
		j.t.Fatalf("jose says %+v, want %q", said, refusal)
	}
	return said
}

// reload makes it read the key set, which has to have n keys.
func (j *jose) reload(n int) {
	j.t.Helper()
	if said := j.ask(question{Reload: true}); said.Refusal != "" || len(said.Known) != n {
		j.t.Fatalf("jose reads %d keys, not %d: %+v", len(said.Known), n, said)
	}
}

// unreachable is what npm says when there is no way to the registry.
var unreachable = regexp.MustCompile(`ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ERR_SOCKET_TIMEOUT`)

// installJose returns a folder with the npm package jose, in the version and with
// the hash of package-lock.json, and the verifier made of it.
func installJose(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("the npm package jose needs %s (make deps): %v", program, err)
		}
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata/jose")); err != nil {
		t.Fatal(err)
	}
	npm := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--prefer-offline", "--no-audit", "--no-fund",
		"--fetch-retry-mintimeout=1000", "--fetch-retry-maxtimeout=5000")
	npm.Dir = dir
	out, err := npm.CombinedOutput()
	if err != nil && unreachable.Match(out) {
		t.Skip("the npm package jose cannot be had: its registry is out of reach")
	}
	if err != nil {
		t.Fatalf("npm ci: %v\n%s", err, bytes.TrimSpace(out))
	}
	return dir
}

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

func unb64(t *testing.T, text string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// keyID is the id of the key that a token names.
func keyID(t *testing.T, text string) string {
	t.Helper()
	head, _, _ := strings.Cut(text, ".")
	var h struct{ Kid string }
	if err := json.Unmarshal([]byte(unb64(t, head)), &h); err != nil {
		t.Fatal(err)
	}
	return h.Kid
}

// signWith makes a token with any header, signed properly by k.
func signWith(k token.Key, header, payload string) string {
	seed := k.Seed()
	text := b64(header) + "." + payload
	return text + "." + b64(string(ed25519.Sign(ed25519.NewKeyFromSeed(seed[:]), []byte(text))))
}

// hmacWith makes a token of which a public key is the secret.
func hmacWith(t *testing.T, public []byte, header, payload string) string {
	t.Helper()
	if len(public) == 0 {
		t.Fatal("no public key")
	}
	text := b64(header) + "." + payload
	mac := hmac.New(sha256.New, public)
	mac.Write([]byte(text))
	return text + "." + b64(string(mac.Sum(nil)))
}

func jwk(k token.Key) string {
	return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":"%s"}`, b64(string(k.Public())))
}
