package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/cmd/drive"
	"github.com/parley-chat/parley/rendezvous/token"
)

// TestJWK11_StrangersClient: the npm package jose, which is not ours, and our
// verifier follow the key set of a real rendezvous over HTTP through forgeries, a
// rotation and two revocations, and agree on every token. It takes as long as a
// key is published before it signs.
func TestJWK11_StrangersClient(t *testing.T) {
	t.Parallel()
	dir := installJose(t)
	g := newGroup(t)
	web := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	g.flags = append(g.flags, "--http", web)
	g.start()
	url := "http://" + web + "/.well-known/jwks.json"
	alice := g.register("alice")
	issuer := token.Issuer(alice.home.String())
	v := &verifiers{
		g:        g,
		polls:    g.startJose(dir, url, issuer, "polls"),
		searches: g.startJose(dir, url, issuer, "searches"),
	}
	v.ours, v.follower = g.follow(url, issuer)

	old := alice.token("relay")
	v.want(old, nil, "")
	first := g.signingKey()
	v.refuseForgeries(alice.token, g.publicKeys(url), first)

	g.hostKeys("rotate")
	v.searches.reload(2)
	fresh := v.followRotation(alice.token, first)
	v.want(old, nil, "") // its key retires

	g.hostKeys("revoke", first)
	if keys := g.publicKeys(url); keys[first] != nil || len(keys) != 1 {
		t.Errorf("the next read shows %v", keys)
	}
	v.searches.reload(1)
	v.searches.want(old, noSuchKey)
	v.untilReadAgain(old, first)
	v.want(fresh, nil, "")

	g.hostKeys("revoke", g.signingKey()) // its successor signs before anybody knows it
	hasty := alice.token("relay")
	v.searches.want(hasty, "")
	g.must(drive.Until(g.ctx, time.Minute, "we have read of the next key", func() bool { // once in 2 s for unknown ids
		_, err := v.ours.Verify(g.ctx, hasty)
		return err == nil
	}))
	v.searches.reload(1)
	v.polls.reload(1)
	v.want(hasty, nil, "")
	v.want(fresh, token.ErrUnknownKey, noSuchKey)
}

// How jose says that a key is not in the set.
const noSuchKey = "ERR_JWKS_NO_MATCHING_KEY"

// verifiers are three that should agree: ours, jose reading the set when it is a
// minute old, and jose reading it also for key ids that it does not know.
type verifiers struct {
	g               *group
	ours            *token.Verifier
	follower        *token.Follower
	polls, searches *jose
}

// want checks one token with all of them.
func (v *verifiers) want(text string, ours error, refusal string) {
	v.g.t.Helper()
	got, err := v.ours.Verify(v.g.ctx, text)
	if !errors.Is(err, ours) {
		v.g.t.Errorf("we say %v, want %v", err, ours)
	}
	for _, j := range []*jose{v.polls, v.searches} {
		if said := j.want(text, refusal); refusal == "" && *said.Claims != claimsOf(got) {
			v.g.t.Errorf("jose reads %+v, we %+v", said.Claims, got)
		}
	}
}

// followRotation has all verifiers check every token that is issued until the
// next key has signed one. None of them, polling or not, may refuse any.
func (v *verifiers) followRotation(issue func(string) string, first string) string {
	v.g.t.Helper()
	for tick := time.NewTicker(10 * time.Second); ; {
		text := issue("relay")
		v.want(text, nil, "")
		if keyID(v.g.t, text) != first {
			tick.Stop()
			return text
		}
		select {
		case <-tick.C:
		case <-v.g.ctx.Done():
			v.g.t.Fatal("no other key signs")
		}
	}
}

// untilReadAgain waits until all verifiers have read the set again and so refuse
// a token by a revoked key. Before, each goes by the set that it knows.
func (v *verifiers) untilReadAgain(text, id string) {
	v.g.t.Helper()
	oursKnows, josesKnows := true, true
	v.g.must(drive.Until(v.g.ctx, 3*token.MaxAge, "who polls refuses a revoked key", func() bool {
		if oursKnows {
			_, err := v.ours.Verify(v.g.ctx, text)
			oursKnows = slices.Contains(v.follower.State().IDs, id)
			if err != nil && (oursKnows || !errors.Is(err, token.ErrUnknownKey)) {
				v.g.t.Fatalf("we refuse it, key known %v: %v", oursKnows, err)
			}
		}
		said := v.polls.ask(question{Token: text})
		josesKnows = slices.Contains(said.Known, id)
		if (said.Refusal == "") != josesKnows {
			v.g.t.Fatalf("jose says %q, key known %v", said.Refusal, josesKnows)
		}
		return !oursKnows && !josesKnows
	}))
	v.want(text, token.ErrUnknownKey, noSuchKey)
}

// refuseForgeries checks that everybody refuses what a member without the
// rendezvous's key can make out of a good token, and why.
func (v *verifiers) refuseForgeries(issue func(string) string, keys map[string][]byte, id string) {
	t := v.g.t
	t.Helper()
	good := issue("relay")
	part := strings.Split(good, ".")
	other := token.NewKey()
	header := func(alg, id, more string) string {
		return fmt.Sprintf(`{"alg":"%s","kid":"%s","typ":"parley+jwt"%s}`, alg, id, more)
	}
	const (
		notAllowed   = "ERR_JOSE_ALG_NOT_ALLOWED"
		badSignature = "ERR_JWS_SIGNATURE_VERIFICATION_FAILED"
		badClaim     = "ERR_JWT_CLAIM_VALIDATION_FAILED"
	)
	for name, c := range map[string]struct {
		text    string
		ours    error
		refusal string
	}{
		"alg none":          {b64(header("none", id, "")) + "." + part[1] + ".", token.ErrMalformed, notAllowed},
		"alg HS256":         {hmacWith(t, keys[id], header("HS256", id, ""), part[1]), token.ErrMalformed, notAllowed},
		"another key":       {signWith(other, header("EdDSA", id, ""), part[1]), token.ErrSignature, badSignature},
		"own key id":        {signWith(other, header("EdDSA", token.KeyID(other.Public()), ""), part[1]), token.ErrUnknownKey, noSuchKey},
		"own key in header": {signWith(other, header("EdDSA", id, `,"jwk":`+jwk(other)), part[1]), token.ErrMalformed, badSignature},
		"other claims":      {part[0] + "." + b64(strings.Replace(unb64(t, part[1]), "member", "admin", 1)) + "." + part[2], token.ErrSignature, badSignature},
		"another service":   {issue("http"), token.ErrAudience, badClaim},
	} {
		t.Log(name)
		v.want(c.text, c.ours, c.refusal)
	}
	v.want(good, nil, "")
}

// follow starts our verifier of tokens for relays, which reads the set over HTTP.
func (g *group) follow(url, issuer string) (*token.Verifier, *token.Follower) {
	g.t.Helper()
	fetch, err := token.HTTPFetch(url, true)
	g.must(err)
	f := token.NewFollower(token.FollowerConfig{Issuer: issuer, Fetch: fetch})
	ctx, stop := context.WithCancel(g.ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); f.Run(ctx) }()
	g.t.Cleanup(func() { stop(); <-ended })
	v := token.NewVerifier("relay")
	v.Trust(f)
	return v, f
}

// publicKeys are the keys that the rendezvous shows now, by id.
func (g *group) publicKeys(url string) map[string][]byte {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.ctx, http.MethodGet, url, nil)
	g.must(err)
	resp, err := http.DefaultClient.Do(req)
	g.must(err)
	defer resp.Body.Close()
	var set struct{ Keys []struct{ Kid, X string } }
	g.must(json.NewDecoder(resp.Body).Decode(&set))
	keys := map[string][]byte{}
	for _, k := range set.Keys {
		keys[k.Kid] = []byte(unb64(g.t, k.X))
	}
	return keys
}

// signingKey is the id of the key that signs now, by what the operator sees.
func (g *group) signingKey() string {
	g.t.Helper()
	for _, k := range g.hostKeys("status") {
		if k.State == "signing" {
			return k.ID
		}
	}
	g.t.Fatal("no key signs")
	return ""
}

type signingKey struct{ ID, State string }

// hostKeys runs parley host keys.
func (g *group) hostKeys(args ...string) []signingKey {
	g.t.Helper()
	var status struct{ Keys []signingKey }
	operator := drive.Person{Bin: bin, Dir: filepath.Join(g.dir, "host")}
	g.must(operator.JSON(g.ctx, &status, append([]string{"host", "keys"}, args...)...))
	return status.Keys
}
