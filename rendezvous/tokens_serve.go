package rendezvous

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/token"
	"github.com/parley-chat/parley/store"
)

// audiences are the services that tokens are made for.
var audiences = []string{token.AudienceRelay, token.AudienceHTTP}

// openIssuer makes the issuer, begins to serve HTTP, and at the first start makes
// the first key. A store that cannot take it now gets it later: all else works
// without.
func (s *Server) openIssuer(ctx context.Context) (err error) {
	s.issuer = &issuer{name: token.Issuer(s.PeerID().String()), store: s.store, now: s.now, log: s.log, fetch: s.fetchKeySet}
	if s.cfg.HTTP != "" {
		if s.web, err = s.listenHTTP(s.cfg.HTTP); err != nil {
			return err
		}
	}
	if err := s.issuer.tend(ctx); err != nil {
		s.log.Error("cannot make the first signing key", "err", err)
	}
	return nil
}

// fetchKeySet reads the key set over HTTP, if it is served there.
func (s *Server) fetchKeySet(ctx context.Context) ([]byte, error) {
	if s.web != nil {
		return s.web.fetchKeySet(ctx)
	}
	set, err := s.issuer.set(ctx)
	if err != nil {
		return nil, err
	}
	return set.JSON(), nil
}

// tendKeys does what is due with the signing keys and tells links of changes,
// whoever made them, until ctx ends.
func (s *Server) tendKeys(ctx context.Context) error {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		if err := errors.Join(s.issuer.tend(ctx), s.tellKeys(ctx)); err != nil && ctx.Err() == nil {
			s.noticeFailure(err)
			s.log.Error("cannot look after the signing keys", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tellKeys tells all links and relays of the newest change of the keys, once.
func (s *Server) tellKeys(ctx context.Context) error {
	s.tellingKeys.Lock()
	defer s.tellingKeys.Unlock()
	set, err := s.issuer.set(ctx)
	if err != nil {
		return fmt.Errorf("tell of signing keys: %w", err)
	}
	if set.Number == s.keysTold {
		return nil
	}
	event, err := s.keyEvent(set)
	if err != nil {
		return err
	}
	for _, l := range s.presence.links() {
		l.tell(func(n *news) { n.keyEvent = event })
	}
	for _, f := range s.relays.all() {
		f.tellKeys(event)
	}
	s.keysTold = set.Number
	return nil
}

// tellKeysTo tells a relay of the keys as they are, in order with what tellKeys
// tells all.
func (s *Server) tellKeysTo(ctx context.Context, f *relayLink) error {
	s.tellingKeys.Lock()
	defer s.tellingKeys.Unlock()
	set, err := s.issuer.set(ctx)
	if errors.Is(err, errNoKeys) {
		return nil // told when there are some
	}
	if err != nil {
		return fmt.Errorf("tell of signing keys: %w", err)
	}
	event, err := s.keyEvent(set)
	if err != nil {
		return err
	}
	f.tellKeys(event)
	return nil
}

// keyEvent is the event about the set, signed with the rendezvous's identity.
func (s *Server) keyEvent(set *token.Set) ([]byte, error) {
	identity := s.host.Peerstore().PrivKey(s.host.ID())
	if identity == nil || identity.Type() != crypto.Ed25519 {
		return nil, errors.New("the rendezvous's identity is no Ed25519 key and signs no events")
	}
	return token.EventOf(set).Sign(identity.Sign)
}

// getToken gives a member's device a token for a service.
func (s *Server) getToken(ctx context.Context, from store.Device, g *wire.GetToken, resp *wire.Response) error {
	if !slices.Contains(audiences, g.GetAudience()) {
		return protocol.Refuse(protocol.BadRequest, "there are no tokens for this service")
	}
	if err := take(s.now(), 1, "tokens", s.rates.tokens.get(from.ID)); err != nil {
		return err
	}
	k, err := s.issuer.signer(ctx)
	if errors.Is(err, errNoKeys) {
		return noKeysRefusal()
	}
	if err != nil {
		return fmt.Errorf("issue token: %w", err)
	}
	text, expires, err := s.issuer.issueBy(k, token.Claims{
		Account: from.Account, Device: from.ID, Peer: peer.ID(from.PeerID).String(), Audience: g.GetAudience(), Scope: token.ScopeMember,
	})
	if err != nil {
		return fmt.Errorf("issue token: %w", err)
	}
	err = s.note(ctx, audit.Event{Kind: audit.Token, What: audit.Issued, Account: from.Account, Device: from.ID, Name: k.ID, Note: g.GetAudience()})
	if err != nil {
		return err
	}
	resp.Result = &wire.Response_Token{Token: &wire.Token{Token: text, ExpiresMs: uint64(expires.UnixMilli())}}
	return nil
}

// getKeySet tells anybody the public keys that tokens are signed with.
func (s *Server) getKeySet(ctx context.Context, g *wire.GetKeySet, resp *wire.Response) error {
	set, err := s.issuer.set(ctx)
	if errors.Is(err, errNoKeys) {
		return noKeysRefusal()
	}
	if err != nil {
		return err
	}
	event, err := s.keyEvent(set)
	if err != nil {
		return err
	}
	answer := &wire.KeySet{Event: event}
	if g.GetEtag() != set.ETag() {
		answer.Document = set.JSON()
	}
	resp.Result = &wire.Response_KeySet{KeySet: answer}
	return nil
}

func noKeysRefusal() *protocol.Error {
	e := protocol.Refuse(protocol.Unavailable, "there are no signing keys yet")
	e.RetryAfter = keysEvery
	return e
}
