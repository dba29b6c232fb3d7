package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/invite"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/pairing"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// LinkParams are what a machine needs to become another device of an account.
type LinkParams struct {
	Dir        string        // made if it is not there
	Secret     vault.Secret  // will open it
	Code       string        // what the other device shows: a link, or a short code
	Home       invite.Invite // where a short code leads; its token is not used
	DeviceName string
	History    bool               // ask for past messages
	Compare    func(words string) // is told what both devices show, while the other waits for its person's answer
	Log        *slog.Logger
}

// ErrNoHome is returned for a short code without a rendezvous.
var ErrNoHome = errors.New("a short code does not say where your group's rendezvous is")

// Link makes Dir a device of the account that shows the code. The device's keys
// are stored before it is known to anybody, and are the same in the next
// attempt. Errors: pairing.ErrWrongCode, pairing.ErrRefused, *protocol.Error
// with PairingOver for a code that was used or is too old, ErrPairingEnded,
// ErrJoined, ErrOffline, and those of opening a directory.
func Link(ctx context.Context, p LinkParams) (who api.Whoami, err error) {
	ctx, cancel := context.WithTimeout(ctx, pairTime)
	defer cancel()
	code, home, err := p.where()
	if err != nil {
		return who, err
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
	pending, err := preparePending(ctx, kv, p.DeviceName)
	if err != nil {
		return who, err
	}
	if len(pending.Chain) > 0 {
		return who, ErrEntering
	}
	if pending.Given, err = pair(ctx, log, code, home, pending.Newcomer, p); err != nil {
		return who, err
	}
	if err := setPending(ctx, kv, pending); err != nil {
		return who, err
	}
	if err := finishLink(ctx, kv); err != nil {
		return who, err
	}
	id, _, err := loadIdentity(ctx, kv)
	if err != nil {
		return who, err
	}
	return whoami(id), nil
}

func (p *LinkParams) where() (code pairing.Code, home engine.Home, err error) {
	if code, err = pairing.Parse(p.Code); err != nil {
		return code, home, err
	}
	home = engine.Home{Peer: code.Home.Peer, Addrs: code.Home.Addrs}
	if len(home.Peer) == 0 {
		home = engine.Home{Peer: p.Home.Peer, Addrs: p.Home.Addrs}
	}
	if len(home.Peer) == 0 {
		return code, home, ErrNoHome
	}
	_, err = homeInfo(home)
	return code, home, err
}

// pair meets the other device at the rendezvous and returns what it gives.
func pair(ctx context.Context, log *slog.Logger, code pairing.Code, home engine.Home, newcomer *engine.Newcomer, p LinkParams) (given []byte, err error) {
	s, err := meet(ctx, log, newcomer.Host, home)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	stream, joined, err := s.h.openPair(ctx, code.Slot)
	if err != nil {
		return nil, err
	}
	defer stream.close()
	if !joined.GetReady() {
		return nil, ErrPairingEnded
	}
	side, frame, err := pairing.Enter(code, s.h.self(), newcomer.Request().Marshal(), p.History)
	if err != nil {
		return nil, err
	}
	if err := stream.send(frame); err != nil {
		return nil, err
	}
	if frame, err = stream.receive(); err != nil {
		return nil, err
	}
	next, err := side.Reply(frame)
	if next != nil {
		err = errors.Join(err, stream.send(next))
	}
	if err != nil {
		return nil, err
	}
	if p.Compare != nil {
		p.Compare(strings.Join(side.Fingerprint(), " "))
	}
	for {
		if frame, err = stream.receive(); err != nil {
			return nil, err
		}
		if text, done, err := side.Answer(frame); done || err != nil {
			return text, err
		}
	}
}

func decodeMembership(text []byte) (m engine.Membership, err error) {
	w := &wire.Membership{}
	if err := proto.Unmarshal(text, w); err != nil {
		return m, fmt.Errorf("read what the other device gave: %w", err)
	}
	m = engine.Membership{
		Name: w.GetName(), Display: w.GetDisplay(), Home: engine.Home{Peer: w.GetHomePeer(), Addrs: w.GetHomeAddrs()},
		Chain: w.GetChain(), Contacts: w.GetContacts(),
	}
	if m.AIK, err = key.ParseAccount(w.GetAccountKey()); err != nil {
		return m, fmt.Errorf("read the account key: %w", err)
	}
	return m, nil
}

// finishLink makes what the other device gave the account of this directory. It
// does nothing where nothing was given, and goes on where it was cut off.
func finishLink(ctx context.Context, kv store.KV) error {
	pending, err := read(ctx, kv, engine.GetPending)
	if err != nil || pending == nil || len(pending.Given) == 0 {
		return err
	}
	m, err := decodeMembership(pending.Given)
	if err != nil {
		return err
	}
	_, err = becomeMember(ctx, kv, pending.Newcomer, m, nil)
	return err
}
