package nodetest

import (
	"context"
	"errors"
	"time"

	"github.com/parley-chat/parley/node"
	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/node/vault"
	"github.com/parley-chat/parley/protocol/room/roomlink"
	"github.com/parley-chat/parley/store"
)

// OpenRoom lets guests into a room of the person's by a password, and returns the link
// when the person's device lets them in.
func (p *Person) OpenRoom(room, password string) (link string) {
	t := p.net.t
	t.Helper()
	if _, err := p.SetRoomGuests(t.Context(), room, api.GuestsRequest{Password: password}); err != nil {
		t.Fatalf("%s opens %s to guests: %v", p.Name, room, err)
	}
	p.net.Wait(p.Name+" lets guests into "+room, func() bool {
		g, err := p.RoomGuests(t.Context(), room)
		if err != nil {
			t.Fatalf("%s's guests in %s: %v", p.Name, room, err)
		}
		link = g.Link
		return g.Open && g.Door && p.Queued(room) == 0
	})
	return link
}

// Queued is what of a person's is not at a room's rendezvous yet.
func (p *Person) Queued(room string) int {
	p.net.t.Helper()
	r, err := p.Room(p.net.t.Context(), room)
	if err != nil {
		p.net.t.Fatalf("%s's room %s: %v", p.Name, room, err)
	}
	return r.Queued + r.Pending
}

// NewGuest makes a guest of a room, that has not knocked yet, with a fixed RSA key,
// which saves seconds.
func (net *Net) NewGuest(name, link string) *Person {
	t := net.t
	t.Helper()
	net.guests++
	p := net.newPerson(len(net.People)+net.guests, name)
	l, err := roomlink.Parse(link)
	if err != nil {
		t.Fatalf("link of a room: %v", err)
	}
	g, err := engine.NewGuestWith(time.Now(), l.Room, name, engine.Home{Peer: l.Home.Peer, Addrs: l.Home.Addrs}, p.RSA())
	if err != nil {
		t.Fatalf("make guest: %v", err)
	}
	err = errors.Join(vault.Create(p.Config.Dir, p.Config.Secret), p.WithStore(func(tx store.Tx) error { return engine.InitGuest(tx, g) }))
	if err != nil {
		t.Fatalf("store guest: %v", err)
	}
	return p
}

// ErrAsked is what Visit returns when the person would be asked for a password once more
// than it was given one.
var ErrAsked = errors.New("asked for a password")

// Visit comes into the room of a guest, whose node does not run, entering these passwords
// in turn.
func (p *Person) Visit(link string, passwords ...string) error {
	ctx, cancel := context.WithTimeout(p.net.t.Context(), Patience)
	defer cancel()
	return p.VisitUntil(ctx, link, nil, passwords...)
}

// VisitUntil is Visit until ctx ends. Waits, which may be nil, is told why the guest is not
// in yet.
func (p *Person) VisitUntil(ctx context.Context, link string, waits func(why string, wait time.Duration), passwords ...string) error {
	l, err := roomlink.Parse(link)
	if err != nil {
		return err
	}
	_, err = node.Visit(ctx, node.VisitParams{
		Dir: p.Config.Dir, Secret: p.Config.Secret, Link: l, Waits: waits, Log: p.Config.Log,
		Password: func(_ context.Context, why error) (string, error) {
			if len(passwords) == 0 {
				return "", errors.Join(ErrAsked, why)
			}
			next := passwords[0]
			passwords = passwords[1:]
			return next, nil
		},
	})
	return err
}
