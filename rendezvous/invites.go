package rendezvous

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/invite"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

// What an invite is good for, unless the operator says otherwise: enough for a
// group to arrive within a week.
const (
	InviteUses = 20
	InviteTTL  = 7 * 24 * time.Hour

	memberUses = 10
	maxUses    = 100_000
	maxTTL     = 366 * 24 * time.Hour
)

// NewInvite makes an operator's invite and returns its link, which holds the
// token and is stored nowhere. Zero uses or ttl mean InviteUses and InviteTTL.
// Where registration is open the token is stored all the same, so that the
// link stays good when registration is closed.
func (s *Server) NewInvite(ctx context.Context, uses int, ttl time.Duration) (link string, expires time.Time, err error) {
	if uses == 0 {
		uses = InviteUses
	}
	if ttl == 0 {
		ttl = InviteTTL
	}
	if uses < 1 || uses > maxUses || ttl < time.Second || ttl > maxTTL {
		return "", time.Time{}, fmt.Errorf("an invite has 1 to %d uses and lives 1 s to %v", maxUses, maxTTL)
	}
	i := invite.Invite{Peer: []byte(s.PeerID()), Addrs: s.inviteAddrs()}
	if len(i.Addrs) == 0 {
		return "", time.Time{}, errors.New("no address to put into an invite: set one to announce")
	}
	i.Token, i.Expires, err = s.storeInvite(ctx, protocol.AccountID{}, uint32(uses), ttl)
	if err != nil {
		return "", time.Time{}, err
	}
	return i.String(), i.Expires, nil
}

// createInvite is a member's invite.
func (s *Server) createInvite(ctx context.Context, from store.Device, c *wire.CreateInvite, resp *wire.Response) error {
	if s.cfg.NoMemberInvites {
		return protocol.Refuse(protocol.BadRequest, "only the operator of this rendezvous invites")
	}
	uses, ttlMs := c.GetUses(), c.GetTtlMs()
	if uses == 0 {
		uses = 1
	}
	if ttlMs == 0 {
		ttlMs = uint64(InviteTTL.Milliseconds())
	}
	if uses > memberUses || ttlMs > uint64(InviteTTL.Milliseconds()) || ttlMs < 1000 {
		return protocol.Refuse(protocol.TooLarge, "an invite has 1 to %d uses and lives 1 s to %v", memberUses, InviteTTL)
	}
	if err := take(s.now(), 1, "invites today", s.rates.invites.get(from.Account)); err != nil {
		return err
	}
	token, expires, err := s.storeInvite(ctx, from.Account, uses, time.Duration(ttlMs)*time.Millisecond)
	if err != nil {
		return err
	}
	resp.Result = &wire.Response_Invite{Invite: &wire.Invite{Token: token[:], ExpiresMs: uint64(expires.UnixMilli())}}
	return nil
}

// storeInvite makes a token and stores its hash.
func (s *Server) storeInvite(ctx context.Context, by protocol.AccountID, uses uint32, ttl time.Duration) (token [16]byte, expires time.Time, err error) {
	rand.Read(token[:])
	now := s.now()
	expires = now.Add(ttl).UTC().Truncate(time.Second)
	err = s.store.CreateInvite(ctx, store.Invite{
		Hash:    store.InviteHash(token[:]),
		By:      by,
		Uses:    uses,
		Created: now,
		Expires: expires,
	})
	if err != nil {
		return token, expires, fmt.Errorf("create invite: %w", err)
	}
	return token, expires, nil
}

// inviteAddrs are the addresses that reach farthest. This machine's own are
// used only when there is nothing else, to try things out.
func (s *Server) inviteAddrs() (texts []string) {
	for _, a := range p2p.Far(s.Addrs()) {
		if text := a.String(); len(text) <= invite.MaxAddr && len(texts) < invite.MaxAddrs {
			texts = append(texts, text)
		}
	}
	return texts
}
