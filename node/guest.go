package node

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/protocol/room/roomlink"
	"github.com/parley-chat/parley/store"
)

// VisitParams are what a guest of a room needs.
type VisitParams struct {
	Dir    string        // made if it is not there; of one guest in one room
	Secret vault.Secret  // will open it
	Link   roomlink.Link // of the room, for guests

	// Name asks for what the others see, 1 to guest.MaxName bytes, where no guest was begun
	// before. An error of it ends the visit.
	Name func(ctx context.Context) (string, error)
	// Password asks for the room's password. Why says what was wrong with the one
	// before, nil at first. An error of it ends the visit.
	Password func(ctx context.Context, why error) (string, error)
	// Waits is told why the guest is not in yet, and when it tries again. May be nil.
	Waits func(why string, wait time.Duration)
	Log   *slog.Logger
}

var (
	// ErrNotForGuests is returned by Visit for a link that lets members in.
	ErrNotForGuests = errors.New("this link is for people who have an account at the rendezvous")
	// ErrOtherVisit is returned by Visit for a folder of somebody else: an account, or
	// a guest of another room.
	ErrOtherVisit = errors.New("this folder is not that of a guest of this room")
)

// Visit makes Dir that of a guest of a room, and comes in: it knocks until a member is
// there who lets guests in. Where the guest is in already, as far as is known here,
// it asks nobody anything; a guest that is not any more knocks again and is the same
// guest. Its keys are stored before anybody hears of them, so Visit may be repeated
// after a crash. Refusals that last are *protocol.Error: RoomLocked, Banned, RoomFull.
// Other errors: those above, of Password, store.ErrLocked, vault.ErrWrongSecret.
func Visit(ctx context.Context, p VisitParams) (who api.Whoami, err error) {
	if !p.Link.ForGuests() {
		return who, ErrNotForGuests
	}
	v := &visit{p: p, log: cmp.Or(p.Log, slog.Default()), home: engine.Home{Peer: p.Link.Home.Peer, Addrs: p.Link.Home.Addrs}}
	if _, err := homeInfo(v.home); err != nil {
		return who, fmt.Errorf("read link: %w", err)
	}
	if v.kv, err = openFolder(p.Dir, p.Secret, v.log); err != nil {
		return who, err
	}
	defer func() { err = errors.Join(err, v.kv.Close()) }()
	if err := v.begin(ctx); err != nil {
		return who, err
	}
	if err := v.comeIn(ctx); err != nil {
		return who, err
	}
	return whoami(v.eng.Identity()), nil
}

// visit is one call of Visit.
type visit struct {
	p        VisitParams
	log      *slog.Logger
	home     engine.Home
	kv       store.KV
	eng      *engine.Engine
	password string // empty: not asked for yet
}

// begin loads the guest of the folder, or makes one.
func (v *visit) begin(ctx context.Context) error {
	err := v.load(ctx)
	if err == nil {
		return v.moveHome(ctx)
	}
	if !errors.Is(err, engine.ErrNoIdentity) {
		return err
	}
	name, err := v.p.Name(ctx)
	if err != nil {
		return err
	}
	founder, err := engine.NewGuest(time.Now(), v.p.Link.Room, name, v.home)
	if err != nil {
		return err
	}
	if err := v.kv.Update(ctx, func(tx store.Tx) error { return engine.InitGuest(tx, founder) }); err != nil {
		return fmt.Errorf("store the guest: %w", err)
	}
	return v.load(ctx)
}

// moveHome takes the addresses of the rendezvous from the link, which may be newer.
func (v *visit) moveHome(ctx context.Context) error {
	if known := v.eng.Identity().Home; !bytes.Equal(known.Peer, v.home.Peer) || slices.Equal(known.Addrs, v.home.Addrs) {
		return nil
	}
	if err := v.kv.Update(ctx, func(tx store.Tx) error { return engine.SetHome(tx, v.home) }); err != nil {
		return fmt.Errorf("store where the rendezvous is: %w", err)
	}
	return v.load(ctx)
}

func (v *visit) load(ctx context.Context) error {
	err := v.kv.View(ctx, func(tx store.Tx) (err error) {
		if err := notEntering(tx); err != nil {
			return err
		}
		v.eng, err = engine.Load(tx)
		return err
	})
	if err != nil {
		return err
	}
	g, err := v.guest(ctx)
	if errors.Is(err, engine.ErrNotGuest) || err == nil && g.Room != v.p.Link.Room {
		return ErrOtherVisit
	}
	return err
}

func (v *visit) guest(ctx context.Context) (engine.Guest, error) {
	return read(ctx, v.kv, v.eng.Guest)
}

// comeIn tries until the guest is in, or is refused for good.
func (v *visit) comeIn(ctx context.Context) error {
	for failures := 0; ; failures++ {
		err := v.attempt(ctx)
		if err == nil || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
		does, text, err := v.refused(ctx, err)
		switch does {
		case engine.GuestAsks:
			if v.password, err = v.p.Password(ctx, err); err != nil {
				return err
			}
		case engine.GuestKnocksAnew:
			if failures == 0 {
				continue
			}
			fallthrough
		case engine.GuestWaits:
			if err := v.wait(ctx, text, visitPause(err, failures)); err != nil {
				return err
			}
		case engine.GuestEnds:
			return err
		}
	}
}

// refused finds what to do about an attempt that failed.
func (v *visit) refused(ctx context.Context, cause error) (does engine.GuestDoes, text string, err error) {
	if errors.Is(cause, guest.ErrPassword) {
		return engine.GuestAsks, "", cause
	}
	if errors.Is(cause, ErrOffline) || errors.Is(cause, errAdmitterGone) {
		return engine.GuestWaits, cause.Error(), cause
	}
	refusal, ok := errors.AsType[*protocol.Error](cause)
	if !ok {
		return engine.GuestEnds, "", cause
	}
	err = v.kv.Update(ctx, func(tx store.Tx) error {
		_, err := v.eng.GuestRefused(tx, time.Now(), refusal)
		return err
	})
	if err != nil {
		return engine.GuestEnds, "", err
	}
	does, text = engine.DoAsGuest(refusal.Code)
	return does, text, cause
}

func (v *visit) wait(ctx context.Context, why string, wait time.Duration) error {
	if v.p.Waits != nil {
		v.p.Waits(why, wait)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// visitPause is how long to wait after an attempt that failed: longer each time, and
// never less than was said.
func visitPause(err error, failures int) time.Duration {
	wait := min(retryFirst<<min(failures, 10), retryMax)
	if e, ok := errors.AsType[*protocol.Error](err); ok {
		wait = max(wait, e.RetryAfter)
	}
	return wait + rand.N(wait/4)
}
