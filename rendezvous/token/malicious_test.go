package token

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// refusal checks that a token is refused with this error, in words that say what
// happened.
func refusal(t testing.TB, v *Verifier, text string, want error, says string) {
	t.Helper()
	c, err := v.Verify(t.Context(), text)
	if !errors.Is(err, want) || !strings.Contains(err.Error(), says) || c != (Claims{}) {
		t.Errorf("got %+v, %v; want %v: %s", c, err, want, says)
	}
}

// A rendezvous goes on signing with a key that it has withdrawn, and shows the
// key set of before again, under its old number and under the new one.
func TestMaliciousRendezvous_WithdrawnKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stolen, next := testKey(1), testKey(2)
		s := newSource(t, stolen)
		f, alarmed := follow(t, s, nil)
		v := verifierOf(f)
		old := s.set
		if err := f.Push(s.change(next)); err != nil {
			t.Fatal(err)
		}
		refusal(t, v, relayed(t, stolen), ErrUnknownKey, "no such key (any more): "+KeyID(stolen.Public()))
		for _, lie := range []struct {
			set  *Set
			want error
		}{{old, ErrOlder}, {mustSet(t, issuerName, 2, stolen), ErrForked}} {
			s.show(lie.set)
			time.Sleep(MaxAge)
			synctest.Wait()
			refusal(t, v, relayed(t, stolen), ErrUnknownKey, "no such key")
			if err := f.State().Trouble; !errors.Is(err, lie.want) {
				t.Errorf("trouble %v, want %v", err, lie.want)
			}
		}
		if errs := alarmed.all(); len(errs) != 1 || !errors.Is(errs[0], ErrOlder) {
			t.Errorf("alarms %v", errs)
		}
		check(t, v, relayed(t, next), nil)
	})
}

// A rendezvous has keys of all kinds in its set, and signs by the book with each:
// nothing but Ed25519 is looked at, and "none" is no algorithm.
func TestMaliciousRendezvous_OtherAlgorithms(t *testing.T) {
	secret := make([]byte, 32)
	rand.Read(secret)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	honest := testKey(1)
	body := claimsPart(t, honest)
	id := func(n byte) string { sum := sha256.Sum256([]byte{n}); return text64.EncodeToString(sum[:]) }
	tokens := map[string]string{
		"none":                  text64.EncodeToString([]byte(`{"alg":"none","kid":"`+KeyID(honest.Public())+`","typ":"parley+jwt"}`)) + "." + text64.EncodeToString(body) + ".",
		"none, with a key's id": text64.EncodeToString([]byte(`{"alg":"none","kid":"`+id(9)+`","typ":"parley+jwt"}`)) + "." + text64.EncodeToString(body) + ".",
	}
	all := []jose.JSONWebKey{{Key: honest.Public(), KeyID: KeyID(honest.Public()), Use: "sig", Algorithm: "EdDSA"}}
	for n, k := range []struct {
		alg             jose.SignatureAlgorithm
		private, public any
	}{
		{jose.HS256, secret, secret}, {jose.RS256, rsaKey, rsaKey.Public()}, {jose.PS256, rsaKey, rsaKey.Public()}, {jose.ES256, ecKey, ecKey.Public()},
	} {
		by := jose.JSONWebKey{Key: k.private, KeyID: id(byte(n))}
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: k.alg, Key: by}, (&jose.SignerOptions{}).WithType(tokenType))
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(body)
		if err != nil {
			t.Fatal(err)
		}
		if tokens[string(k.alg)], err = signed.CompactSerialize(); err != nil {
			t.Fatal(err)
		}
		all = append(all, jose.JSONWebKey{Key: k.public, KeyID: by.KeyID, Use: "sig", Algorithm: string(k.alg)})
	}
	keys, err := json.Marshal(jose.JSONWebKeySet{Keys: all})
	if err != nil {
		t.Fatal(err)
	}
	doc := `{"issuer":"` + issuerName + `","number":1,` + string(keys[1:])
	set, err := ParseSet([]byte(doc), issuerName)
	if err != nil || len(set.IDs()) != 1 {
		t.Fatalf("keys %v, %v", set.IDs(), err)
	}
	for name, text := range tokens {
		if c, err := set.Verify(text, "relay", start); !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "another header") || c != (Claims{}) {
			t.Errorf("%s: got %+v, %v", name, c, err)
		}
	}
	if _, err := set.Verify(mustSign(t, testClaims(), honest), "relay", start); err != nil {
		t.Errorf("an honest token: %v", err)
	}
}

// claimsPart is the payload of a token that k would sign.
func claimsPart(t testing.TB, k Key) []byte {
	t.Helper()
	b, err := text64.DecodeString(strings.Split(mustSign(t, testClaims(), k), ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A rendezvous signs each of 1,000 tokens in 10 s with another key, none of
// which it shows: it is asked at most 10 times, and another issuer's tokens pass
// meanwhile, without that one being asked.
func TestMaliciousRendezvous_UnknownKeyFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const second = "parley/12D3KooWSecond"
		s := newSource(t, testKey(1))
		s.slow(20 * time.Millisecond)
		f, _ := follow(t, s, nil)
		honest := newSource(t)
		honest.set = mustSet(t, second, 1, testKey(2))
		f2, _ := follow(t, honest, func(c *FollowerConfig) { c.Issuer = second })
		time.Sleep(time.Second)
		v := verifierOf(f)
		v.Trust(f2)
		c := testClaims()
		c.Issuer, c.Issued, c.Expires = second, time.Now(), time.Now().Add(MaxLife)
		good := mustSign(t, c, testKey(2))

		before, honestBefore := s.count(), honest.count()
		var wg sync.WaitGroup
		for i := range uint32(1000) {
			time.Sleep(10 * time.Millisecond)
			text := relayed(t, KeyOf([32]byte(binary.BigEndian.AppendUint32(make([]byte, 28), i+1000))))
			wg.Go(func() { refusal(t, v, text, ErrUnknownKey, "no such key") })
			if i%10 == 0 {
				check(t, v, good, nil)
			}
		}
		wg.Wait()
		if n := s.count() - before; n > 10 || n == 0 {
			t.Errorf("asked %d times", n)
		}
		if n := honest.count() - honestBefore; n > 1 { // its minute may be over
			t.Errorf("the other issuer was asked %d times", n)
		}
	})
}

// A rendezvous that may be asked for its key set leads on to addresses of the
// verifier's own machine and networks, also over several steps.
func TestMaliciousRendezvous_PrivateAddress(t *testing.T) {
	inner := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		t.Error("the request arrived inside")
		w.Write(mustSet(t, issuerName, 1, testKey(1)).JSON())
	}))
	defer inner.Close()
	port := inner.URL[strings.LastIndex(inner.URL, ":"):]
	var target string
	evil := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/jwks" {
			http.Redirect(w, r, "/step", http.StatusFound)
			return
		}
		http.Redirect(w, r, target, http.StatusTemporaryRedirect)
	}))
	defer evil.Close()
	public := evil.Listener.Addr().String()
	fetch, err := fetchFrom(evil.URL+"/jwks", true, func(address string) error {
		if address == public { // stands for an address on the internet
			return nil
		}
		return checkPublic(address)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, target = range []string{
		inner.URL, "http://localhost" + port, "http://[::1]" + port, "http://[::ffff:127.0.0.1]" + port, "http://0.0.0.0" + port,
		"http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://[fd00::1]/",
	} {
		f := NewFollower(FollowerConfig{Issuer: issuerName, Fetch: fetch})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { f.Run(ctx) })
		refusal(t, verifierOf(f), mustSign(t, testClaims(), testKey(1)), ErrNoSet, "missing or too old to trust")
		trouble := f.State().Trouble
		stop()
		running.Wait()
		if !errors.Is(trouble, ErrTarget) || !strings.Contains(trouble.Error(), "is not public") {
			t.Errorf("%s: %v", target, trouble)
		}
	}
}
