package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	place "github.com/parley-chat/parley/protocol/link"
	"github.com/parley-chat/parley/protocol/pairing"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// ErrPairingEnded is returned when the other machine went away while a device was
// being added.
var ErrPairingEnded = errors.New("the other device has gone, or took too long")

var (
	errAnotherAdded = errors.New("another device is being added right now")
	errNobodyAsks   = errors.New("no device waits for this answer any more")
)

// adding is a device that is being added. There is one at a time.
type adding struct {
	mu     sync.Mutex
	id     string             // "" : none
	answer chan api.AddAnswer // holds one
}

func (a *adding) begin() (answer <-chan api.AddAnswer, id string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.id != "" {
		return nil, "", errAnotherAdded
	}
	a.id, a.answer = protocol.NewMsgID().String(), make(chan api.AddAnswer, 1)
	return a.answer, a.id, nil
}

func (a *adding) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.id = ""
}

// AnswerDevice passes on what a person said about the device that AddDevice
// told of.
func (n *Node) AnswerDevice(in api.AddAnswer) error {
	n.adding.mu.Lock()
	defer n.adding.mu.Unlock()
	if in.ID == "" || in.ID != n.adding.id {
		return answer(errNobodyAsks)
	}
	select {
	case n.adding.answer <- in:
		return nil
	default:
		return answer(errNobodyAsks) // answered before
	}
}

// AddDevice adds a device: it yields a code, then who entered it, waits for
// AnswerDevice, and yields the device when it is one. A code is good for one
// attempt. Ending the loop gives up.
func (n *Node) AddDevice(ctx context.Context) iter.Seq2[api.AddStep, error] {
	return func(yield func(api.AddStep, error) bool) {
		ctx, cancel := context.WithTimeout(ctx, pairTime)
		defer cancel()
		answers, id, err := n.adding.begin()
		if err != nil {
			yield(api.AddStep{}, answer(err))
			return
		}
		defer n.adding.end()
		show := func(step api.AddStep) error {
			if !yield(step, nil) {
				cancel()
				return context.Canceled
			}
			return nil
		}
		err = n.addDevice(ctx, id, answers, show)
		if err != nil && !errors.Is(err, context.Canceled) {
			yield(api.AddStep{}, answer(err))
		}
	}
}

func (n *Node) addDevice(ctx context.Context, id string, answers <-chan api.AddAnswer, show func(api.AddStep) error) error {
	if !n.home.isUp() {
		return ErrOffline
	}
	p, joined, err := n.home.openPair(ctx, "")
	if err != nil {
		return err
	}
	defer p.close()
	old, err := n.offer(joined, show)
	if err != nil {
		return err
	}
	asked, err := n.awaitRequest(p, old)
	if err != nil {
		return err
	}
	request, err := engine.ParseDeviceRequest(asked.Device)
	if err != nil {
		return err
	}
	if !bytes.Equal(request.PeerID, asked.Peer) {
		return fmt.Errorf("%w: it asks for another machine", pairing.ErrFrame)
	}
	step := api.AddStep{
		Stage: api.AddAsked, ID: id, Name: request.Name, Words: strings.Join(asked.Fingerprint, " "), History: asked.WantsHistory,
	}
	if err := show(step); err != nil {
		return err
	}
	said, err := awaitAnswer(ctx, answers)
	if err != nil {
		return err
	}
	if !said.Accept {
		frame, err := old.Refuse()
		return errors.Join(err, p.send(frame))
	}
	device, err := n.admit(ctx, p, old, request)
	if err != nil {
		return err
	}
	if asked.WantsHistory && said.History {
		err := n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return n.eng.SharePast(tx, n.now(), device, true) })
		if err != nil {
			return fmt.Errorf("share past messages: %w", err)
		}
	}
	return n.showAdded(ctx, device, show)
}

// offer makes the two forms of the code for a slot and shows them.
func (n *Node) offer(joined *wire.PairJoined, show func(api.AddStep) error) (*pairing.Sponsor, error) {
	short, err := pairing.NewShort(joined.GetSlot())
	if err != nil {
		return nil, err
	}
	home := place.Place{Peer: n.self.Home.Peer, Addrs: n.self.Home.Addrs}
	long, err := pairing.NewLink(joined.GetSlot(), home)
	if err != nil {
		return nil, err
	}
	old, err := pairing.Offer(n.home.self(), short, long)
	if err != nil {
		return nil, err
	}
	until := n.now().Add(time.Duration(joined.GetTtlMs()) * time.Millisecond)
	return old, show(api.AddStep{Stage: api.AddCode, Code: short.String(), Link: long.String(), Expires: &until})
}

// awaitRequest waits for the new machine, and for what it asks.
func (n *Node) awaitRequest(p *pairStream, old *pairing.Sponsor) (asked pairing.Request, err error) {
	joined, err := p.joined()
	if err != nil {
		return asked, err
	}
	if !joined.GetReady() {
		return asked, ErrPairingEnded
	}
	frame, err := p.receive()
	if err != nil {
		return asked, err
	}
	reply, err := old.Entered(frame)
	if err != nil {
		return asked, err
	}
	if err := p.send(reply); err != nil {
		return asked, err
	}
	if frame, err = p.receive(); err != nil {
		return asked, err
	}
	return old.Requested(frame)
}

func awaitAnswer(ctx context.Context, answers <-chan api.AddAnswer) (api.AddAnswer, error) {
	select {
	case said := <-answers:
		return said, nil
	case <-ctx.Done():
		return api.AddAnswer{}, ctx.Err()
	}
}

// admit certifies the device, publishes that, and gives it what a member has.
func (n *Node) admit(ctx context.Context, p *pairStream, old *pairing.Sponsor, request engine.DeviceRequest) (protocol.DeviceID, error) {
	device := request.Device(n.self.Account)
	err := n.changeChain(ctx, func(tx store.Tx) ([]byte, error) { return n.eng.Certify(tx, n.now(), request) })
	if err != nil {
		return device, err
	}
	m, err := n.membership(ctx)
	if err != nil {
		return device, fmt.Errorf("read what a member knows: %w", err)
	}
	text, err := encodeMembership(m)
	if err != nil {
		return device, err
	}
	frames, err := old.Accept(text)
	if err != nil {
		return device, err
	}
	return device, p.send(frames...)
}

func (n *Node) showAdded(ctx context.Context, device protocol.DeviceID, show func(api.AddStep) error) error {
	own, err := n.ownDevices(ctx)
	if err != nil {
		return err
	}
	for _, d := range own {
		if d.ID == device {
			added := apiDevice(d, nil)
			return show(api.AddStep{Stage: api.AddDone, Device: &added})
		}
	}
	return engine.ErrNotFound
}

// encodeMembership leaves the recovery key out, which is on as few devices as can
// be until the user has its words, and the contacts for which there is no room:
// the new device is told of all of them again, one by one, when it is there.
func encodeMembership(m engine.Membership) ([]byte, error) {
	w := &wire.Membership{
		Name: m.Name, Display: m.Display, HomePeer: m.Home.Peer, HomeAddrs: m.Home.Addrs,
		Chain: m.Chain, AccountKey: m.AIK.Bytes(),
	}
	left := pairing.MaxAnswer - proto.Size(w)
	for _, incoming := range []bool{false, true} { // strangers' requests only if there is room
		for _, c := range m.Contacts {
			size := proto.Size(c) + 8 // and its tag and length
			if (c.GetRelation() == wire.Relation_INCOMING) != incoming || size > left {
				continue
			}
			left -= size
			w.Contacts = append(w.Contacts, c)
		}
	}
	return proto.Marshal(w)
}
