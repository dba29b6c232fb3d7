package token

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// unverified is a token whose signature has not been looked at.
type unverified struct {
	jws    *jose.JSONWebSignature
	claims Claims
	keyID  string
}

// parse reads a token without believing it. Size and header are checked before
// a JOSE parser sees them: the header must be, byte for byte, the one we write.
func parse(text string) (unverified, error) {
	if len(text) > MaxToken {
		return unverified{}, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(text), MaxToken)
	}
	if !printable(text) { // base64 decoders skip line ends
		return unverified{}, fmt.Errorf("%w: white space or control characters in it", ErrMalformed)
	}
	head, _, _ := strings.Cut(text, ".")
	raw, err := text64.DecodeString(head)
	if err != nil {
		return unverified{}, fmt.Errorf("%w: its header is no base64", ErrMalformed)
	}
	var h struct {
		ID string `json:"kid"`
	}
	if json.Unmarshal(raw, &h) != nil || !isKeyID(h.ID) || head != header(h.ID) {
		return unverified{}, fmt.Errorf("%w: another header", ErrMalformed)
	}
	jws, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return unverified{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var p payload
	if err := json.Unmarshal(jws.UnsafePayloadWithoutVerification(), &p); err != nil {
		return unverified{}, fmt.Errorf("%w: its claims are no JSON of ours", ErrMalformed)
	}
	c := Claims{
		Issuer: p.Issuer, Account: p.Account, Device: p.Device, Peer: p.Peer,
		Audience: p.Audience, Scope: p.Scope, Issued: time.Unix(p.Issued, 0).UTC(), Expires: time.Unix(p.Expires, 0).UTC(),
	}
	if err := c.check(); err != nil {
		return unverified{}, err
	}
	return unverified{jws, c, h.ID}, nil
}

// verify checks everything else: the signature by the one key that the token
// can mean, and the claims against who asks and when.
func (u unverified) verify(public ed25519.PublicKey, audience string, now time.Time) (Claims, error) {
	if _, err := u.jws.Verify(public); err != nil {
		return Claims{}, ErrSignature
	}
	c := u.claims
	c.KeyID = u.keyID
	switch {
	case c.Audience != audience:
		return Claims{}, fmt.Errorf("%w: %q", ErrAudience, c.Audience)
	case c.Issued.After(now.Add(Leeway)):
		return Claims{}, fmt.Errorf("%w: issued %s", ErrNotYet, c.Issued.Format(time.RFC3339))
	case !now.Before(c.Expires.Add(Leeway)):
		return Claims{}, fmt.Errorf("%w: at %s", ErrExpired, c.Expires.Format(time.RFC3339))
	}
	return c, nil
}

// Verify checks a token for audience against a set that is fresh: see Verifier
// for sets that change.
func (s *Set) Verify(text, audience string, now time.Time) (Claims, error) {
	u, err := parse(text)
	if err != nil {
		return Claims{}, err
	}
	if u.claims.Issuer != s.Issuer {
		return Claims{}, fmt.Errorf("%w: %q", ErrIssuer, u.claims.Issuer)
	}
	public, ok := s.keys[u.keyID]
	if !ok {
		return Claims{}, fmt.Errorf("%w: %s", ErrUnknownKey, u.keyID)
	}
	return u.verify(public, audience, now)
}
