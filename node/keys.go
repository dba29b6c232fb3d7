package node

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// Keys returns the state of this device's keys.
func (n *Node) Keys(ctx context.Context) (k api.Keys, err error) {
	var s engine.PrekeyStatus
	err = n.kv.View(ctx, func(tx store.Tx) (err error) {
		if s, err = n.eng.PrekeyStatus(tx, n.now()); err != nil {
			return err
		}
		if k.CertUntil, err = n.eng.CertUntil(tx); err != nil {
			return err
		}
		k.Ledger, err = n.ledgerHead(tx)
		return err
	})
	if err != nil {
		return k, answer(err)
	}
	k.Published, k.Cap, k.Kept = s.Published, s.Cap, s.Kept
	if !s.SignedSince.IsZero() {
		k.Signed = s.Signed.String()
	}
	k.SignedSince, k.SignedUntil, k.SignedLive = unlessZero(s.SignedSince), unlessZero(s.SignedUntil), s.SignedLive
	k.RSA, k.RSASince, k.RSAMaking = hex.EncodeToString(s.RSA[:8]), unlessZero(s.RSASince), s.RSAWanted
	k.LastUpload, k.LastProblem, k.LastConflict = unlessZero(s.LastUpload), s.LastProblem, unlessZero(s.LastConflict)
	k.Fallbacks, k.Held = s.Fallbacks, s.Held
	return k, nil
}

func (n *Node) ledgerHead(tx store.Tx) (api.LedgerHead, error) {
	head, err := n.eng.LedgerHead(tx)
	return api.LedgerHead{N: head.N, Hash: head.Hash}, err
}

// RotateKeys replaces keys before their time. What is published follows as soon
// as the rendezvous can be reached.
func (n *Node) RotateKeys(ctx context.Context, r api.RotateRequest) (api.Keys, error) {
	switch r.What {
	case api.RotateSigned, api.RotateRSA, api.RotateSessions, api.RotateAll:
	default:
		return api.Keys{}, &api.Error{Code: api.ErrBadInput, Text: fmt.Sprintf("no keys are called %q", r.What), Hint: "signed, rsa, sessions or all"}
	}
	err := n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return n.eng.RotateKeys(tx, n.now(), engine.Rotation(r.What))
	})
	if err != nil {
		return api.Keys{}, answer(err)
	}
	return n.Keys(ctx)
}

// Ledger returns a part of the ledger.
func (n *Node) Ledger(ctx context.Context, after uint64, limit int) (p api.LedgerPage, err error) {
	err = n.kv.View(ctx, func(tx store.Tx) (err error) {
		if p.Head, err = n.ledgerHead(tx); err != nil {
			return err
		}
		p.Entries, err = n.eng.Ledger(tx, after, min(limit, api.MaxLedger))
		return err
	})
	return p, answer(err)
}

// Doctor checks the keys in the store, brings the rendezvous up to date, and
// says for each thing whether it is well, was repaired, or needs the user.
func (n *Node) Doctor(ctx context.Context) (c api.Checkup, err error) {
	before, err := n.Keys(ctx)
	if err != nil {
		return c, err
	}
	published := n.checkPublished(ctx, before)
	local, err := read(ctx, n.kv, func(tx store.Tx) ([]engine.KeyCheck, error) { return n.eng.CheckKeys(tx, n.now()) })
	if err != nil {
		return c, answer(err)
	}
	for _, l := range local {
		c.Checks = append(c.Checks, localCheck(l))
	}
	c.Checks = append(c.Checks, n.wraps.check(ctx, n), published, n.checkChain(ctx), n.checkClock())
	return c, nil
}

func localCheck(l engine.KeyCheck) api.Check {
	check := api.Check{Name: l.Name, Result: api.CheckOK, Text: l.Text}
	if l.Problem == "" {
		return check
	}
	check.Result, check.Text, check.Fix = api.CheckNeedsYou, l.Problem, askHost
	switch {
	case l.Fatal:
		check.Fix = "begin in a new folder: parley --dir NEW link CODE, or parley --dir NEW backup restore FILE"
	case l.Problem == engine.HeldClock:
		check.Fix = setClock
	}
	return check
}

// checkPublished has the rendezvous count what it has of us, and uploads what
// is missing.
func (n *Node) checkPublished(ctx context.Context, before api.Keys) api.Check {
	check := api.Check{Name: "published keys"}
	err := n.sync.force(ctx)
	after, statusErr := n.Keys(ctx)
	if err = errors.Join(err, statusErr); err != nil {
		check.Result, check.Text, check.Fix = api.CheckNeedsYou, "not compared: "+err.Error(), askHost
		return check
	}
	check.Text = fmt.Sprintf("%d of %d one-time keys, and the signed one", after.Published, after.Cap)
	switch {
	case after.LastProblem != "" || !after.SignedLive || after.Held != "":
		check.Result, check.Text, check.Fix = api.CheckNeedsYou, "the rendezvous does not take them: "+after.LastProblem, askHost
	case after.LastUpload != nil && (before.LastUpload == nil || after.LastUpload.After(*before.LastUpload)):
		check.Result = api.CheckRepaired
	default:
		check.Result = api.CheckOK
	}
	return check
}

// checkChain compares the own account's statements with what the rendezvous
// tells others of them.
func (n *Node) checkChain(ctx context.Context) api.Check {
	check := api.Check{Name: "account at the rendezvous", Result: api.CheckNeedsYou, Fix: askHost}
	own := n.self.Account
	found, err := n.lookups.ask(ctx, &wire.Lookup{Account: own[:]})
	if err != nil {
		check.Text = "not compared: " + err.Error()
		return check
	}
	theirs, err := account.ParseChain(found.GetChain())
	if err != nil || theirs.Account() != own || found.GetName() != n.self.Name {
		check.Text = "the rendezvous shows others a false account under your name"
		return check
	}
	ours, err := n.ownChain(ctx)
	switch {
	case err != nil:
		check.Text = err.Error()
	case bytes.Equal(ours.Bytes(), theirs.Bytes()):
		if err := n.fetchOwnChain(ctx); err != nil {
			check.Text = "what the rendezvous shows is not proven: " + err.Error()
			return check
		}
		check.Result, check.Fix, check.Text = api.CheckOK, "", fmt.Sprintf("statement %d here and there", ours.Seq())
	case theirs.Extends(ours):
		err = n.fetchOwnChain(ctx)
		if check.Text = "it had newer statements of your other devices"; err != nil {
			check.Text = "its newer statements were refused: " + err.Error()
			return check
		}
		check.Result, check.Fix = api.CheckRepaired, ""
	case ours.Extends(theirs):
		check.Text = fmt.Sprintf("the rendezvous had lost statements (%d there, %d here); it has them again", theirs.Seq(), ours.Seq())
		if err := n.returnChain(ctx); err != nil {
			check.Text = "the rendezvous has lost statements and does not take them back: " + err.Error()
			return check
		}
		if err := n.checkReturned(ctx); err != nil {
			check.Text = "the rendezvous had lost statements, and " + err.Error()
			return check
		}
		check.Result, check.Fix = api.CheckRepaired, ""
	default:
		check.Text = "the rendezvous shows others another history of your account"
	}
	return check
}

const setClock = "timedatectl set-ntp true"

func (n *Node) checkClock() api.Check {
	check := api.Check{Name: "clock", Result: api.CheckOK}
	if !n.home.isUp() {
		check.Result, check.Text, check.Fix = api.CheckNeedsYou, "not compared: "+ErrOffline.Error(), askHost
		return check
	}
	skew := n.home.skew()
	check.Text = fmt.Sprintf("%s from the rendezvous's", skew.Round(time.Millisecond))
	if skew.Abs() > maxSkew {
		check.Result, check.Fix = api.CheckNeedsYou, setClock
	}
	return check
}

// force asks the rendezvous what it has, by an upload of nothing, and makes it
// have what it should.
func (s *syncer) force(ctx context.Context) error {
	resp, err := s.n.home.call(ctx, &wire.Request{Call: &wire.Request_UploadPrekeys{UploadPrekeys: &wire.UploadPrekeys{}}})
	if err != nil {
		return err
	}
	counts := resp.GetPrekeyCounts()
	if counts == nil {
		return protocol.Refuse(protocol.BadRequest, "the answer does not count")
	}
	s.mu.Lock()
	s.havePre, s.wantPre = counts, true
	s.mu.Unlock()
	return s.syncPrekeys(ctx)
}
