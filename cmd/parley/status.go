package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol"
)

func (p *program) status(c *cli.Context, client *api.Client) error {
	s, err := client.Status(c.Context)
	if err != nil {
		return err
	}
	rooms, err := client.Rooms(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(struct {
			api.Status
			Rooms []api.Room `json:"rooms"`
		}{s, rooms})
	}
	p.say("%-12s up for %s, process %d, version %s", s.Name, age(s.Since), s.PID, s.Version)
	p.say("%-12s %s", "rendezvous", describeLink(s.Rendezvous))
	p.say("%-12s %s", "relay", describeLink(s.Relay))
	for _, l := range s.Relays {
		p.say("%-12s %s %s", "", l.PeerID, describeOther(l))
	}
	p.say("%-12s %s%s", "reachable", s.Reachability, map[bool]string{true: "; looking in the local network"}[s.LAN])
	p.say("%-12s %s", "listening", strings.Join(s.Listen, "  "))
	p.say("%-12s %s on their way, %d waiting for keys", "messages", count(s.Queued, "envelope", "envelopes"), s.Waiting)
	p.say("%-12s %s", "prekeys", describePrekeys(s.Prekeys))
	p.say("%-12s %s", "contacts", describeContacts(s.Contacts))
	p.say("%-12s %s", "rooms", describeRooms(rooms))
	for _, problem := range s.Problems {
		p.say("! %s", problem.Text)
		if problem.Fix != "" {
			p.say("  fix: %s", problem.Fix)
		}
	}
	return nil
}

// describeOther says of a relay besides the rendezvous what it is to this node.
func describeOther(l api.Link) string {
	if l.Up || l.Problem != "" {
		return describeLink(l)
	}
	if l.RTTms > 0 {
		return fmt.Sprintf("not used, %.1f ms away", l.RTTms)
	}
	return "not used"
}

func describeLink(l api.Link) string {
	var parts []string
	if l.Up {
		parts = append(parts, "up")
	} else {
		parts = append(parts, "down")
	}
	if l.Since != nil {
		parts = append(parts, "for "+age(*l.Since))
	}
	if l.Path != "" {
		parts = append(parts, "by "+l.Path)
	}
	if l.RTTms > 0 {
		parts = append(parts, fmt.Sprintf("%.1f ms away", l.RTTms))
	}
	text := strings.Join(parts, " ")
	if l.Problem != "" {
		text += ": " + l.Problem
	}
	if l.Retry != nil && !l.Up {
		text += fmt.Sprintf("; next try in %s", span(max(0, time.Until(*l.Retry))))
	}
	if skew := time.Duration(l.SkewMs) * time.Millisecond; skew.Abs() > time.Minute {
		text += fmt.Sprintf("; clocks differ by %s", span(skew.Abs()))
	}
	return text
}

func describePrekeys(k api.Prekeys) string {
	text := fmt.Sprintf("%d of %d one-time keys published", k.Published, k.Cap)
	if k.SignedSince != nil {
		text += ", signed one " + age(*k.SignedSince) + " old"
	}
	if k.Fallback {
		text += ", fallback was used"
	}
	if k.LastProblem != "" {
		text += "; " + k.LastProblem
	}
	return text
}

func describeContacts(all []api.Contact) string {
	accepted, online, incoming, verified := 0, 0, 0, 0
	for _, k := range all {
		switch k.Relation {
		case api.Accepted:
			accepted++
			if k.Verified {
				verified++
			}
			if k.Online != nil && *k.Online {
				online++
			}
		case api.Incoming:
			incoming++
		}
	}
	text := fmt.Sprintf("%d, %d online, %d verified", accepted, online, verified)
	if incoming > 0 {
		text += fmt.Sprintf("; %s (parley requests)", count(incoming, "request to answer", "requests to answer"))
	}
	return text
}

func (p *program) whoami(c *cli.Context, client *api.Client) error {
	me, err := client.Whoami(c.Context)
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return p.json(me)
	}
	p.say("%s", me.Name)
	if me.Display != "" {
		p.say("display  %s", me.Display)
	}
	p.say("account  %s", me.Account)
	p.say("device   %s", me.Device)
	p.say("peer id  %s", me.PeerID)
	return nil
}

// showVersion says what this program is made of.
func (p *program) showVersion(c *cli.Context) error {
	v := struct {
		Version  string `json:"version"`
		Commit   string `json:"commit,omitempty"`
		Protocol uint16 `json:"protocol"`
		Go       string `json:"go"`
		Platform string `json:"platform"`
	}{version, commit(), protocol.Version, runtime.Version(), runtime.GOOS + "/" + runtime.GOARCH}
	if c.Bool("json") {
		return p.json(v)
	}
	p.say("parley %s, protocol %d, %s, %s", v.Version, v.Protocol, v.Go, v.Platform)
	return nil
}

func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
