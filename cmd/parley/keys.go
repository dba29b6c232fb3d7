package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/protocol/ledger"
)

func (p *program) keysCommands() []*cli.Command {
	return []*cli.Command{{
		Name: "keys", Category: "Node", Usage: "the keys of this device: see, check, replace or destroy them",
		Subcommands: []*cli.Command{
			{Name: "status", Usage: "what is published, how old the keys are, what went wrong last", Action: asking(0, 0, p.keysStatus)},
			{
				Name: "rotate", ArgsUsage: "[signed|rsa|sessions|all]", Usage: "replace keys before their time; nothing on its way is lost",
				Action: asking(0, 1, p.keysRotate),
			},
			{
				Name: "doctor", Usage: "check all keys and what the rendezvous has of them, now",
				Description: "It repairs what it can. It ends with 8 if something needs you, and says what to type.",
				Action:      asking(0, 0, p.keysDoctor),
			},
			{
				Name: "ledger", Usage: "what happened to your keys: made, published, used, replaced, destroyed",
				Description: "The entries are chained by hashes: one that was changed or cut out is found by --check, with or without a running node. " +
					"That the end of a file was cut shows against a hash that you noted (--head) or the running node.",
				Flags: []cli.Flag{
					&cli.Uint64Flag{Name: "after", Usage: "only entries after number `N`"},
					&cli.StringFlag{Name: "export", Usage: "write all of it to a new `FILE`, one entry a line"},
					&cli.StringFlag{Name: "check", Usage: "check an exported `FILE`"},
					&cli.StringFlag{Name: "head", Usage: "with --check: the `HASH` that the file must end with"},
				},
				Action: with(0, 0, p.keysLedger),
			},
			p.burnCommand(),
		},
	}}
}

func (p *program) keysStatus(c *cli.Context, client *api.Client) error {
	k, err := client.Keys(c.Context)
	if err != nil {
		return err
	}
	return p.showKeys(c, k)
}

func (p *program) showKeys(c *cli.Context, k api.Keys) error {
	if c.Bool("json") {
		return p.json(k)
	}
	p.say("%-15s %d of %d published, %d kept here", "one-time", k.Published, k.Cap, k.Kept)
	p.say("%-15s %s", "signed", describeSigned(k))
	rsa := k.RSA
	if k.RSASince != nil {
		rsa += ", " + age(*k.RSASince) + " old"
	}
	if k.RSAMaking {
		rsa += "; a new one is being made"
	}
	p.say("%-15s %s", "rsa", rsa)
	p.say("%-15s until %s", "certificate", k.CertUntil.Local().Format(time.DateOnly))
	p.say("%-15s %s", "last upload", sometime(k.LastUpload))
	p.say("%-15s %s", "last conflict", sometime(k.LastConflict))
	p.say("%-15s %s opened without a one-time key since the signed one was made", "fallback", count(k.Fallbacks, "session", "sessions"))
	p.say("%-15s %s", "ledger", count(int(k.Ledger.N), "entry", "entries"))
	if k.LastProblem != "" {
		p.say("! publishing failed: %s", k.LastProblem)
		p.say("  fix: parley keys doctor")
	}
	if k.Held != "" {
		p.say("! nothing is sent: %s", k.Held)
		p.say("  fix: parley keys doctor")
	}
	return nil
}

func describeSigned(k api.Keys) string {
	if k.SignedSince == nil || k.SignedUntil == nil {
		return "none made yet"
	}
	text := fmt.Sprintf("%s old, expires in %s", age(*k.SignedSince), span(max(0, time.Until(*k.SignedUntil))))
	if !k.SignedLive {
		text += "; the rendezvous has not taken it yet"
	}
	return text
}

func sometime(t *time.Time) string {
	if t == nil {
		return "never"
	}
	return age(*t) + " ago"
}

func (p *program) keysRotate(c *cli.Context, client *api.Client) error {
	what := api.RotateAll
	if c.NArg() == 1 {
		what = c.Args().First()
	}
	k, err := client.RotateKeys(c.Context, what)
	if err != nil {
		return err
	}
	if !c.Bool("json") {
		p.note("%s: new keys take the place of the old ones as soon as they are needed and published", what)
	}
	return p.showKeys(c, k)
}

func (p *program) keysDoctor(c *cli.Context, client *api.Client) error {
	d, err := client.Doctor(c.Context)
	if err != nil {
		return err
	}
	bad := 0
	for _, check := range d.Checks {
		if check.Result == api.CheckNeedsYou {
			bad++
		}
	}
	if c.Bool("json") {
		err = p.json(d)
	} else {
		p.showChecks(d.Checks)
	}
	if err == nil && bad > 0 {
		return fail(exitUnverified, "%s you", count(bad, "check needs", "checks need"))
	}
	return err
}

func (p *program) showChecks(checks []api.Check) {
	words := map[string]string{api.CheckOK: "ok", api.CheckRepaired: "repaired", api.CheckNeedsYou: "NEEDS YOU"}
	for _, check := range checks {
		p.say("%-10s %-26s %s", words[check.Result], check.Name, check.Text)
		if check.Fix != "" {
			p.say("           fix: %s", check.Fix)
		}
	}
}

func (p *program) keysLedger(c *cli.Context) error {
	if file := c.String("check"); file != "" {
		return p.checkLedger(c, file)
	}
	if c.String("head") != "" {
		return usageError("--head goes with --check")
	}
	client, err := dial(c)
	if err != nil {
		return err
	}
	defer client.Close()
	if file := c.String("export"); file != "" {
		return p.exportLedger(c, client, file)
	}
	_, err = eachEntry(c.Context, client, c.Uint64("after"), func(e ledger.Entry) error {
		if c.Bool("json") {
			return p.json(e)
		}
		p.say("%6d  %s  %-16s %s  %-9s %s", e.N, e.Time().Local().Format(time.DateTime), string(e.Kind), e.ID.String(), string(e.What), e.Reason)
		return nil
	})
	return err
}

// eachEntry calls fn for all entries of the running node's ledger.
func eachEntry(ctx context.Context, client *api.Client, after uint64, fn func(ledger.Entry) error) (head api.LedgerHead, err error) {
	for {
		page, err := client.Ledger(ctx, after, api.MaxLedger)
		if err != nil || len(page.Entries) == 0 {
			return page.Head, err
		}
		for _, e := range page.Entries {
			if err := fn(e); err != nil {
				return page.Head, err
			}
			after = e.N
		}
	}
}

func (p *program) exportLedger(c *cli.Context, client *api.Client, file string) (err error) {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return fail(exitConflict, "%s is there already", file)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	var chain ledger.Chain
	lines := json.NewEncoder(f)
	_, err = eachEntry(c.Context, client, 0, func(e ledger.Entry) error {
		if err := chain.Next(e); err != nil {
			return err
		}
		return lines.Encode(e)
	})
	if broken, ok := errors.AsType[*ledger.Broken](err); ok {
		return fail(exitUnverified, "the ledger of your device is damaged: %v", broken).hint("parley keys doctor")
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	if c.Bool("json") {
		return p.json(api.LedgerHead{N: chain.N, Hash: chain.Head})
	}
	p.say("%s in %s, the last with the hash %s", count(int(chain.N), "entry", "entries"), file, chain.Head.String())
	return nil
}

// checkLedger checks an exported ledger: by itself, and against a hash that was
// noted or the node that runs here, if one does.
func (p *program) checkLedger(c *cli.Context, file string) error {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return fail(exitNotFound, "there is no file %s", file).hint("parley keys ledger --export FILE writes one")
	}
	if err != nil {
		return err
	}
	defer f.Close()
	chain, err := ledger.Check(io.Reader(f))
	if broken, ok := errors.AsType[*ledger.Broken](err); ok {
		return fail(exitUnverified, "%s: %v", file, broken)
	}
	if err != nil {
		return err
	}
	if head := strings.ToLower(c.String("head")); head != "" && head != chain.Head.String() {
		return fail(exitUnverified, "%s ends with entry %d and another hash: its end was cut, or it is of another time", file, chain.N)
	}
	against := "its end cannot be checked without --head or the running node"
	if c.String("head") != "" {
		against = "up to the given hash"
	} else if client, err := dial(c); err == nil {
		defer client.Close()
		if against, err = againstNode(c.Context, client, chain); err != nil {
			return err
		}
	}
	if c.Bool("json") {
		return p.json(api.LedgerHead{N: chain.N, Hash: chain.Head})
	}
	p.say("%s, none changed or missing; %s", count(int(chain.N), "entry", "entries"), against)
	p.say("hash of the last: %s", chain.Head.String())
	return nil
}

func againstNode(ctx context.Context, client *api.Client, chain ledger.Chain) (string, error) {
	if chain.N == 0 {
		return "", fail(exitUnverified, "the file is empty")
	}
	page, err := client.Ledger(ctx, chain.N-1, 1)
	if err != nil {
		return "", err
	}
	switch {
	case len(page.Entries) == 0 || page.Entries[0].Hash != chain.Head:
		return "", fail(exitUnverified, "the file is not of this device's ledger")
	case page.Head.N > chain.N:
		return "", fail(exitUnverified, "the device's ledger has %d more: the file is older, or its end was cut", page.Head.N-chain.N).
			hint("export it again and compare: parley keys ledger --export NEW")
	}
	return "the running node has the same", nil
}
