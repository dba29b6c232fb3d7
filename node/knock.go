package node

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	maxKnocks   = 8                // guests that this device answers at a time
	maxPlace    = 2                // of them at one room from one place: who stalls there keeps nobody else out
	knockTime   = time.Minute      // for one of them; the rendezvous waits no longer
	guessTime   = 20 * time.Second // of it until the guess was made, for which a phone works a while
	guessMemory = time.Hour        // for which guest.Limits counts wrong passwords
)

var (
	errKnockEnded = errors.New("the guest has gone, or took too long")
	errKnocksBusy = errors.New("too many guests at a time")
)

// knockAt is where a guest knocks, and from where.
type knockAt struct {
	room  protocol.RoomID
	place string // as the rendezvous names it
}

// knocks are the guests that this device talks to.
type knocks struct {
	mu  sync.Mutex
	all int
	at  map[knockAt]int

	guesses map[protocol.RoomID]*guesses
}

// guesses are the wrong passwords in one room.
type guesses struct {
	limits guest.Limits
	last   time.Time // when somebody knocked
}

func newKnocks() *knocks {
	return &knocks{at: map[knockAt]int{}, guesses: map[protocol.RoomID]*guesses{}}
}

// limits counts wrong passwords in a room, until nobody has knocked there for guessMemory.
// There are at most as many as rooms that take guests here.
func (k *knocks) limits(now time.Time, id protocol.RoomID) *guest.Limits {
	k.mu.Lock()
	defer k.mu.Unlock()
	maps.DeleteFunc(k.guesses, func(_ protocol.RoomID, g *guesses) bool { return now.Sub(g.last) >= guessMemory })
	g := k.guesses[id]
	if g == nil {
		g = &guesses{}
		k.guesses[id] = g
	}
	g.last = now
	return &g.limits
}

// begin tells whether there is time for one more guest; if so, end must follow.
func (k *knocks) begin(at knockAt) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.all >= maxKnocks || k.at[at] >= maxPlace {
		return false
	}
	k.all++
	k.at[at]++
	return true
}

func (k *knocks) end(at knockAt) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.all--
	if k.at[at]--; k.at[at] == 0 {
		delete(k.at, at)
	}
}

// handleKnock lets a guest into a room, whom the rendezvous leads to this device
// (SPEC "Guests").
func (n *Node) handleKnock(s network.Stream) {
	if s.Conn().RemotePeer() != n.home.info.ID || !n.enter() {
		s.Reset()
		return
	}
	defer n.leave()
	ctx, cancel := context.WithTimeout(n.ctx, knockTime)
	defer cancel()
	f := &frameStream{s, context.AfterFunc(ctx, func() { s.Reset() }), errKnockEnded}
	defer f.close()
	s.SetDeadline(time.Now().Add(askTimeout))
	ask := &wire.Knock{}
	if err := readFrame(s, ask); err != nil {
		s.Reset()
		return
	}
	id, err := protocol.FromBytes[protocol.RoomID](ask.GetRoom())
	if err == nil && len(ask.GetPlace()) <= engine.MaxPlace {
		err = n.answerKnock(ctx, f, knockAt{id, string(ask.GetPlace())})
	}
	if err != nil {
		n.log.Info("a guest has not come in", "room", id, "why", err)
	}
}

// answerKnock opens the door of a room, if this device has it, and sees the guest
// through it.
func (n *Node) answerKnock(ctx context.Context, f *frameStream, at knockAt) error {
	if !n.knocks.begin(at) {
		return errors.Join(errKnocksBusy, f.knocked(protocol.NobodyAdmits))
	}
	defer n.knocks.end(at)
	door, err := read(ctx, n.kv, func(tx store.Tx) (guest.Door, error) { return n.eng.Door(tx, n.now(), at.room) })
	if err != nil {
		return errors.Join(err, f.knocked(protocol.NobodyAdmits))
	}
	if err := f.knocked(protocol.OK); err != nil {
		return err
	}
	f.s.SetDeadline(time.Now().Add(guessTime))
	frame, err := f.receive()
	if err != nil {
		return err
	}
	a, frame, err := guest.Answer(door, frame)
	if err != nil {
		return err
	}
	if frame, err = f.ask(frame); err != nil {
		return err
	}
	r, err := n.judgeGuest(ctx, f, a, at, frame)
	if err != nil {
		return err
	}
	f.s.SetDeadline(time.Now().Add(knockTime))
	if frame, err = n.decideGuest(ctx, a, at, r); err != nil {
		return err
	}
	return f.send(frame)
}

// knocked answers the rendezvous.
func (f *frameStream) knocked(code protocol.Code) error {
	if err := wire.WriteMsg(f.s, &wire.Knocked{Code: uint32(code)}); err != nil {
		return f.gone
	}
	return nil
}

// judgeGuest takes the guess, and, if it was right, who the guest is. A wrong one is
// noted before the guest hears of it.
func (n *Node) judgeGuest(ctx context.Context, f *frameStream, a *guest.Admitter, at knockAt, frame []byte) (r guest.Request, err error) {
	next, wrong := a.Answered(n.now(), n.knocks.limits(n.now(), at.room), at.place, frame)
	if next == nil {
		return r, wrong
	}
	if wrong != nil {
		return r, errors.Join(wrong, n.noteGuest(ctx, at, protocol.CodeOf(wrong)), f.send(next))
	}
	if frame, err = f.ask(next); err != nil {
		return r, err
	}
	return a.Requested(frame)
}

// decideGuest lets the guest in, or not, and returns what it is told.
func (n *Node) decideGuest(ctx context.Context, a *guest.Admitter, at knockAt, r guest.Request) (frame []byte, err error) {
	w, err := n.admitGuest(ctx, at.room, r)
	refusal, refused := errors.AsType[*protocol.Error](err)
	switch {
	case refused:
		frame, err = a.Refuse(refusal)
	case err == nil:
		frame, err = a.Admit(w)
	}
	if err != nil {
		return nil, err
	}
	code := protocol.OK
	if refused {
		code = refusal.Code
	}
	return frame, n.noteGuest(ctx, at, code)
}

// admitGuest writes the guest into the room's log, and waits until the rendezvous has
// it there. A *protocol.Error is for the guest.
func (n *Node) admitGuest(ctx context.Context, id protocol.RoomID, r guest.Request) (w guest.Welcome, err error) {
	if err := n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.AdmitGuest(tx, n.now(), id, r) }); err != nil {
		return w, err
	}
	err = n.rooms.until(ctx, func() (bool, error) {
		return read(ctx, n.kv, func(tx store.Tx) (done bool, err error) {
			var waits bool
			w, waits, err = n.eng.GuestAdmitted(tx, n.now(), id, r)
			return !waits, err
		})
	})
	if err != nil && ctx.Err() != nil {
		err = protocol.Refuse(protocol.Unavailable, "the rendezvous has not taken it")
	}
	return w, err
}

// noteGuest remembers how an attempt ended.
func (n *Node) noteGuest(ctx context.Context, at knockAt, code protocol.Code) error {
	return n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return n.eng.NoteGuestAttempt(tx, n.now(), at.room, []byte(at.place), code)
	})
}
