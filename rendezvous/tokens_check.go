package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/rendezvous/token"
	"github.com/parley-chat/parley/store"
)

// selfTestAudience is a service that does not exist.
const selfTestAudience = "self-test"

// selfTest looks at the keys the way a verifier does, after the change with
// this number: it fetches the set, and with it a token by each key that is left
// must pass, one by each key of before that is gone must not, and what is
// issued now must pass.
func (i *issuer) selfTest(ctx context.Context, before []store.SigningKey, number uint64) error {
	doc, err := i.fetch(ctx)
	if err != nil {
		return fmt.Errorf("%w: fetch the key set: %w", errSelfTest, err)
	}
	set, err := token.ParseSet(doc, i.name)
	if err != nil {
		return fmt.Errorf("%w: %w", errSelfTest, err)
	}
	if set.Number != number {
		return fmt.Errorf("%w: the key set is that of change %d, not of %d", errSelfTest, set.Number, number)
	}
	keys, _, err := i.store.SigningKeys(ctx)
	if err != nil {
		return fmt.Errorf("read signing keys: %w", err)
	}
	for _, k := range keys {
		if err := i.tryKey(set, k); err != nil {
			return fmt.Errorf("%w: key %s, which is %s: %w", errSelfTest, k.ID, k.State, err)
		}
	}
	for _, k := range before {
		left := slices.ContainsFunc(keys, func(other store.SigningKey) bool { return other.ID == k.ID })
		if err := i.tryKey(set, k); !left && !errors.Is(err, token.ErrUnknownKey) {
			return fmt.Errorf("%w: key %s is gone and still passes: %v", errSelfTest, k.ID, err)
		}
	}
	text, _, err := i.issue(ctx, selfTestClaims())
	if err == nil {
		_, err = set.Verify(text, selfTestAudience, i.now())
	}
	if err != nil {
		return fmt.Errorf("%w: a token issued now: %w", errSelfTest, err)
	}
	return nil
}

// tryKey tells whether a token signed by the key passes.
func (i *issuer) tryKey(set *token.Set, k store.SigningKey) error {
	text, _, err := i.issueBy(k, selfTestClaims())
	if err != nil {
		return err
	}
	_, err = set.Verify(text, selfTestAudience, i.now())
	return err
}

// selfTestClaims are about nobody, for no service.
func selfTestClaims() token.Claims {
	return token.Claims{Account: protocol.AccountID{}, Peer: "none", Audience: selfTestAudience, Scope: "none"}
}
