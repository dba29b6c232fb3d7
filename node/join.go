package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/invite"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// JoinParams are what a new account needs.
type JoinParams struct {
	Dir        string       // made if it is not there
	Secret     vault.Secret // will open it; empty passphrases are refused
	Invite     invite.Invite
	Name       string // unique at the rendezvous
	Display    string // for people; may be empty
	DeviceName string
	Log        *slog.Logger
}

// ErrJoined is returned by Join for a directory that has joined already.
var ErrJoined = errors.New("this folder has joined already")

const joinTimeout = 20 * time.Second

// Join makes an account in Dir and registers it. Everything is stored before
// it is sent, so Join may be repeated after a crash, a loss of the network or a
// refusal, also with another name or invite: the keys stay the same. Refusals
// of the rendezvous are *protocol.Error: NameTaken, InviteUsed and so on. Other
// errors: ErrJoined, ErrOffline, store.ErrLocked, vault.ErrWrongSecret.
func Join(ctx context.Context, p JoinParams) (who api.Whoami, err error) {
	if err := engine.ValidName(p.Name); err != nil {
		return who, err
	}
	if _, err := engine.CleanDisplay(p.Display); err != nil {
		return who, err
	}
	if _, err := homeInfo(engine.Home{Peer: p.Invite.Peer, Addrs: p.Invite.Addrs}); err != nil {
		return who, fmt.Errorf("read invite: %w", err)
	}
	log := cmp.Or(p.Log, slog.Default())
	kv, err := openFolder(p.Dir, p.Secret, log)
	if err != nil {
		return who, err
	}
	defer func() { err = errors.Join(err, kv.Close()) }()
	if err := finishLink(ctx, kv); err != nil { // of an attempt that was cut off
		return who, err
	}
	id, chain, err := prepareIdentity(ctx, kv, p)
	if err != nil {
		return who, err
	}
	if err := register(ctx, log, id, chain, p); err != nil {
		return who, err
	}
	if err := kv.Update(ctx, engine.MarkRegistered); err != nil {
		return who, fmt.Errorf("note registration: %w", err)
	}
	return whoami(id), nil
}

// prepareIdentity returns the identity of an earlier attempt, with the name and
// rendezvous of this one, or a new one; and the chain to register.
func prepareIdentity(ctx context.Context, kv store.KV, p JoinParams) (id *engine.Identity, chain []byte, err error) {
	home := engine.Home{Peer: p.Invite.Peer, Addrs: p.Invite.Addrs}
	old, _, err := loadIdentity(ctx, kv)
	if errors.Is(err, engine.ErrNoIdentity) {
		founder, err := engine.NewIdentity(time.Now(), p.Name, p.Display, p.DeviceName, home)
		if err != nil {
			return nil, nil, err
		}
		if err := kv.Update(ctx, func(tx store.Tx) error {
			return errors.Join(engine.Init(tx, founder), engine.EndPending(tx))
		}); err != nil {
			return nil, nil, fmt.Errorf("store identity: %w", err)
		}
		return loadIdentity(ctx, kv)
	}
	if err != nil {
		return nil, nil, err
	}
	if old.Registered {
		return nil, nil, fmt.Errorf("%w, as %s", ErrJoined, old.Name)
	}
	err = kv.Update(ctx, func(tx store.Tx) error {
		return errors.Join(engine.SetName(tx, p.Name, p.Display), engine.SetHome(tx, home))
	})
	if err != nil {
		return nil, nil, fmt.Errorf("store name: %w", err)
	}
	return loadIdentity(ctx, kv)
}

func loadIdentity(ctx context.Context, kv store.KV) (id *engine.Identity, chain []byte, err error) {
	err = kv.View(ctx, func(tx store.Tx) error {
		if err := notEntering(tx); err != nil {
			return err
		}
		e, err := engine.Load(tx)
		if err != nil {
			return err
		}
		c, err := e.OwnChain(tx)
		if err != nil {
			return err
		}
		id, chain = e.Identity(), c.Bytes()
		return nil
	})
	return id, chain, err
}

// register makes the one call that a stranger may make to become somebody.
func register(ctx context.Context, log *slog.Logger, id *engine.Identity, chain []byte, p JoinParams) (err error) {
	ctx, cancel := context.WithTimeout(ctx, joinTimeout)
	defer cancel()
	s, err := meet(ctx, log, id.Host, id.Home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	req := &wire.Register{Name: id.Name, Chain: chain}
	if p.Invite.Token != [16]byte{} {
		req.Invite = p.Invite.Token[:]
	}
	if _, err := s.call(ctx, &wire.Request{Call: &wire.Request_Register{Register: req}}); err != nil {
		return fmt.Errorf("register %s: %w", id.Name, err)
	}
	return nil
}

func peerText(id []byte) string {
	p, err := peer.IDFromBytes(id)
	if err != nil {
		return ""
	}
	return p.String()
}
