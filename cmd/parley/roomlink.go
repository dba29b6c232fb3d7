package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol/room/roomlink"
)

// roomLinks are the commands about links into rooms.
func (p *program) roomLinks() []*cli.Command {
	all := []*cli.Command{
		{
			Name: "link", ArgsUsage: "ROOM", Usage: "make a link by which people with an account here join, whoever is online",
			Description: "Who has the link can join: give it to whom you mean. This computer keeps it, to show it again: parley room links ROOM",
			Flags: []cli.Flag{
				&cli.IntFlag{Name: "uses", Usage: "how many people may use it", DefaultText: "1"},
				&cli.GenericFlag{Name: "for", Usage: "how long it is good, such as 24h or 7d", Value: new(duration), DefaultText: "7d"},
				&cli.BoolFlag{Name: "qr", Usage: "print its QR code even if this is no terminal"},
			},
			Action: aboutRoom(1, 1, p.roomLink),
		},
		{Name: "links", ArgsUsage: "ROOM", Usage: "the links into a room that can still be used", Action: aboutRoom(1, 1, p.listRoomLinks)},
		{Name: "unlink", ArgsUsage: "ROOM LINK-ID", Usage: "take a link back; who came in by it stays", Action: aboutRoom(2, 2, p.roomUnlink)},
	}
	for _, c := range all {
		p.offeringRooms(c, nil)
	}
	return all
}

func (p *program) roomLink(c *cli.Context, client *api.Client, room string) error {
	lasts := time.Duration(*c.Generic("for").(*duration))
	l, err := client.MakeRoomLink(c.Context, room, api.RoomLinkRequest{Uses: c.Int("uses"), TTLs: int64(lasts / time.Second)})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(l)
	}
	if l.Pending {
		p.note("the rendezvous has not got it yet: nobody comes in by it before")
	}
	if !p.onTerminal() && !c.Bool("qr") {
		p.say("%s", l.Link) // alone, for scripts
		return nil
	}
	p.say("A link into the room, for %s, good until %s. Who has it can join:", count(l.Uses, "person", "people"), minute(l.Expires))
	p.say("")
	p.say("  parley room join '%s'", l.Link)
	p.say("")
	return printQR(p.stdout, l.Link, p.onTerminal())
}

func (p *program) listRoomLinks(c *cli.Context, client *api.Client, room string) error {
	all, err := client.RoomLinks(c.Context, room)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(listed("links", all))
	}
	if len(all) == 0 {
		p.note("nobody can join by a link; make one: parley room link %s", shellWord(room))
		return nil
	}
	var rows [][]string
	for _, l := range all {
		rows = append(rows, []string{l.ID[:idShown], describeRoomLink(l, time.Now())})
	}
	p.table(rows)
	for _, l := range all {
		if l.Link != "" {
			p.say("%s  %s", l.ID[:idShown], l.Link)
		}
	}
	return nil
}

func describeRoomLink(l api.RoomLink, now time.Time) string {
	until := "good until " + minute(l.Expires)
	if now.After(l.Expires) {
		until = "its time is over"
	}
	text := fmt.Sprintf("by %s, for %s more, %s", l.By, count(l.Uses, "person", "people"), until)
	if l.Pending {
		text += ", not at the rendezvous yet"
	}
	return text
}

func (p *program) roomUnlink(c *cli.Context, client *api.Client, room string) error {
	l, err := client.EndRoomLink(c.Context, room, c.Args().Get(1))
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(l)
	}
	p.say("nobody comes in by the link %s any more", l.ID[:idShown])
	return nil
}

// isRoomLink tells a link into a room from the name of a room.
func isRoomLink(text string) bool {
	return text == "-" || strings.HasPrefix(strings.TrimSpace(text), roomlink.Prefix)
}

// joinByLink joins a room by a link, or by one on standard input.
func (p *program) joinByLink(c *cli.Context, client *api.Client, text string) error {
	link, err := p.readRoomLink(text)
	if err != nil {
		return err
	}
	r, err := client.JoinRoomByLink(c.Context, link.String())
	if err != nil {
		return err
	}
	return p.joined(c, r)
}
