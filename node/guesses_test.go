package node_test

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room/guest"
	"github.com/parley-chat/parley/protocol/room/roomlink"
	"github.com/parley-chat/parley/protocol/wire"
)

// guesser leads strangers to alice's device, as a rendezvous does that lets everybody
// knock as often as it likes and says of each where it is.
type guesser struct {
	*visit
	room protocol.RoomID
	to   peer.ID
}

func newGuesser(v *visit) *guesser {
	v.t.Helper()
	link, err := roomlink.Parse(v.link)
	if err != nil {
		v.t.Fatal(err)
	}
	to, err := peer.Decode(v.alice.Whoami().PeerID)
	if err != nil {
		v.t.Fatal(err)
	}
	return &guesser{v, link.Room, to}
}

// knock opens a stream to alice's device, and returns what that answers.
func (g *guesser) knock(place byte) (network.Stream, protocol.Code) {
	g.t.Helper()
	s, err := g.Home.Host().NewStream(network.WithNoDial(g.t.Context(), "test"), g.to, protocol.KnockProtocol)
	if err != nil {
		g.t.Fatal(err)
	}
	s.SetDeadline(time.Now().Add(nodetest.Patience))
	answer := &wire.Knocked{}
	where := [16]byte{place}
	err = errors.Join(wire.WriteMsg(s, &wire.Knock{Room: g.room[:], Place: where[:]}), wire.ReadMsg(s, answer))
	if err != nil {
		g.t.Fatal(err)
	}
	return s, protocol.Code(answer.GetCode())
}

// guess tries a password as a guest with a new key, and returns what it is told.
func (g *guesser) guess(place byte) protocol.Code {
	g.t.Helper()
	s, code := g.knock(place)
	defer s.Reset()
	if code != protocol.OK {
		return code
	}
	ask := func(frame []byte, err error) []byte {
		g.t.Helper()
		answer := &wire.PairFrame{}
		if err == nil {
			err = errors.Join(wire.WriteMsg(s, &wire.PairFrame{Data: frame}), wire.ReadMsg(s, answer))
		}
		if err != nil {
			g.t.Fatal(err)
		}
		return answer.GetData()
	}
	side, frame, err := guest.Knock(g.stranger())
	if _, err := side.Offered(ask(frame, err)); err != nil {
		g.t.Fatal(err)
	}
	var wrong [32]byte
	rand.Read(wrong[:])
	_, err = side.Confirmed(ask(side.Answer(wrong)))
	return protocol.CodeOf(err)
}

// stranger is an account made for a visit.
func (g *guesser) stranger() guest.Self {
	g.t.Helper()
	now, aik, dsk := time.Now(), key.NewAccount(), key.NewDevice()
	chain, err := account.Create(now, aik, key.NewRecovery().Public())
	if err != nil {
		g.t.Fatal(err)
	}
	cert, err := account.NewCert(aik, account.Cert{
		Account: chain.Account(), Signing: dsk.Public(), Identity: key.NewIdentity().Public(), PeerID: key.NewHost().Public().PeerID(),
		MinProto: 1, MaxProto: 1, Created: now, NotAfter: now.Add(time.Hour),
	})
	if err == nil {
		chain, err = chain.AddDevice(now, aik, cert)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return guest.Self{Room: g.room, Chain: chain, Key: dsk, Name: "nobody"}
}

// guesses makes many guesses from one place, and returns how many were checked.
func (g *guesser) guesses(n int, place byte) (checked int) {
	g.t.Helper()
	for i := range n {
		switch code := g.guess(place); code {
		case protocol.WrongPassword:
			checked++
		case protocol.RateLimited:
		default:
			g.t.Fatalf("guess %d: %v", i, code)
		}
	}
	return checked
}

// Whoever guesses, also with the help of the rendezvous, gets few guesses checked, keeps
// guests from other places out only while he guesses from three, and nobody who was in
// before; the same for who stalls. PARLEY_GUESSES sets how many there are.
func TestGST08_WrongPasswordsKeepNobodyOut(t *testing.T) {
	t.Parallel()
	v := newVisit(t)
	g := newGuesser(v)
	n := 90
	if s := os.Getenv("PARLEY_GUESSES"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatalf("PARLEY_GUESSES: %v", err)
		}
	}
	g.stalls()
	for place := range byte(2) {
		if checked := g.guesses(n/3, place); checked != 10 {
			t.Errorf("place %d had %d guesses checked", place, checked)
		}
	}
	carl := v.NewGuest("Carl", v.link)
	v.comeIn(carl, password)
	v.says(carl, v.alice, "from a third place")
	if checked := g.guesses(n/3, 2); checked != 10 {
		t.Errorf("all three places had %d guesses checked", 20+checked)
	}
	dora := v.NewGuest("Dora", v.link)
	ctx, cancel := context.WithCancel(t.Context())
	if err := dora.VisitUntil(ctx, v.link, func(why string, wait time.Duration) {
		if wait < time.Minute {
			t.Errorf("dora waits %v, since %s", wait, why)
		}
		cancel()
	}, password); !errors.Is(err, context.Canceled) {
		t.Errorf("after 30 guesses a new guest: %v", err)
	}
	if _, err := v.alice.SetRoomGuests(t.Context(), v.room, api.GuestsRequest{Password: "second", AskAgain: true}); err != nil {
		t.Fatal(err)
	}
	v.Wait("bert is out", func() bool { return v.stage(v.bert) == api.GuestKnocks })
	v.bert.Stop()
	v.comeIn(v.bert, "second")
	v.talk("who was in before is not kept out")
	seen, err := v.alice.RoomGuests(t.Context(), v.room)
	if err != nil {
		t.Fatal(err)
	}
	if len(seen.Attempts) == 0 || len(seen.Attempts) > 100 {
		t.Errorf("alice is shown %d attempts", len(seen.Attempts))
	}
	v.bert.Stop()
	g.alone(hostKey(t, v.bert))
}

// stalls holds as many streams as one place may have. From another one somebody is
// answered.
func (g *guesser) stalls() {
	g.t.Helper()
	var held []network.Stream
	for _, x := range []struct {
		place byte
		want  protocol.Code
	}{{9, protocol.OK}, {9, protocol.OK}, {9, protocol.NobodyAdmits}, {8, protocol.OK}} {
		s, code := g.knock(x.place)
		if code != x.want {
			g.t.Errorf("place %d, with %d that stall: %v", x.place, len(held), code)
		}
		held = append(held, s)
	}
	for _, s := range held {
		s.Reset()
	}
}

// alone knocks at alice's device as somebody who may connect, without the rendezvous.
func (g *guesser) alone(k key.HostPrivate) {
	g.t.Helper()
	h := bareHost(g.t, k)
	if err := h.Connect(g.t.Context(), where(g.t, g.alice)); err != nil {
		g.t.Fatal(err)
	}
	s, err := h.NewStream(g.t.Context(), g.to, protocol.KnockProtocol)
	if err != nil {
		return
	}
	s.SetDeadline(time.Now().Add(nodetest.Patience))
	if wire.WriteMsg(s, &wire.Knock{Room: g.room[:]}); wire.ReadMsg(s, &wire.Knocked{}) == nil {
		g.t.Error("somebody knocked without the rendezvous")
	}
}
