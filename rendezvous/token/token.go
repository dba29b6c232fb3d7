// Package token makes and checks the short-lived access tokens of a
// rendezvous, for those who cannot ask it about every single request: relays
// that stand alone, its HTTP pages, other instances.
//
// A token is a JWS in compact form (RFC 7515) by Ed25519 (RFC 8032, "EdDSA" in
// RFC 8037), and by nothing else: no header is ever looked at to choose an
// algorithm or a key's place. The id of a key is its RFC 7638 thumbprint and
// serves as a map key only, together with the issuer's name.
//
// The issuer uses Key, Claims.Sign and Set. Who checks tokens uses Verifier
// with one Follower per issuer, which keeps that issuer's key set fresh.
//
// The package knows neither the store nor libp2p, so that a relay that runs
// alone can have it.
package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
)

const (
	MaxToken = 1 << 10          // bytes of a token
	MaxLife  = 15 * time.Minute // of a token
	Leeway   = time.Minute      // that the clocks of issuer and verifier may be apart

	// MaxAge is how long a key set may be cached: a key is published for
	// longer before it signs, and whoever only polls refuses a revoked key
	// after it.
	MaxAge = time.Minute

	maxText = 128 // bytes of one text in the claims
)

// Why a token is refused. Errors of Verify wrap exactly one of these.
var (
	ErrMalformed  = errors.New("not a token of this kind") // also: another algorithm
	ErrIssuer     = errors.New("the issuer of the token is not trusted here")
	ErrUnknownKey = errors.New("the issuer has no such key (any more)")
	ErrSignature  = errors.New("the token's signature is wrong")
	ErrExpired    = errors.New("the token has expired")
	ErrNotYet     = errors.New("the token is from the future")
	ErrAudience   = errors.New("the token is for another service")
	ErrNoSet      = errors.New("the issuer's key set is missing or too old to trust") // try again later
)

// Claims are what a token says.
type Claims struct {
	Issuer   string             // Issuer of a rendezvous
	Account  protocol.AccountID // whom it is about
	Device   protocol.DeviceID
	Peer     string    // the device's libp2p peer id: only its holder may use the token
	Audience string    // the service that it is for
	Scope    string    // what it allows there
	Issued   time.Time // to the second
	Expires  time.Time // to the second; at most MaxLife after Issued
	KeyID    string    // of the key that signed; set by Verify only
}

// What tokens are for, and what they allow there.
const (
	AudienceRelay = "relay"
	AudienceHTTP  = "http"
	ScopeMember   = "member" // what every member may do
)

// Issuer is the name of the rendezvous with this peer id, as issuer of tokens.
func Issuer(peer string) string { return "parley/" + peer }

// Key is a private Ed25519 key that signs tokens.
type Key struct {
	key.Redacted
	seed key.Hidden[[ed25519.SeedSize]byte]
}

// NewKey generates a key.
func NewKey() Key {
	var seed [ed25519.SeedSize]byte
	rand.Read(seed[:]) // crashes the program rather than fail
	return KeyOf(seed)
}

// KeyOf is the key with this seed.
func KeyOf(seed [ed25519.SeedSize]byte) Key { return Key{seed: key.Hide(&seed)} }

// Seed returns the 32 bytes to keep of the key.
func (k Key) Seed() [ed25519.SeedSize]byte { return *k.seed() }

// Public returns the 32 bytes of the public half.
func (k Key) Public() ed25519.PublicKey {
	return k.private().Public().(ed25519.PublicKey)
}

func (k Key) private() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(k.seed()[:]) }

var text64 = base64.RawURLEncoding.Strict()

// KeyID is the RFC 7638 thumbprint of a key: 43 printable characters.
func KeyID(public ed25519.PublicKey) string {
	canonical := `{"crv":"Ed25519","kty":"OKP","x":"` + text64.EncodeToString(public) + `"}`
	sum := sha256.Sum256([]byte(canonical))
	return text64.EncodeToString(sum[:])
}

// isKeyID tells whether text could be the id of a key at all.
func isKeyID(text string) bool {
	b, err := text64.DecodeString(text)
	return err == nil && len(b) == sha256.Size && len(text) == text64.EncodedLen(len(b))
}

// payload is Claims as a token carries them (RFC 7519 and three of our own).
type payload struct {
	Issuer   string             `json:"iss"`
	Account  protocol.AccountID `json:"sub"`
	Audience string             `json:"aud"`
	Issued   int64              `json:"iat"`
	Expires  int64              `json:"exp"`
	Device   protocol.DeviceID  `json:"device"`
	Peer     string             `json:"peer"`
	Scope    string             `json:"scope"`
}

// tokenType keeps other things that the key may ever sign from being tokens.
const tokenType = "parley+jwt"

// header is the one protected header that a token signed by key id has, as it
// is in the token: nothing in it is for the verifier to choose.
func header(id string) string {
	return text64.EncodeToString([]byte(`{"alg":"EdDSA","kid":"` + id + `","typ":"` + tokenType + `"}`))
}

// Sign returns the token, at most MaxToken bytes. It fails only for claims
// that no verifier would take.
func (c Claims) Sign(k Key) (string, error) {
	if err := c.check(); err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	body, err := json.Marshal(payload{
		Issuer: c.Issuer, Account: c.Account, Device: c.Device, Peer: c.Peer,
		Audience: c.Audience, Scope: c.Scope, Issued: c.Issued.Unix(), Expires: c.Expires.Unix(),
	})
	if err != nil {
		return "", fmt.Errorf("encode claims: %w", err)
	}
	by := jose.JSONWebKey{Key: k.private(), KeyID: KeyID(k.Public())}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: by}, (&jose.SignerOptions{}).WithType(tokenType))
	if err != nil {
		return "", fmt.Errorf("make signer: %w", err)
	}
	signed, err := signer.Sign(body)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("encode token: %w", err)
	}
	if len(text) > MaxToken {
		return "", fmt.Errorf("sign token: %d bytes, at most %d", len(text), MaxToken)
	}
	return text, nil
}

// check tells whether the claims are well-formed.
func (c Claims) check() error {
	for _, text := range []string{c.Issuer, c.Peer, c.Audience, c.Scope} {
		if text == "" || len(text) > maxText || !printable(text) {
			return fmt.Errorf("%w: a text of the claims is empty, too long or not ASCII", ErrMalformed)
		}
	}
	if life := c.Expires.Unix() - c.Issued.Unix(); life <= 0 || life > int64(MaxLife/time.Second) {
		return fmt.Errorf("%w: it lives for %d s", ErrMalformed, life)
	}
	return nil
}

func printable(text string) bool {
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}
