package token

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
)

const issuerName = "parley/12D3KooWIssuer"

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testKey(n byte) Key { return KeyOf([32]byte{0: n, 31: 1}) }

func testClaims() Claims {
	return Claims{
		Issuer: issuerName, Account: protocol.AccountID{1}, Device: protocol.DeviceID{2}, Peer: "12D3KooWHolder",
		Audience: "relay", Scope: "member", Issued: start, Expires: start.Add(MaxLife),
	}
}

func mustSign(t testing.TB, c Claims, k Key) string {
	t.Helper()
	text, err := c.Sign(k)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mustSet(t testing.TB, issuer string, number uint64, keys ...Key) *Set {
	t.Helper()
	var public []ed25519.PublicKey
	for _, k := range keys {
		public = append(public, k.Public())
	}
	s, err := NewSet(issuer, number, public)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestThumbprint: the vector of RFC 8037, appendix A.3.
func TestThumbprint(t *testing.T) {
	x, err := text64.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	if id := KeyID(x); id != "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k" {
		t.Errorf("thumbprint %s", id)
	}
}

func TestSignAndVerify(t *testing.T) {
	k := testKey(1)
	text := mustSign(t, testClaims(), k)
	got, err := mustSet(t, issuerName, 1, k).Verify(text, "relay", start)
	want := testClaims()
	want.KeyID = KeyID(k.Public())
	if err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if again := mustSign(t, testClaims(), k); again != text {
		t.Error("the same claims have two tokens")
	}
}

// Claims that no verifier takes are not signed.
func TestBadClaimsAreNotSigned(t *testing.T) {
	for name, change := range map[string]func(*Claims){
		"no issuer":      func(c *Claims) { c.Issuer = "" },
		"no audience":    func(c *Claims) { c.Audience = "" },
		"long scope":     func(c *Claims) { c.Scope = strings.Repeat("x", maxText+1) },
		"control in it":  func(c *Claims) { c.Peer = "a\x1b[2J" },
		"no life":        func(c *Claims) { c.Expires = c.Issued },
		"lives too long": func(c *Claims) { c.Expires = c.Issued.Add(MaxLife + time.Second) },
	} {
		c := testClaims()
		change(&c)
		if text, err := c.Sign(testKey(1)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
}

// forge makes a token with any header and payload, signed properly by k.
func forge(k Key, header, payload string) string {
	head := text64.EncodeToString([]byte(header)) + "." + text64.EncodeToString([]byte(payload))
	return head + "." + text64.EncodeToString(ed25519.Sign(k.private(), []byte(head)))
}

// TestRefusals: everything that is not a token of this issuer, for this service
// and this moment, is refused with the reason; above all other algorithms.
func TestRefusals(t *testing.T) {
	k, other := testKey(1), testKey(2)
	id := KeyID(k.Public())
	set := mustSet(t, issuerName, 1, k)
	good := mustSign(t, testClaims(), k)
	part := strings.Split(good, ".")
	body, err := text64.DecodeString(part[1])
	if err != nil {
		t.Fatal(err)
	}
	head := func(extra string) string {
		return fmt.Sprintf(`{"alg":"EdDSA","kid":"%s","typ":"parley+jwt"%s}`, id, extra)
	}
	if _, err := set.Verify(forge(k, head(""), string(body)), "relay", start); err != nil {
		t.Fatalf("the forger does not forge: %v", err)
	}
	altered := strings.Replace(string(body), "member", "admin_", 1)
	hmacOf := func() string { // the public key as an HMAC key
		in := text64.EncodeToString(fmt.Appendf(nil, `{"alg":"HS256","kid":"%s","typ":"parley+jwt"}`, id)) + "." + part[1]
		mac := hmac.New(sha256.New, k.Public())
		mac.Write([]byte(in))
		return in + "." + text64.EncodeToString(mac.Sum(nil))
	}()
	foreign := testClaims()
	foreign.Issuer = "parley/12D3KooWOther"
	embedded, err := json.Marshal(jose.JSONWebKey{Key: other.Public()})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		at   time.Duration
		want error
	}{
		"empty":                {"", 0, ErrMalformed},
		"dots":                 {"..", 0, ErrMalformed},
		"no signature":         {part[0] + "." + part[1] + ".", 0, ErrSignature},
		"two parts":            {part[0] + "." + part[1], 0, ErrMalformed},
		"four parts":           {good + ".AA", 0, ErrMalformed},
		"white space":          {good + "\n", 0, ErrMalformed},
		"as JSON":              {`{"protected":"` + part[0] + `","payload":"` + part[1] + `","signature":"` + part[2] + `"}`, 0, ErrMalformed},
		"too long":             {good + strings.Repeat("A", MaxToken), 0, ErrMalformed},
		"alg none":             {text64.EncodeToString(fmt.Appendf(nil, `{"alg":"none","kid":"%s","typ":"parley+jwt"}`, id)) + "." + part[1] + ".", 0, ErrMalformed},
		"alg HS256":            {hmacOf, 0, ErrMalformed},
		"alg in other letters": {forge(k, strings.Replace(head(""), "EdDSA", "eddsa", 1), string(body)), 0, ErrMalformed},
		"another type":         {forge(k, strings.Replace(head(""), "parley+jwt", "JWT", 1), string(body)), 0, ErrMalformed},
		"no type":              {forge(k, fmt.Sprintf(`{"alg":"EdDSA","kid":"%s"}`, id), string(body)), 0, ErrMalformed},
		"critical header":      {forge(k, head(`,"crit":["b64"],"b64":false`), string(body)), 0, ErrMalformed},
		"own key in header":    {forge(other, head(`,"jwk":`+string(embedded)), string(body)), 0, ErrMalformed},
		"key URL in header":    {forge(k, head(`,"jku":"http://169.254.169.254/"`), string(body)), 0, ErrMalformed},
		"compressed":           {forge(k, head(`,"zip":"DEF"`), string(body)), 0, ErrMalformed},
		"key id is a path":     {forge(k, `{"alg":"EdDSA","kid":"../../etc/passwd","typ":"parley+jwt"}`, string(body)), 0, ErrMalformed},
		"claims no JSON":       {forge(k, head(""), "hello"), 0, ErrMalformed},
		"no claims":            {forge(k, head(""), "{}"), 0, ErrMalformed},
		"eternal":              {forge(k, head(""), strings.Replace(string(body), `"exp":1`, `"exp":9`, 1)), 0, ErrMalformed},
		"unknown key":          {mustSign(t, testClaims(), other), 0, ErrUnknownKey},
		"signed by another":    {forge(other, head(""), string(body)), 0, ErrSignature},
		"altered":              {part[0] + "." + text64.EncodeToString([]byte(altered)) + "." + part[2], 0, ErrSignature},
		"other issuer":         {mustSign(t, foreign, k), 0, ErrIssuer},
		"expired":              {good, MaxLife + Leeway, ErrExpired},
		"from the future":      {good, -Leeway - time.Second, ErrNotYet},
	} {
		got, err := set.Verify(c.text, "relay", start.Add(c.at))
		if !errors.Is(err, c.want) || got != (Claims{}) {
			t.Errorf("%s: got %+v, %v; want %v", name, got, err, c.want)
		}
	}
	if _, err := set.Verify(good, "http", start); !errors.Is(err, ErrAudience) {
		t.Errorf("for another service: %v", err)
	}
	for _, at := range []time.Duration{-Leeway, MaxLife + Leeway - time.Second} {
		if _, err := set.Verify(good, "relay", start.Add(at)); err != nil {
			t.Errorf("clocks apart by less than the leeway, %v: %v", at, err)
		}
	}
}

// No changed character of a token leaves it valid with other claims.
func TestChangedTokens(t *testing.T) {
	k := testKey(1)
	set := mustSet(t, issuerName, 1, k)
	good := mustSign(t, testClaims(), k)
	want := testClaims()
	want.KeyID = KeyID(k.Public())
	rapid.Check(t, func(t *rapid.T) {
		b := []byte(good)
		at := rapid.IntRange(0, len(b)-1).Draw(t, "at")
		b[at] = rapid.Byte().Draw(t, "byte")
		if got, err := set.Verify(string(b), "relay", start); err == nil && got != want {
			t.Fatalf("%q is valid and says %+v", b, got)
		}
	})
}

func TestKeyIsRedacted(t *testing.T) {
	k := testKey(7)
	seed := k.Seed()
	shown := fmt.Sprintf("%v %+v %#v %s %x", k, k, &k, k, k)
	js, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{fmt.Sprintf("%x", seed), fmt.Sprint(seed), text64.EncodeToString(seed[:])} {
		if strings.Contains(shown+string(js), secret) {
			t.Errorf("the seed shows in %s %s", shown, js)
		}
	}
}

func FuzzToken(f *testing.F) {
	k := testKey(1)
	set := mustSet(f, issuerName, 1, k)
	good := mustSign(f, testClaims(), k)
	f.Add(good)
	f.Add(strings.Replace(good, ".", "..", 1))
	f.Add(forge(k, `{"alg":"none"}`, "{}"))
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := set.Verify(text, "relay", start); err == nil && got.check() != nil {
			t.Errorf("%q is valid and says %+v", text, got)
		}
	})
}
