package drive

import (
	"context"
	"fmt"
	"time"

	"github.com/parley-chat/parley/node/api"
)

// Room returns what the person's node knows of a room.
func (p Person) Room(ctx context.Context, room string) (r api.Room, err error) {
	err = p.JSON(ctx, &r, "room", "show", room)
	return r, err
}

// Members returns who is in a room, and who is invited.
func (p Person) Members(ctx context.Context, room string) ([]api.RoomMember, error) {
	var answer struct{ Members []api.RoomMember }
	err := p.JSON(ctx, &answer, "room", "members", room)
	return answer.Members, err
}

// Gather makes a room and has others join it, who must be contacts of its owner. At the
// end each of them knows of all.
func Gather(ctx context.Context, room string, owner Person, others ...Person) error {
	if _, err := owner.Run(ctx, "room", "create", room); err != nil {
		return err
	}
	for _, p := range others {
		if _, err := owner.Run(ctx, "room", "invite", room, p.Name); err != nil {
			return err
		}
		if err := p.AwaitRoom(ctx, room, "is invited to "+room, func(r api.Room) bool { return r.Stage == api.RoomInvited }); err != nil {
			return err
		}
		if _, err := p.Run(ctx, "room", "join", room); err != nil {
			return err
		}
	}
	for _, p := range append([]Person{owner}, others...) {
		all := func(r api.Room) bool { return r.Stage == api.RoomJoined && r.Members == 1+len(others) }
		if err := p.AwaitRoom(ctx, room, "knows of all in "+room, all); err != nil {
			return err
		}
	}
	return nil
}

// AwaitRoom waits until what a person's node knows of a room is so.
func (p Person) AwaitRoom(ctx context.Context, room, what string, so func(api.Room) bool) error {
	return Until(ctx, time.Minute, fmt.Sprintf("%s %s", p.Name, what), func() bool {
		r, err := p.Room(ctx, room)
		return err == nil && so(r)
	})
}
