package embedded

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/store"
)

// inviteMemory is how long an invite is kept after it expired, so that who
// comes too late is told so.
const inviteMemory = 90 * 24 * time.Hour

// CreateInvite implements store.Invites.
func (s *Store) CreateInvite(ctx context.Context, inv store.Invite) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		old, exists, err := get[inviteRow](tx, inviteKey(inv.Hash))
		switch {
		case err != nil:
			return err
		case exists && old.By == inv.By && old.Uses == inv.Uses && old.Expires.Unix() == inv.Expires.Unix():
			return nil
		case exists:
			return protocol.Refuse(protocol.BadRequest, "the invite exists with other terms")
		}
		inv.Used = 0
		return errors.Join(
			put(tx, inviteKey(inv.Hash), inviteRow(inv)),
			note(tx, inv.Created, audit.Event{
				Kind: audit.Invite, What: audit.Made, Account: inv.By, Name: inviteName(inv.Hash),
				Note: fmt.Sprintf("for %d, until %s", inv.Uses, inv.Expires.UTC().Format(time.RFC3339)),
			}))
	})
}

// Invites implements store.Invites.
func (s *Store) Invites(ctx context.Context, by *protocol.AccountID) (invites []store.Invite, err error) {
	err = s.kv.View(ctx, func(tx store.Tx) error {
		return scanPrefix(tx, store.Key('i'), func(pair store.Pair) (bool, error) {
			inv, err := parse[inviteRow](pair.Value)
			if err == nil && (by == nil || *by == inv.By) {
				invites = append(invites, store.Invite(inv))
			}
			return true, err
		})
	})
	return invites, err
}

// RevokeInvite implements store.Invites.
func (s *Store) RevokeInvite(ctx context.Context, hash [32]byte, now time.Time) error {
	return s.kv.Update(ctx, func(tx store.Tx) error {
		inv, exists, err := get[inviteRow](tx, inviteKey(hash))
		if err != nil {
			return err
		}
		if !exists {
			return protocol.Refuse(protocol.InviteInvalid, "no such invite")
		}
		return errors.Join(
			tx.Delete(inviteKey(hash)),
			note(tx, now, audit.Event{Kind: audit.Invite, What: audit.Withdrawn, Account: inv.By, Name: inviteName(hash)}))
	})
}

// useInvite counts one use and returns who made the invite.
func useInvite(tx store.Tx, hash [32]byte, now time.Time) (by protocol.AccountID, err error) {
	inv, exists, err := get[inviteRow](tx, inviteKey(hash))
	switch {
	case err != nil:
		return by, err
	case !exists:
		return by, protocol.Refuse(protocol.InviteInvalid, "no such invite")
	case !now.Before(inv.Expires):
		return by, protocol.Refuse(protocol.InviteExpired, "since %s", inv.Expires.Format(time.RFC3339))
	case inv.Used >= inv.Uses:
		return by, protocol.Refuse(protocol.InviteUsed, "all %d uses", inv.Uses)
	}
	inv.Used++
	return inv.By, put(tx, inviteKey(hash), inv)
}
