package node

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/invite"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Contacts returns all of them, and those who asked to be.
func (n *Node) Contacts(ctx context.Context) (list []api.Contact, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		all, err := n.eng.Contacts(tx)
		list = make([]api.Contact, 0, len(all))
		for _, c := range all {
			list = append(list, n.apiContact(c))
		}
		return err
	})
	return list, answer(err)
}

// Add asks somebody to be a contact, or accepts when they asked first. It needs
// the rendezvous, for their keys. Somebody in a room may be named by the account.
func (n *Node) Add(ctx context.Context, r api.AddRequest) (c api.Contact, err error) {
	if a := new(protocol.AccountID); a.UnmarshalText([]byte(r.Name)) == nil {
		if r.Name, err = n.uniqueName(ctx, *a); err != nil {
			return c, answer(err)
		}
	}
	if err := engine.ValidName(r.Name); err != nil {
		return c, answer(err)
	}
	n.home.busy()
	err = untilSettled(func() error { return n.addOnce(ctx, r) })
	if err != nil {
		return c, answer(err)
	}
	n.lookups.forget(r.Name)
	return n.contact(ctx, r.Name)
}

// uniqueName finds the name that the directory binds to an account.
func (n *Node) uniqueName(ctx context.Context, a protocol.AccountID) (name string, err error) {
	for range 2 {
		err = n.kv.View(ctx, func(tx store.Tx) error {
			c, err := n.eng.Contact(tx, a)
			name = c.Name
			return err
		})
		if err == nil && name != "" || err != nil && !errors.Is(err, engine.ErrNotFound) {
			return name, err
		}
		if err := n.lookups.fetch(ctx, a); err != nil && protocol.CodeOf(err) != protocol.UnknownAccount {
			return "", err
		}
	}
	return "", &api.Error{Code: api.ErrNotFound, Text: "this account has no name here, so it cannot be a contact: guests of rooms have none"}
}

func (n *Node) addOnce(ctx context.Context, r api.AddRequest) error {
	found, err := n.lookups.byName(ctx, r.Name)
	if err != nil {
		return err
	}
	if found.GetName() != r.Name {
		return engine.ErrBadAnswer
	}
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.Add(tx, n.now(), found, r.Note) })
	return n.lookups.refused(ctx, found, err)
}

// Accept lets somebody who asked be a contact.
func (n *Node) Accept(ctx context.Context, name string) (api.Contact, error) {
	return n.change(ctx, name, n.eng.Accept)
}

// Decline forgets that somebody asked. They are not told.
func (n *Node) Decline(ctx context.Context, name string) (api.Contact, error) {
	return n.change(ctx, name, n.eng.Decline)
}

// Block stops all traffic with somebody. They are not told.
func (n *Node) Block(ctx context.Context, name string) (api.Contact, error) {
	return n.change(ctx, name, n.eng.Block)
}

// Unblock takes Block back.
func (n *Node) Unblock(ctx context.Context, name string) (api.Contact, error) {
	return n.change(ctx, name, n.eng.Unblock)
}

// Remove ends being contacts.
func (n *Node) Remove(ctx context.Context, name string) (api.Contact, error) {
	return n.change(ctx, name, n.eng.Remove)
}

type changeFunc func(store.Tx, time.Time, protocol.AccountID) (engine.Hint, error)

// change applies fn to a contact and returns what it is now.
func (n *Node) change(ctx context.Context, name string, fn changeFunc) (out api.Contact, err error) {
	var now engine.Contact
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		c, err := n.contactByName(tx, name)
		if err != nil {
			return engine.Hint{}, err
		}
		h, err := fn(tx, n.now(), c.Account)
		if err != nil {
			return engine.Hint{}, err
		}
		now, err = n.eng.Contact(tx, c.Account)
		if err == engine.ErrNotFound { // removed altogether
			c.Relation = engine.Stranger
			now, err = c, nil
		}
		return h, err
	})
	if err != nil {
		return out, answer(err)
	}
	return n.apiContact(now), nil // after the hint: the connection may be gone
}

func (n *Node) contact(ctx context.Context, name string) (out api.Contact, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		c, err := n.contactByName(tx, name)
		out = n.apiContact(c)
		return err
	})
	return out, answer(err)
}

// Invite makes a link with which others can register at our rendezvous.
func (n *Node) Invite(ctx context.Context, r api.InviteRequest) (out api.Invite, err error) {
	if r.Uses < 0 || r.TTLs < 0 || r.TTLs > maxInviteSeconds {
		return out, &api.Error{Code: api.ErrBadInput, Text: "uses and time of an invite are positive numbers"}
	}
	uses := max(r.Uses, 1)
	req := &wire.CreateInvite{Uses: uint32(min(uses, maxInviteUses)), TtlMs: uint64(r.TTLs) * 1000}
	resp, err := n.home.call(ctx, &wire.Request{Call: &wire.Request_CreateInvite{CreateInvite: req}})
	if err != nil {
		return out, answer(err)
	}
	made := resp.GetInvite()
	link := invite.Invite{Peer: n.self.Home.Peer, Addrs: n.self.Home.Addrs, Expires: time.UnixMilli(int64(made.GetExpiresMs())).UTC()}
	if copy(link.Token[:], made.GetToken()) != len(link.Token) {
		return out, &api.Error{Code: api.ErrRefused, Text: "the rendezvous made no usable invite"}
	}
	return api.Invite{Link: link.String(), Uses: int(req.Uses), Expires: link.Expires}, nil
}

const (
	maxInviteUses    = 1000
	maxInviteSeconds = 366 * 24 * 3600
)
