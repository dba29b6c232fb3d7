package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol/directory"
	"github.com/parley-chat/parley/protocol/room"
)

func (p *program) evidenceCommands() []*cli.Command {
	return []*cli.Command{{
		Name: "evidence", Category: "Node", Usage: "what the rendezvous was caught at: see it, keep it, have it checked, go on",
		Description: "The rendezvous signs a log of all names and keys. One that shows two people different logs can show them\n" +
			"false keys. Devices compare what they are shown inside their messages; two signatures that contradict each\n" +
			"other are evidence that anybody can check.",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "all alarms, the oldest first", Action: asking(0, 0, p.evidenceList)},
			{Name: "show", ArgsUsage: "[N]", Usage: "one alarm with what was signed; without N the last", Action: asking(0, 1, p.evidenceShow)},
			{
				Name: "export", ArgsUsage: "FILE [N]", Usage: "write the evidence of an alarm to a new file; without N the last that has any",
				Description: "There is nothing secret in it: give it to the others of your group.",
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "replace the file if it is there"}},
				Action:      asking(1, 2, p.evidenceExport),
			},
			{
				Name: "check", ArgsUsage: "FILE", Usage: "check evidence that somebody gave you; needs neither a node nor a folder",
				Description: "It ends with 0 if the file convicts the rendezvous that it names, with 8 if it proves nothing, and with 5 if\n" +
					"there is no such file. If your node runs, it says whether that is your rendezvous. Of a file that parley room\n" +
					"fork wrote it checks that both logs are valid, and were signed by those who were in the room.",
				Action: with(1, 1, p.evidenceCheck),
			},
			{
				Name: "accept", Usage: "end the alarm: believe the log that the rendezvous shows now",
				Description: acceptMeans,
				Flags:       []cli.Flag{&cli.BoolFlag{Name: "yes", Usage: "do not ask"}},
				Action:      asking(0, 0, p.evidenceAccept),
			},
		},
	}}
}

const acceptMeans = "Do this only when you know what happened, for example that the rendezvous was restored from an old backup.\n" +
	"What it says of names and keys counts again as when you joined, and messages that waited go out. Whoever lied\n" +
	"once can lie again: compare safety numbers first, with everybody who matters. The evidence is kept."

func (p *program) evidenceList(c *cli.Context, client *api.Client) error {
	list, err := client.Alarms(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(listed("alarms", list))
	}
	if len(list) == 0 {
		p.say("no alarm: all that this device was shown is of one log")
	}
	for _, a := range list {
		p.say("%d  %s  %s", a.N, clock(a.At), describeAlarm(a))
		p.say("   %s", a.Text)
	}
	return nil
}

func describeAlarm(a api.Alarm) string {
	text := "STANDS"
	if a.Ended != nil {
		text = "ended " + clock(*a.Ended)
	}
	if a.Evidence == "" {
		return text + ", no evidence for others"
	}
	return text + ", with evidence"
}

func (p *program) evidenceShow(c *cli.Context, client *api.Client) error {
	a, err := findAlarm(c, client, c.Args().First(), false)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(a)
	}
	p.say("alarm %d of %s: %s", a.N, clock(a.At), describeAlarm(a))
	p.say("%s", a.Text)
	for _, head := range []struct{ what, note string }{{"known here:", a.Held}, {"shown:", a.Shown}} {
		if head.note == "" {
			continue
		}
		p.say("")
		p.say("%s", head.what)
		for _, line := range strings.Split(strings.TrimSpace(head.note), "\n") {
			p.say("    %s", line)
		}
	}
	return nil
}

// findAlarm returns the alarm with a number, or the last; of those with evidence only,
// if they must have any.
func findAlarm(c *cli.Context, client *api.Client, number string, withEvidence bool) (found api.Alarm, err error) {
	list, err := client.Alarms(c.Context)
	if err != nil {
		return found, err
	}
	n, err := strconv.Atoi(number)
	if number != "" && err != nil {
		return found, usageError("%q is no number of an alarm", number).hint("parley evidence list")
	}
	for _, a := range list {
		if (a.Evidence != "" || !withEvidence) && (number == "" || a.N == n) {
			found = a
		}
	}
	switch {
	case found.N != 0:
		return found, nil
	case withEvidence:
		return found, fail(exitNotFound, "no such alarm has evidence that others could check").hint("parley evidence list")
	}
	return found, fail(exitNotFound, "there is no such alarm").hint("parley evidence list")
}

func (p *program) evidenceExport(c *cli.Context, client *api.Client) error {
	path, number := c.Args().First(), c.Args().Get(1)
	a, err := findAlarm(c, client, number, true)
	if err != nil {
		return err
	}
	e, err := directory.CheckEvidence([]byte(a.Evidence))
	if err != nil {
		return err
	}
	err = writeNew(path, c.Bool("force"), func(w io.Writer) error {
		_, err := io.WriteString(w, a.Evidence)
		return err
	})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(evidenceAnswer(path, e))
	}
	p.say("%s convicts your rendezvous. Others check it with: parley evidence check %s", path, path)
	return nil
}

func (p *program) evidenceCheck(c *cli.Context) error {
	path := c.Args().First()
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fail(exitNotFound, "there is no file %s", path).hint("parley evidence export FILE writes one")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	file, err := io.ReadAll(io.LimitReader(f, room.MaxFork+1))
	if err != nil {
		return err
	}
	if room.IsFork(file) {
		return p.forkCheck(c, path, file)
	}
	e, err := directory.CheckEvidence(file)
	if err != nil {
		return fail(exitUnverified, "%s proves nothing: %v", path, err).hint("ask whoever gave it to you for a new one: parley evidence export FILE")
	}
	found := evidenceAnswer(path, e)
	if client, err := dial(c); err == nil {
		defer client.Close()
		s, err := client.Status(c.Context)
		if err != nil {
			return err
		}
		ours := s.Rendezvous.PeerID == found.Rendezvous
		found.Ours = &ours
	}
	if c.Bool("json") {
		return p.json(found)
	}
	p.say("%s", found.Text)
	p.say("It is signed with the key of the rendezvous %s. Nobody else can have made it.", found.Rendezvous)
	switch {
	case found.Ours == nil:
		p.say("Whether that is yours, your node can tell when it runs.")
	case *found.Ours:
		p.say("That is your rendezvous.")
	default:
		p.say("That is not your rendezvous.")
	}
	return nil
}

// evidenceFound is what --json says of a file that convicts.
type evidenceFound struct {
	File       string         `json:"file"`
	Kind       directory.Kind `json:"kind"`
	Rendezvous string         `json:"rendezvous"` // its peer id
	Text       string         `json:"text"`
	Ours       *bool          `json:"ours,omitempty"` // whether it is that of the node that runs here; nil: none runs
}

func evidenceAnswer(path string, e directory.Evidence) evidenceFound {
	return evidenceFound{File: path, Kind: e.Kind, Rendezvous: strings.TrimPrefix(e.Log.Origin(), "parley/"), Text: e.String()}
}

func (p *program) evidenceAccept(c *cli.Context, client *api.Client) error {
	list, err := client.Alarms(c.Context)
	if err != nil {
		return err
	}
	if len(list) == 0 || list[len(list)-1].Ended != nil {
		return fail(exitNotFound, "no alarm stands").hint("see those that are over: parley evidence list")
	}
	stands := list[len(list)-1]
	if !c.Bool("yes") {
		if !p.interactive() {
			return usageError("the rendezvous may show you false keys, and nobody is here to ask").hint("--yes does it without asking")
		}
		p.note("%s", stands.Text)
		p.note("%s", acceptMeans)
		typed, err := p.ask(c.Context, "To believe it from now on, type accept: ")
		if err != nil {
			return err
		}
		if strings.TrimSpace(typed) != "accept" {
			return fail(exitError, "nothing was changed")
		}
	}
	a, err := client.AcceptLog(c.Context, api.AcceptRequest{N: stands.N})
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(a)
	}
	p.say("The alarm is ended; the log that the rendezvous shows now is believed.")
	return nil
}
