package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/backup"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/proof"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// EnterParams say how this machine becomes a device of an account that exists,
// from a backup, or with the recovery words, or both.
type EnterParams struct {
	Dir        string // a new one: it is made
	Secret     vault.Secret
	DeviceName string
	Backup     *backup.Backup // nil: there is none

	// Words are the recovery key; nil: not used. With it the account gets a new
	// account key, and every other device of it is revoked.
	Words *key.RecoveryPrivate

	// Without a backup, the account is found here by its name.
	Home engine.Home
	Name string

	Log *slog.Logger
}

var (
	// ErrNotEmpty is returned by Enter for a folder with something in it: what
	// is old never goes over what is newer.
	ErrNotEmpty = errors.New("this folder is in use; restore into a new one")
	// ErrKeyReplaced is returned by Enter if the account key of the backup is
	// not in force any more, or the words are not those of the account.
	ErrKeyReplaced = errors.New("the rendezvous does not take this key for the account")
	// ErrEntering is returned by New for a folder where Enter has not finished.
	ErrEntering = errors.New("restoring into this folder has not finished")
)

// Enter makes this machine a new device of an account. Everything is stored
// before it is sent, so it may be repeated after a crash or without a network,
// with the same parameters. Errors besides those above: those of Join.
func Enter(ctx context.Context, p EnterParams) (who api.Whoami, err error) {
	e := &entry{p: p, log: cmp.Or(p.Log, slog.Default()), home: p.Home, name: p.Name}
	if p.Backup != nil {
		e.home, e.name = p.Backup.Member.Home, p.Backup.Member.Name
	}
	if _, err := homeInfo(e.home); err != nil {
		return who, err
	}
	if err := e.open(); err != nil {
		return who, err
	}
	defer func() { err = errors.Join(err, e.kv.Close()) }()
	if err := e.prepare(ctx); err != nil {
		return who, err
	}
	if err := e.certify(ctx); err != nil {
		return who, err
	}
	return e.settle(ctx)
}

// entry is one call of Enter.
type entry struct {
	p       EnterParams
	log     *slog.Logger
	home    engine.Home
	name    string
	kv      store.KV
	pending *engine.Pending
}

// open makes the folder, or opens that of an attempt that was cut off.
func (e *entry) open() error {
	if _, _, err := vault.Kind(e.p.Dir); errors.Is(err, vault.ErrNoVault) {
		list, err := os.ReadDir(e.p.Dir)
		if err == nil && len(list) > 0 {
			return ErrNotEmpty
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("look into the folder: %w", err)
		}
	}
	kv, err := openFolder(e.p.Dir, e.p.Secret, e.log)
	e.kv = kv
	return err
}

// prepare makes the keys of the device, once.
func (e *entry) prepare(ctx context.Context) (err error) {
	e.pending, err = preparePending(ctx, e.kv, e.p.DeviceName)
	if errors.Is(err, ErrJoined) || err == nil && len(e.pending.Given) > 0 {
		return ErrNotEmpty
	}
	return err
}

// entryTries is how often somebody else may change the account between our
// look and our change.
const entryTries = 5

// certify gets the device into the account's chain at the rendezvous.
func (e *entry) certify(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	s, err := meet(ctx, e.log, e.pending.Newcomer.Host, e.home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	for range entryTries {
		chain, err := e.fetch(ctx, s)
		if err != nil {
			return err
		}
		if err := e.plan(ctx, chain); err != nil {
			return err
		}
		_, err = s.call(ctx, updateChain(e.pending.Chain))
		if protocol.CodeOf(err) == protocol.ChainConflict {
			continue
		}
		if err != nil {
			return fmt.Errorf("add this device: %w", err)
		}
		return nil
	}
	return fmt.Errorf("add this device: %w", &protocol.Error{Code: protocol.ChainConflict})
}

// fetch gets the account's chain, and checks that it is the account's.
func (e *entry) fetch(ctx context.Context, s *stranger) (*account.Chain, error) {
	var resp *wire.Response
	err := ErrKeyReplaced
	for _, req := range e.requests(s.h) {
		resp, err = s.call(ctx, &wire.Request{Call: &wire.Request_FetchChain{FetchChain: req}})
		if protocol.CodeOf(err) != protocol.NotOwner {
			break
		}
		err = ErrKeyReplaced
	}
	if err != nil {
		return nil, fmt.Errorf("ask for the account: %w", err)
	}
	found := resp.GetFound()
	chain, err := account.ParseChain(found.GetChain())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", engine.ErrBadAnswer, err)
	}
	if found.GetName() != e.name {
		return nil, fmt.Errorf("%w: it answered with another name", engine.ErrBadAnswer)
	}
	if err := engine.ProvenBy(e.home, time.Now(), found); err != nil {
		return nil, fmt.Errorf("ask for the account: %w", err)
	}
	return chain, e.check(chain)
}

// requests asks with the account key, if there is one, and with the recovery
// key, if there is one.
func (e *entry) requests(h *home) (list []*wire.FetchChain) {
	ask := proof.Fetch{Rendezvous: []byte(h.info.ID), Caller: []byte(h.n.host.ID())}
	if b := e.p.Backup; b != nil {
		if chain, err := account.ParseChain(b.Member.Chain); err == nil {
			id := chain.Account()
			ask.Account = id[:]
		}
	} else {
		ask.Name = e.name
	}
	add := func(signer, sig []byte, err error) {
		if err == nil {
			list = append(list, &wire.FetchChain{Name: ask.Name, Account: ask.Account, Signer: signer, Sig: sig})
		}
	}
	for _, aik := range e.accountKeys() {
		sig, err := proof.SignFetch(aik, ask)
		add(aik.Public().Bytes(), sig, err)
	}
	if e.p.Words != nil {
		sig, err := proof.SignFetch(*e.p.Words, ask)
		add(e.p.Words.Public().Bytes(), sig, err)
	}
	return list
}

// accountKeys are those that may be in force: ours of an earlier attempt, and
// the backup's.
func (e *entry) accountKeys() (keys []key.AccountPrivate) {
	if len(e.pending.Chain) > 0 {
		keys = append(keys, e.pending.AIK)
	}
	if e.p.Backup != nil {
		keys = append(keys, e.p.Backup.Member.AIK)
	}
	return keys
}

// check refuses a chain that is another account's, or another history of ours.
func (e *entry) check(c *account.Chain) error {
	if e.p.Backup != nil {
		old, err := account.ParseChain(e.p.Backup.Member.Chain)
		if err != nil {
			return err
		}
		if !c.Extends(old) {
			return fmt.Errorf("%w: not the account of the backup", engine.ErrChainFork)
		}
	}
	if e.p.Words != nil && e.p.Words.Public() != c.Recovery() && !e.recovered(c) {
		return fmt.Errorf("%w: another recovery key", ErrKeyReplaced)
	}
	if len(e.pending.Chain) > 0 {
		before, err := account.ParseChain(e.pending.Chain)
		if err != nil {
			return err
		}
		if before.Account() != c.Account() {
			return fmt.Errorf("%w: it was begun for another account", ErrNotEmpty)
		}
	}
	if c.Closed() {
		return errors.New("this account was closed")
	}
	return nil
}

// recovered tells whether it was an earlier attempt of ours that recovered the
// account: then the words have served.
func (e *entry) recovered(c *account.Chain) bool {
	return e.pending.RK != nil && e.pending.RK.Public() == c.Recovery()
}

// plan stores the chain that is to be uploaded, with its key. One that has this
// device already is uploaded as it is: that is no change.
func (e *entry) plan(ctx context.Context, c *account.Chain) error {
	next := &engine.Pending{Newcomer: e.pending.Newcomer}
	request := next.Newcomer.Request()
	var inForce *key.AccountPrivate
	for _, aik := range e.accountKeys() {
		if aik.Public() == c.Signer() {
			inForce = &aik
		}
	}
	_, certified := c.Device(request.Device(c.Account()))
	var err error
	switch {
	case certified && inForce != nil && (e.p.Words == nil || e.recovered(c)):
		next.AIK, next.RK = *inForce, e.pending.RK
	case e.p.Words != nil:
		var got engine.Recovered
		got, err = engine.RecoverAccount(time.Now(), c, *e.p.Words, request)
		c, next.AIK, next.RK = got.Chain, got.AIK, &got.RK
	case inForce != nil:
		next.AIK = *inForce
		c, err = engine.CertifyDevice(time.Now(), c, *inForce, request)
	default:
		err = ErrKeyReplaced
	}
	if err != nil {
		return fmt.Errorf("add this device: %w", err)
	}
	next.Chain = c.Bytes()
	if bytes.Equal(next.Chain, e.pending.Chain) {
		return nil
	}
	e.pending = next
	return setPending(ctx, e.kv, next)
}

// settle fills the store, and says that the device is ready.
func (e *entry) settle(ctx context.Context) (who api.Whoami, err error) {
	m := engine.Membership{Name: e.name, Home: e.home, Chain: e.pending.Chain, AIK: e.pending.AIK, RK: e.pending.RK}
	if b := e.p.Backup; b != nil {
		m.Display, m.Contacts = b.Member.Display, b.Member.Contacts
		if chain, err := account.ParseChain(m.Chain); err == nil && b.Member.RK != nil && b.Member.RK.Public() == chain.Recovery() {
			m.RK = b.Member.RK // its words were not confirmed yet
		}
	}
	eng, err := becomeMember(ctx, e.kv, e.pending.Newcomer, m, e.p.Backup)
	if err != nil {
		return who, err
	}
	return whoami(eng.Identity()), nil
}
