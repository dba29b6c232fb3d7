package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
)

func (p *program) roomGuestsCommand() *cli.Command {
	return p.offeringRooms(&cli.Command{
		Name: "guests", ArgsUsage: "ROOM", Usage: "let people without an account in, by a link and a password",
		Description: "Without flags it shows the link, the guests, and who tried to come in at this computer.\n" +
			"Give guests the password some other way than the link. A member who may admit has to be online when one comes.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "password", Usage: "open the room to guests by a new password, which you are asked for"},
			&cli.PathFlag{Name: "password-file", Usage: "the same, with the password from `FILE`, or from standard input with -"},
			&cli.BoolFlag{Name: "ask-again", Usage: "guests who are in have to enter the new password too; else they stay"},
			&cli.BoolFlag{Name: "off", Usage: "let no more guests in; with --ask-again also those go who are in"},
			&cli.BoolFlag{Name: "qr", Usage: "print the link's QR code even if this is no terminal"},
		},
		Action: aboutRoom(1, 1, p.roomGuests),
	}, nil)
}

func (p *program) roomGuests(c *cli.Context, client *api.Client, room string) error {
	set, off := c.Bool("password") || c.IsSet("password-file"), c.Bool("off")
	switch {
	case set && off:
		return usageError("--off and a password do not go together")
	case c.Bool("ask-again") && !set && !off:
		return usageError("--ask-again goes with a new password, or with --off")
	case !set && !off:
		g, err := client.RoomGuests(c.Context, room)
		if err != nil {
			return err
		}
		return p.showGuests(c, g, room)
	}
	request := api.GuestsRequest{AskAgain: c.Bool("ask-again")}
	if set {
		text, err := p.newRoomPassword(c)
		if err != nil {
			return err
		}
		request.Password = text
	}
	g, err := client.SetRoomGuests(c.Context, room, request)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(g)
	}
	p.sayChanged(request, len(g.Guests))
	if set && g.Link == "" {
		p.note("the link is there when the rendezvous has it: parley room guests %s", shellWord(room))
	}
	return p.showLink(c, g)
}

// newRoomPassword reads a password from where the flags say, or asks for it twice.
func (p *program) newRoomPassword(c *cli.Context) (string, error) {
	var text []byte
	var err error
	switch {
	case c.IsSet("password-file"):
		text, err = p.secretText(c, "password-file")
	case !p.interactive():
		err = noPassword()
	default:
		text, err = p.askTwice(c.Context, "Password for guests: ")
	}
	if err == nil && len(text) == 0 {
		err = usageError("the password is empty")
	}
	return string(text), err
}

func noPassword() error {
	return fail(exitLocked, "no password given, and nobody to ask for it").
		hint("--password-file FILE reads it from a file, or from standard input with -")
}

// sayChanged says what becomes of new guests, and of those who are in.
func (p *program) sayChanged(r api.GuestsRequest, guests int) {
	stay := map[bool]string{true: "Guests who are in have to enter it again.", false: "Guests who are in stay."}[r.AskAgain]
	switch {
	case r.Password != "":
		p.say("Guests come in by the new password. %s", stay)
	case r.AskAgain:
		p.say("No more guests come in, and those who are in are out.")
	default:
		p.say("No more guests come in. Guests who are in stay: %d", guests)
	}
}

func (p *program) showLink(c *cli.Context, g api.RoomGuests) error {
	if g.Link == "" {
		return nil
	}
	p.say("")
	p.say("  parley guest '%s'", g.Link)
	if !p.onTerminal() && !c.Bool("qr") {
		return nil
	}
	p.say("")
	return printQR(p.stdout, g.Link, p.onTerminal())
}

func (p *program) showGuests(c *cli.Context, g api.RoomGuests, room string) error {
	if c.Bool("json") {
		return p.json(g)
	}
	if !g.Open {
		p.say("Closed to guests. To open it: parley room guests %s --password", shellWord(room))
	} else {
		p.say("Open to guests who have the link and the password.")
		if !g.Door {
			p.say("This computer lets nobody in: you may not admit guests, or the password has not come here yet.")
		}
		if err := p.showLink(c, g); err != nil {
			return err
		}
	}
	rows := [][]string{}
	for _, m := range g.Guests {
		until := ""
		if m.Expires != nil {
			until = "until " + clock(*m.Expires) + ", renewed while they come back"
		}
		rows = append(rows, []string{m.Name, strings.Join(m.Rights, " "), until})
	}
	if len(rows) > 0 {
		p.say("")
		p.say("Guests:")
		p.table(rows)
	}
	return p.showAttempts(g.Attempts)
}

func (p *program) showAttempts(list []api.GuestAttempt) error {
	if len(list) == 0 {
		return nil
	}
	p.say("")
	p.say("Who knocked at this computer:")
	rows := [][]string{}
	for _, a := range list {
		place := "from an unknown place"
		if len(a.Place) >= 6 {
			place = "from place " + a.Place[:6]
		}
		cause := strings.ReplaceAll(a.Cause, "_", " ")
		if a.Cause == "ok" {
			cause = "came in"
		}
		rows = append(rows, []string{clock(a.Last), cause, count(a.Count, "time", "times"), place})
	}
	p.table(rows)
	return nil
}
