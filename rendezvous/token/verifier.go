package token

import (
	"context"
	"fmt"
	"sync"
)

// Verifier checks tokens for one service. It trusts the issuers it was told
// to, each for its own keys only: a key id means something together with its
// issuer.
type Verifier struct {
	audience string

	mu      sync.RWMutex
	issuers map[string]*Follower
}

// NewVerifier makes a verifier of tokens for audience, which trusts nobody.
func NewVerifier(audience string) *Verifier {
	return &Verifier{audience: audience, issuers: map[string]*Follower{}}
}

// Trust makes the tokens of an issuer count. The follower's Run is the
// caller's business.
func (v *Verifier) Trust(f *Follower) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.issuers[f.cfg.Issuer] = f
}

// Distrust makes the tokens of an issuer count no more, from now on.
func (v *Verifier) Distrust(issuer string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.issuers, issuer)
}

// Holds tells whether tokens by this key of this issuer pass now, as far as is
// known without asking: what Verify let in earlier is to end when it does not.
func (v *Verifier) Holds(issuer, keyID string) bool {
	v.mu.RLock()
	f := v.issuers[issuer]
	v.mu.RUnlock()
	return f != nil && f.holds(keyID)
}

// Verify returns what a token says if its issuer is trusted and signed it, and
// it is valid here and now. It asks the issuer at most once, when the token
// names a key that is not known; ctx bounds that.
//
// Whoever presents the token must also have shown to be Claims.Peer.
func (v *Verifier) Verify(ctx context.Context, text string) (Claims, error) {
	u, err := parse(text)
	if err != nil {
		return Claims{}, err
	}
	v.mu.RLock()
	f := v.issuers[u.claims.Issuer]
	v.mu.RUnlock()
	if f == nil {
		return Claims{}, fmt.Errorf("%w: %q", ErrIssuer, u.claims.Issuer)
	}
	public, err := f.Key(ctx, u.keyID)
	if err != nil {
		return Claims{}, err
	}
	return u.verify(public, v.audience, f.cfg.Now())
}
