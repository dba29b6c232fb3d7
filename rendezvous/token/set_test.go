package token

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
)

// TestJWK06_TagIsHashOfSet: the same keys make the same document and tag, in
// whatever order and after every restart; other keys or another number do not.
func TestJWK06_TagIsHashOfSet(t *testing.T) {
	a, b := testKey(1), testKey(2)
	set := mustSet(t, issuerName, 3, a, b)
	if other := mustSet(t, issuerName, 3, b, a); other.ETag() != set.ETag() || !bytes.Equal(other.JSON(), set.JSON()) {
		t.Error("the order of keys matters")
	}
	for name, other := range map[string]*Set{
		"fewer keys":     mustSet(t, issuerName, 3, a),
		"another number": mustSet(t, issuerName, 4, a, b),
		"another issuer": mustSet(t, "parley/other", 3, a, b),
	} {
		if other.ETag() == set.ETag() {
			t.Errorf("%s: the same tag", name)
		}
	}
	want := `{"issuer":"parley/12D3KooWIssuer","number":3,"keys":[` +
		`{"kty":"OKP","crv":"Ed25519","x":"`
	if !strings.HasPrefix(string(set.JSON()), want) || len(set.ETag()) != 45 {
		t.Errorf("%s %s", set.JSON(), set.ETag())
	}
	parsed, err := ParseSet(set.JSON(), issuerName)
	if err != nil || parsed.ETag() != set.ETag() || parsed.Number != 3 || !slices.Equal(parsed.IDs(), set.IDs()) {
		t.Errorf("parsed %+v, %v", parsed, err)
	}
}

// The document is one that other software reads.
func TestSetIsAJWKS(t *testing.T) {
	a := testKey(1)
	var other jose.JSONWebKeySet
	if err := json.Unmarshal(mustSet(t, issuerName, 1, a).JSON(), &other); err != nil {
		t.Fatal(err)
	}
	found := other.Key(KeyID(a.Public()))
	if len(found) != 1 || !found[0].Key.(ed25519.PublicKey).Equal(a.Public()) || found[0].Use != "sig" || found[0].Algorithm != "EdDSA" {
		t.Errorf("found %+v", found)
	}
}

// TestJWK07_IDIsThumbprint: an id cannot be given to another key, nor twice.
func TestJWK07_IDIsThumbprint(t *testing.T) {
	a, b := testKey(1), testKey(2)
	for _, keys := range []string{
		strings.Replace(oneKey(a), KeyID(a.Public()), KeyID(b.Public()), 1),
		strings.Replace(oneKey(a), KeyID(a.Public()), "one", 1),
		oneKey(a) + "," + oneKey(a),
	} {
		if _, err := ParseSet([]byte(`{"issuer":"`+issuerName+`","number":1,"keys":[`+keys+`]}`), issuerName); !errors.Is(err, ErrBadSet) {
			t.Errorf("%s: %v", keys, err)
		}
	}
}

func TestBadSets(t *testing.T) {
	a, b := testKey(1), testKey(2)
	good := string(mustSet(t, issuerName, 1, a, b).JSON())
	x := text64.EncodeToString(a.Public())
	for name, doc := range map[string]string{
		"empty":          "",
		"no JSON":        "<html>",
		"another issuer": string(mustSet(t, "parley/other", 1, a).JSON()),
		"no issuer":      `{"keys":[]}`,
		"no such key":    strings.Replace(good, x, "AAAA", 1),
		"too many":       `{"issuer":"` + issuerName + `","number":1,"keys":[` + strings.Repeat(`{"kty":"RSA"},`, MaxKeys) + oneKey(a) + `]}`,
		"too long":       good + strings.Repeat(" ", MaxSet),
		"negative":       strings.Replace(good, `"number":1`, `"number":-1`, 1),
	} {
		if s, err := ParseSet([]byte(doc), issuerName); !errors.Is(err, ErrBadSet) {
			t.Errorf("%s: %+v, %v", name, s, err)
		}
	}
	// Keys of another kind are no keys here.
	strange := `{"issuer":"` + issuerName + `","number":1,"keys":[{"kty":"oct","k":"AAAA","kid":"` + KeyID(b.Public()) + `"},` + oneKey(a) + `]}`
	if s, err := ParseSet([]byte(strange), issuerName); err != nil || !slices.Equal(s.IDs(), []string{KeyID(a.Public())}) {
		t.Errorf("with a strange key: %+v, %v", s, err)
	}
	if _, err := NewSet(issuerName, 1, make([]ed25519.PublicKey, MaxKeys+1)); err == nil {
		t.Error("a set of too many keys was made")
	}
}

func oneKey(k Key) string {
	return `{"kty":"OKP","crv":"Ed25519","x":"` + text64.EncodeToString(k.Public()) + `","kid":"` + KeyID(k.Public()) + `","use":"sig","alg":"EdDSA"}`
}

func TestEvent(t *testing.T) {
	identity, stranger := testKey(9), testKey(8)
	sign := func(b []byte) ([]byte, error) { return ed25519.Sign(identity.private(), b), nil }
	set := mustSet(t, issuerName, 5, testKey(1), testKey(2))
	b, err := EventOf(set).Sign(sign)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEvent(b, issuerName, identity.Public())
	if err != nil || e.Number != 5 || e.Hash != set.Hash() || !slices.Equal(e.IDs, set.IDs()) {
		t.Fatalf("got %+v, %v", e, err)
	}
	for i := range b {
		bad := slices.Clone(b)
		bad[i] ^= 1
		if _, err := ParseEvent(bad, issuerName, identity.Public()); !errors.Is(err, ErrBadEvent) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
	}
	for name, err := range map[string]error{
		"signed by a stranger": second(ParseEvent(b, issuerName, stranger.Public())),
		"of another issuer":    second(ParseEvent(b, "parley/other", identity.Public())),
		"no identity known":    second(ParseEvent(b, issuerName, nil)),
		"short":                second(ParseEvent(b[:63], issuerName, identity.Public())),
		"long":                 second(ParseEvent(append(b, make([]byte, MaxEvent)...), issuerName, identity.Public())),
	} {
		if !errors.Is(err, ErrBadEvent) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func second(_ Event, err error) error { return err }

func FuzzSet(f *testing.F) {
	f.Add(mustSet(f, issuerName, 1, testKey(1), testKey(2)).JSON())
	f.Add([]byte(`{"issuer":"parley/12D3KooWIssuer","keys":null}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		s, err := ParseSet(doc, issuerName)
		if err != nil {
			return
		}
		for _, id := range s.IDs() {
			if KeyID(s.keys[id]) != id {
				t.Errorf("key %s has id %s", KeyID(s.keys[id]), id)
			}
		}
	})
}

func FuzzEvent(f *testing.F) {
	identity := testKey(9)
	sign := func(b []byte) ([]byte, error) { return ed25519.Sign(identity.private(), b), nil }
	b, err := EventOf(mustSet(f, issuerName, 5, testKey(1))).Sign(sign)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-ed25519.SignatureSize])
	f.Fuzz(func(t *testing.T, body []byte) { // signed properly, whatever it is
		sig, _ := sign(eventMessage(body))
		e, err := ParseEvent(append(body, sig...), issuerName, identity.Public())
		if err != nil {
			return
		}
		again, err := e.Sign(sign)
		if err != nil || string(again[:len(again)-ed25519.SignatureSize]) != string(body) {
			t.Errorf("%x became %x, %v", body, again, err)
		}
	})
}
