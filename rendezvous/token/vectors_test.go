package token

import (
	"bytes"
	"crypto/ed25519"
	"slices"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vectors are what another implementation must make out of the same input.
type vectors struct {
	Seeds    []keytest.Hex `json:"seeds"` // of the keys in the set; the first signs
	KeyIDs   []string      `json:"key_ids"`
	Identity keytest.Hex   `json:"identity_seed"` // of the rendezvous
	Issuer   string        `json:"issuer"`
	Number   uint64        `json:"number"`
	Set      string        `json:"set"`
	ETag     string        `json:"etag"`
	Event    keytest.Hex   `json:"event"`
	Account  keytest.Hex   `json:"account"`
	Device   keytest.Hex   `json:"device"`
	Peer     string        `json:"peer"`
	Audience string        `json:"audience"`
	Scope    string        `json:"scope"`
	Issued   int64         `json:"issued"`
	Expires  int64         `json:"expires"`
	Token    string        `json:"token"`
}

func TestVectors(t *testing.T) {
	seed := func(name string) []byte { return keytest.Seed(name, 32) }
	keys := []Key{KeyOf([32]byte(seed("first"))), KeyOf([32]byte(seed("second")))}
	identity := KeyOf([32]byte(seed("host")))
	c := testClaims()
	c.Account, c.Device = [32]byte(seed("account")), [32]byte(seed("device"))
	set := mustSet(t, c.Issuer, 7, keys...)
	event, err := EventOf(set).Sign(func(b []byte) ([]byte, error) { return ed25519.Sign(identity.private(), b), nil })
	if err != nil {
		t.Fatal(err)
	}
	keytest.Golden(t, "token.json", vectors{
		Seeds: []keytest.Hex{seed("first"), seed("second")}, KeyIDs: []string{KeyID(keys[0].Public()), KeyID(keys[1].Public())},
		Identity: seed("host"), Issuer: c.Issuer, Number: set.Number, Set: string(set.JSON()), ETag: set.ETag(), Event: event,
		Account: c.Account[:], Device: c.Device[:], Peer: c.Peer, Audience: c.Audience, Scope: c.Scope,
		Issued: c.Issued.Unix(), Expires: c.Expires.Unix(), Token: mustSign(t, c, keys[0]),
	})
}

// The vectors, read back the way a verifier does.
func TestVectorsVerify(t *testing.T) {
	var v vectors
	keytest.LoadGolden(t, "token.json", &v)
	set, err := ParseSet([]byte(v.Set), v.Issuer)
	if err != nil || set.ETag() != v.ETag || set.Number != v.Number || !set.Has(v.KeyIDs[0]) || !set.Has(v.KeyIDs[1]) {
		t.Fatalf("set %+v, %v", set, err)
	}
	c, err := set.Verify(v.Token, v.Audience, time.Unix(v.Issued, 0))
	if err != nil || !bytes.Equal(c.Account[:], v.Account) || !bytes.Equal(c.Device[:], v.Device) || c.Peer != v.Peer || c.Expires.Unix() != v.Expires {
		t.Errorf("claims %+v, %v", c, err)
	}
	e, err := ParseEvent(v.Event, v.Issuer, KeyOf([32]byte(v.Identity)).Public())
	if err != nil || e.Number != v.Number || e.Hash != set.Hash() || !slices.Equal(e.IDs, set.IDs()) {
		t.Errorf("event %+v, %v", e, err)
	}
}
