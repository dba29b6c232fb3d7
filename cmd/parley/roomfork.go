package main

import (
	"io"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol/room"
)

func (p *program) forkCommand() *cli.Command {
	c := &cli.Command{
		Name: "fork", ArgsUsage: "ROOM", Usage: "members were shown different logs: see both, and say which goes on",
		Description: "Somebody, mostly the rendezvous, showed one log of the room to some of you and another to others. Ask them, by\n" +
			"another way, what they see. An owner, or two moderators, end it for all: parley room fork ROOM --keep ours.\n" +
			"Who else says that goes on writing, and nothing more. What is done in the log given up is void, but for removals.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "keep", Usage: "`WHICH` log goes on: ours, or, if you are an owner, theirs"},
			&cli.PathFlag{Name: "evidence", Usage: "write both logs, as they were signed, to `FILE`"},
			&cli.BoolFlag{Name: "force", Usage: "replace the file if it is there"},
		},
		Action: aboutRoom(1, 1, p.roomFork),
	}
	return p.offeringRooms(c, nil)
}

func (p *program) roomFork(c *cli.Context, client *api.Client, room string) error {
	if keep := c.String("keep"); keep != "" {
		r, err := client.KeepRoomLog(c.Context, room, api.KeepRequest{Keep: keep})
		if err != nil {
			return err
		}
		return p.changed(c, r, "%s goes on with the log that you chose", roomLabel(r))
	}
	f, err := client.RoomFork(c.Context, room)
	if err != nil {
		return err
	}
	if path := c.Path("evidence"); path != "" {
		return p.forkEvidence(c, f, path)
	}
	if c.Bool("json") {
		return p.json(f)
	}
	return p.showFork(f, room)
}

func (p *program) forkEvidence(c *cli.Context, f api.RoomFork, path string) error {
	if !f.Known {
		return fail(exitNotFound, "the other log is not here yet").hint("try again when %s is online", f.By)
	}
	err := writeNew(path, c.Bool("force"), func(w io.Writer) error {
		_, err := w.Write(f.Evidence)
		return err
	})
	if err == nil {
		p.say("both logs are in %s, signed by those who wrote them; anybody checks that with: parley evidence check %s", path, path)
	}
	return err
}

// forkFound is what --json says of a file with two logs of a room.
type forkFound struct {
	File   string `json:"file"`
	Kind   string `json:"kind"`
	Room   string `json:"room"`
	Common uint64 `json:"common"` // number of the last entry that both have
	Ours   int    `json:"ours"`   // entries that follow, where it was written,
	Theirs int    `json:"theirs"` // and in the other log
}

// forkCheck is evidenceCheck for what forkEvidence wrote.
func (p *program) forkCheck(c *cli.Context, path string, file []byte) error {
	f, err := room.ParseFork(file)
	if err != nil {
		return fail(exitUnverified, "%s proves nothing: %v", path, err).
			hint("ask whoever gave it to you for a new one: parley room fork ROOM --evidence FILE")
	}
	found := forkFound{path, "room_fork", f.Common[0].Room().String(), uint64(len(f.Common)) - 1, len(f.Ours), len(f.Theirs)}
	if c.Bool("json") {
		return p.json(found)
	}
	p.say("two valid logs of the room %s, which part after entry %d: one goes on with %d, the other with %d", found.Room, found.Common, found.Ours, found.Theirs)
	p.say("Each entry is signed by the device that wrote it. Who showed both as the room's log, mostly the rendezvous, they do not say.")
	return nil
}

func (p *program) showFork(f api.RoomFork, room string) error {
	if f.By != "" {
		p.say("%s has another log of this room, or says so", f.By)
	}
	if !f.Known {
		p.say("it is not here yet; your node asks for it")
		return nil
	}
	p.say("both begin alike, up to entry %d", f.Common)
	for _, side := range []struct {
		title string
		log   []api.RoomEntry
	}{{"ours:", f.Ours}, {"theirs:", f.Theirs}} {
		p.say("")
		p.say("%s", side.title)
		for _, e := range side.log {
			p.say("  %d  %s  %s", e.Seq, clock(e.Time), e.Text)
		}
	}
	p.say("")
	switch {
	case f.MayMerge:
		p.note("to end it: parley room fork %s --keep ours", shellWord(room))
	case f.Stands:
		p.note("an owner, or two moderators, end it; to write on meanwhile: parley room fork %s --keep ours", shellWord(room))
	}
	return nil
}
