package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

var errAdmitterGone = errors.New("the member who answered has gone, or took too long")

// attempt does what is missing until the guest is in: it knocks, takes the welcome,
// registers. What was done stays done.
func (v *visit) attempt(ctx context.Context) (err error) {
	g, err := v.guest(ctx)
	if err != nil {
		return err
	}
	id := v.eng.Identity()
	knocks := g.Stage != engine.GuestIn // also who was removed: that may be taken back
	switch {
	case !knocks && id.Registered:
		return nil
	case knocks && g.Number == 0 && v.password == "":
		if v.password, err = v.p.Password(ctx, nil); err != nil {
			return err
		}
	}
	s, err := meet(ctx, v.log, id.Host, v.home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if knocks {
		if err := v.knock(ctx, s); err != nil {
			return err
		}
	}
	if err := registerGuest(ctx, s.h, v.kv, v.eng); err != nil {
		return err
	}
	if err := v.kv.Update(ctx, engine.MarkRegistered); err != nil {
		return fmt.Errorf("note registration: %w", err)
	}
	return v.load(ctx)
}

// knock talks to a member who lets guests in, and takes its welcome.
func (v *visit) knock(ctx context.Context, s *stranger) error {
	ctx, cancel := context.WithTimeout(ctx, knockTime)
	defer cancel()
	self, err := read(ctx, v.kv, v.eng.GuestSelf)
	if err != nil {
		return err
	}
	f, err := s.h.openKnock(ctx, self.Room)
	if err != nil {
		return err
	}
	defer f.close()
	side, frame, err := guest.Knock(self)
	if err != nil {
		return err
	}
	if frame, err = f.ask(frame); err != nil {
		return err
	}
	number, err := side.Offered(frame)
	if err != nil {
		return fmt.Errorf("knock: %w", err)
	}
	secret, err := v.secret(ctx, number)
	if err != nil {
		return err
	}
	defer clear(secret[:])
	w, err := v.convince(f, side, secret)
	if err != nil {
		return fmt.Errorf("knock: %w", err)
	}
	err = v.kv.Update(ctx, func(tx store.Tx) error {
		_, err := v.eng.TakeWelcome(tx, time.Now(), w, number, *secret)
		return err
	})
	if err != nil {
		return fmt.Errorf("store the welcome: %w", err)
	}
	return nil
}

// secret is what was derived from the password with a number: that which let the guest
// in before, or of the password that was asked for.
func (v *visit) secret(ctx context.Context, number uint32) (*[32]byte, error) {
	var kept key.Hidden[[32]byte]
	var ok bool
	err := v.kv.View(ctx, func(tx store.Tx) (err error) {
		kept, ok, err = v.eng.GuestSecret(tx, number)
		return err
	})
	if err != nil {
		return nil, err
	}
	if ok && v.password == "" {
		return new(*kept()), nil
	}
	if v.password == "" {
		return nil, protocol.Refuse(protocol.WrongPassword, "the room's password was changed")
	}
	derived, err := guest.Derive(v.password, v.p.Link.Room, number)
	if err != nil {
		return nil, err
	}
	return &derived, nil
}

// convince shows the admitter that the guest has the password, says its name, and
// returns the welcome.
func (v *visit) convince(f *frameStream, side *guest.Visitor, secret *[32]byte) (w guest.Welcome, err error) {
	frame, err := side.Answer(*secret)
	if err != nil {
		return w, err
	}
	if frame, err = f.ask(frame); err != nil {
		return w, err
	}
	if frame, err = side.Confirmed(frame); err != nil {
		return w, err
	}
	if frame, err = f.ask(frame); err != nil {
		return w, err
	}
	return side.Welcomed(frame)
}

// openKnock knocks at a room through the rendezvous, and waits until a member's device
// answers. What it returns must be closed; it ends with ctx.
func (h *home) openKnock(ctx context.Context, id protocol.RoomID) (*frameStream, error) {
	f, err := h.openFrames(ctx, protocol.KnockProtocol, errAdmitterGone)
	if err != nil {
		return nil, err
	}
	f.s.SetDeadline(time.Now().Add(knockTime)) // it asks one device after the other
	answer := &wire.Knocked{}
	if err = wire.WriteMsg(f.s, &wire.Knock{Room: id[:]}); err == nil {
		err = readFrame(f.s, answer)
	}
	if err != nil {
		f.close()
		return nil, fmt.Errorf("%w: knock: %w", ErrOffline, err)
	}
	if err := refusalIn(answer); err != nil {
		f.close()
		return nil, err
	}
	return f, nil
}

// registerGuest shows the rendezvous that the room's log has this guest. It may be
// repeated.
func registerGuest(ctx context.Context, h *home, kv store.KV, eng *engine.Engine) error {
	req := &wire.RegisterGuest{}
	err := kv.View(ctx, func(tx store.Tx) error {
		g, err := eng.Guest(tx)
		if err != nil {
			return err
		}
		chain, err := eng.OwnChain(tx)
		if err != nil {
			return err
		}
		req.Room, req.Chain = g.Room[:], chain.Bytes()
		return nil
	})
	if err != nil {
		return err
	}
	if _, err := h.ask(ctx, &wire.Request{Call: &wire.Request_RegisterGuest{RegisterGuest: req}}); err != nil {
		return fmt.Errorf("register as a guest: %w", err)
	}
	return nil
}
