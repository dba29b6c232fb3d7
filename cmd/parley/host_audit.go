package main

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/audit"
	"github.com/parley-chat/parley/protocol/ledger"
	"github.com/parley-chat/parley/rendezvous"
)

// followEvery is how often --follow looks for new entries.
const followEvery = time.Second

func (p *program) hostAuditCommand() *cli.Command {
	return &cli.Command{
		Name: "audit", Usage: "the journal of the rendezvous: accounts, devices, keys, tokens, and what its operator did",
		Description: "It is kept for ever, and can be read whether the rendezvous runs or not.",
		Subcommands: []*cli.Command{
			{
				Name: "show", Usage: "what happened",
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "since", Usage: "only what happened since `TIME`: 24h or 7d ago, or a date like 2026-03-01"},
					&cli.StringFlag{Name: "account", Usage: "only of the account with this `NAME` or id"},
					&cli.StringFlag{Name: "kind", Usage: "only of this `KIND`: " + kindNames()},
					&cli.Uint64Flag{Name: "after", Usage: "only entries after number `N`"},
					&cli.BoolFlag{Name: "follow", Usage: "go on with what happens from now on, until Ctrl-C"},
				},
				Action: with(0, 0, p.hostAuditShow),
			},
			{
				Name: "verify", Usage: "check that nothing in it was changed or cut out",
				Description: "The entries are chained by hashes. Whoever can write the whole journal again is only found\n" +
					"with the number and hash of an entry that you noted elsewhere. It ends with 8 if the journal does not hold.",
				Flags:  []cli.Flag{&cli.StringFlag{Name: "noted", Usage: "the `N:HASH` that you noted"}},
				Action: with(0, 0, p.hostAuditVerify),
			},
		},
	}
}

func kindNames() string {
	var names []string
	for _, k := range audit.Kinds {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// openAudit finds the journal: of the rendezvous that runs here, else in its
// directory. done releases it.
func (p *program) openAudit(c *cli.Context) (src rendezvous.AuditSource, running bool, done func() error, err error) {
	dir, err := dataDir(c)
	if err != nil {
		return nil, false, nil, err
	}
	admin := rendezvous.NewAdmin(dir)
	_, err = admin.Audit(c.Context, rendezvous.AuditQuery{After: math.MaxUint64}) // is it there?
	if err == nil {
		return admin, true, func() error { return nil }, nil
	}
	if !isHostDown(err) {
		return nil, false, nil, err
	}
	stopped, err := rendezvous.OpenAudit(c.Context, dir, p.logger(c))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil, fail(exitNotFound, "no rendezvous ever ran in %s", dir).hint("say where its data is: --dir")
	}
	if err != nil {
		return nil, false, nil, err
	}
	return stopped, false, stopped.Close, nil
}

func (p *program) hostAuditShow(c *cli.Context) (err error) {
	q := rendezvous.AuditQuery{After: c.Uint64("after"), Account: c.String("account"), Kind: audit.Kind(c.String("kind"))}
	if q.Since, err = since(c.String("since"), time.Now()); err != nil {
		return err
	}
	if q.Kind != "" && !slices.Contains(audit.Kinds, q.Kind) {
		return usageError("there is no kind %q", q.Kind).hint("%s", kindNames())
	}
	src, running, done, err := p.openAudit(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	if !c.Bool("follow") {
		return p.showAudit(c, src, &q)
	}
	if !running {
		return fail(exitNotRunning, "no rendezvous runs here: nothing will happen").hint("start one: parley host")
	}
	return p.followAudit(c, src, &q)
}

func (p *program) followAudit(c *cli.Context, src rendezvous.AuditSource, q *rendezvous.AuditQuery) error {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		err := p.showAudit(c, src, q)
		if c.Context.Err() != nil {
			return nil
		}
		if err != nil {
			return hostNotRunning(err)
		}
		select {
		case <-c.Context.Done():
			return nil
		case <-tick.C:
		}
	}
}

// showAudit prints entries to the end of the journal, and moves the query there.
func (p *program) showAudit(c *cli.Context, src rendezvous.AuditSource, q *rendezvous.AuditQuery) error {
	for {
		page, err := src.Audit(c.Context, *q)
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			if err := p.showAuditEntry(c, e); err != nil {
				return err
			}
		}
		if b := page.Broken; b != nil {
			return fail(exitUnverified, "entry %d: %s", b.N, b.Problem).
				hint("parley host audit verify").hint("see what comes after it: --after %d", b.N)
		}
		if page.Seen == q.After {
			return nil
		}
		q.After = page.Seen
	}
}

func (p *program) showAuditEntry(c *cli.Context, e rendezvous.AuditEntry) error {
	if c.Bool("json") {
		return p.json(e)
	}
	details := []string{e.Who, e.Name, e.Note}
	if e.What == audit.Registered {
		details = details[1:] // it is the name
	}
	if e.Device != (protocol.DeviceID{}) {
		details = append(details, "device "+e.Device.String()[:8])
	}
	details = slices.DeleteFunc(details, func(s string) bool { return s == "" })
	p.say("%6d  %s  %-9s %-12s %s", e.N, e.Time().Local().Format(time.DateTime), string(e.Kind), string(e.What), strings.Join(details, "  "))
	return nil
}

// since reads how long ago, or when.
func since(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	var ago duration
	if ago.Set(text) == nil {
		return now.Add(-time.Duration(ago)), nil
	}
	for _, layout := range []string{time.DateOnly, time.DateTime, "2006-01-02 15:04", time.RFC3339} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError("--since %q: neither a time such as 90m, 24h or 7d, nor a date such as 2026-03-01", text)
}

func (p *program) hostAuditVerify(c *cli.Context) (err error) {
	noted, err := parseNoted(c.String("noted"))
	if err != nil {
		return err
	}
	src, _, done, err := p.openAudit(c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done()) }()
	chain, err := rendezvous.VerifyAudit(c.Context, src, noted)
	broken, _ := errors.AsType[*ledger.Broken](err)
	if err != nil && broken == nil {
		return err
	}
	if err := p.showVerdict(c, chain, broken); err != nil {
		return err
	}
	if broken != nil {
		return fail(exitUnverified, "entry %d: %s", broken.N, broken.Problem).
			hint("the journal was changed, by somebody or by a bad disk; what comes before that entry holds")
	}
	return nil
}

// showVerdict prints how far the journal holds.
func (p *program) showVerdict(c *cli.Context, chain ledger.Chain, broken *ledger.Broken) error {
	end := fmt.Sprintf("%d:%s", chain.N, chain.Head)
	switch {
	case c.Bool("json"):
		return p.json(struct {
			Holds  string         `json:"holds"` // up to this entry, for --noted
			Broken *ledger.Broken `json:"broken,omitempty"`
		}{end, broken})
	case broken != nil:
		p.say("%s", count(int(chain.N), "entry holds", "entries hold"))
	default:
		p.say("%s, none changed or missing", count(int(chain.N), "entry", "entries"))
		p.say("note where it ends on another machine, or on paper; next time:")
		p.say("parley host audit verify --noted %s", end)
	}
	return nil
}

// parseNoted reads N:HASH.
func parseNoted(text string) (noted ledger.Chain, err error) {
	if text == "" {
		return noted, nil
	}
	n, hash, _ := strings.Cut(text, ":")
	noted.N, err = strconv.ParseUint(n, 10, 63)
	if err == nil {
		err = noted.Head.UnmarshalText([]byte(strings.ToLower(hash)))
	}
	if err != nil || noted.N == 0 {
		return ledger.Chain{}, usageError("--noted takes N:HASH, as parley host audit verify prints it")
	}
	return noted, nil
}
