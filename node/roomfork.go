package node

import (
	"context"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room"
	"github.com/parley-chat/parley/store"
)

// RoomFork returns what is known of a fork of a room's log, and asks for the other log
// if it is not here.
func (n *Node) RoomFork(ctx context.Context, name string) (out api.RoomFork, err error) {
	err = n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		r, err := n.roomByName(tx, name)
		if err != nil {
			return engine.Hint{}, err
		}
		f, h, err := n.eng.RoomFork(tx, n.now(), r.ID)
		out = n.names(tx).fork(r, f)
		return h, err
	})
	return out, answer(err)
}

func (s names) fork(r engine.Room, f engine.RoomFork) api.RoomFork {
	out := api.RoomFork{Stands: f.Stands, Ours: []api.RoomEntry{}, Theirs: []api.RoomEntry{}}
	if f.By != (protocol.AccountID{}) {
		out.By = s.inRoom(r.ID, f.By)
	}
	if r.State != nil {
		me, _ := r.State.Member(s.n.self.Account)
		out.MayMerge = me.Role >= room.RoleModerator
	}
	if f.Fork == nil {
		return out
	}
	out.Known, out.Common, out.Evidence = true, uint64(len(f.Fork.Common))-1, f.Fork.Marshal()
	for list, entries := range map[*[]api.RoomEntry][]room.Entry{&out.Ours: f.Fork.Ours, &out.Theirs: f.Fork.Theirs} {
		for _, e := range entries {
			*list = append(*list, s.entry(r.ID, engine.RoomEntry{Entry: e}))
		}
	}
	return out
}

// KeepRoomLog goes on with one of two logs of a room.
func (n *Node) KeepRoomLog(ctx context.Context, name string, in api.KeepRequest) (api.Room, error) {
	if in.Keep != api.KeepOurs && in.Keep != api.KeepTheirs {
		return api.Room{}, &api.Error{Code: api.ErrBadInput, Text: `say which log goes on: "ours" or "theirs"`}
	}
	return n.inRoom(ctx, name, func(tx store.Tx, r engine.Room) (engine.Hint, error) {
		return n.eng.KeepRoomLog(tx, n.now(), r.ID, in.Keep == api.KeepTheirs)
	})
}
