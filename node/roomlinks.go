package node

import (
	"context"
	"strings"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/protocol/room/roomlink"
	"github.com/parley-chat/parley/store"
)

const (
	roomLinkTTL    = 7 * 24 * time.Hour // unless the user says how long
	maxRoomLinkTTL = 366 * 24 * time.Hour
)

// MakeRoomLink makes a link by which others join a room.
func (n *Node) MakeRoomLink(ctx context.Context, name string, r api.RoomLinkRequest) (out api.RoomLink, err error) {
	lasts := time.Duration(min(r.TTLs, int64(maxRoomLinkTTL/time.Second)+1)) * time.Second
	if r.Uses < 0 || r.Uses > room.MaxUses || r.TTLs < 0 || lasts > maxRoomLinkTTL {
		return out, &api.Error{Code: api.ErrBadInput, Text: "a link is for 1 to 1024 uses, within a year"}
	}
	if lasts == 0 {
		lasts = roomLinkTTL
	}
	now, err := n.inRoom(ctx, name, func(tx store.Tx, in engine.Room) (engine.Hint, error) {
		made, h, err := n.eng.MakeRoomLink(tx, n.now(), in.ID, uint16(max(r.Uses, 1)), n.now().Add(lasts))
		out = n.names(tx).link(in.ID, made)
		return h, err
	})
	if err != nil {
		return api.RoomLink{}, err
	}
	out.Pending = now.Pending > 0
	return out, nil
}

// RoomLinks returns the links into a room that can still be used.
func (n *Node) RoomLinks(ctx context.Context, name string) (list []api.RoomLink, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) error {
		r, err := n.roomByName(tx, name)
		if err != nil {
			return err
		}
		all, err := n.eng.RoomLinks(tx, n.now(), r.ID)
		names := n.names(tx)
		for _, l := range all {
			list = append(list, names.link(r.ID, l))
		}
		return err
	})
	return list, answer(err)
}

// EndRoomLink takes the link back whose id begins with prefix.
func (n *Node) EndRoomLink(ctx context.Context, name, prefix string) (out api.RoomLink, err error) {
	_, err = n.inRoom(ctx, name, func(tx store.Tx, r engine.Room) (engine.Hint, error) {
		l, err := n.findLink(tx, r.ID, prefix)
		if err != nil {
			return engine.Hint{}, err
		}
		out = n.names(tx).link(r.ID, l)
		return n.eng.WriteRoom(tx, n.now(), r.ID, room.Unlink{Key: l.Key})
	})
	return out, err
}

// JoinRoomByLink joins a room by a link.
func (n *Node) JoinRoomByLink(ctx context.Context, r api.JoinLinkRequest) (api.Room, error) {
	l, err := roomlink.Parse(r.Link)
	if err != nil {
		return api.Room{}, answer(err)
	}
	return n.changeRoom(ctx, func(tx store.Tx) (protocol.RoomID, engine.Hint, error) {
		h, err := n.eng.JoinRoomByLink(tx, n.now(), l)
		return l.Room, h, err
	})
}

// findLink finds a link by the beginning of its id.
func (n *Node) findLink(tx store.Tx, id protocol.RoomID, prefix string) (found engine.RoomLink, err error) {
	all, err := n.eng.RoomLinks(tx, n.now(), id)
	if err != nil {
		return found, err
	}
	count := 0
	for _, l := range all {
		if len(prefix) >= minLinkPrefix && strings.HasPrefix(linkID(l), prefix) {
			found = l
			count++
		}
	}
	switch count {
	case 0:
		return found, engine.ErrNoLink
	case 1:
		return found, nil
	}
	return found, &api.Error{Code: api.ErrConflict, Text: "several links begin with this: say more of it"}
}

// minLinkPrefix is how many characters of its id name a link.
const minLinkPrefix = 4

// linkID names a link within its room: the key is public.
func linkID(l engine.RoomLink) string { return l.Key.String()[:16] }

func (s names) link(id protocol.RoomID, l engine.RoomLink) api.RoomLink {
	return api.RoomLink{
		ID: linkID(l), Link: l.Link.String(), By: s.inRoom(id, l.By), Uses: int(l.Uses), Expires: l.Expires, Pending: l.Pending,
	}
}
