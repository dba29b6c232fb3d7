package rendezvous

import (
	"maps"
	"slices"
	"sync"

	"github.com/parley-chat/parley/protocol"
)

// presence knows which devices have a link now, and which online accounts may
// see each other. It is held in memory only: after a restart the links come
// back by themselves.
//
// Two accounts see each other when each has the other on its list. Where both
// are online, that is an edge here, kept on both sides, and whatever makes or
// breaks an edge is told to both.
type presence struct {
	// refreshing is held from reading an account's contacts in the store until
	// they are applied, so that what is applied last was read last.
	refreshing sync.Mutex

	mu       sync.Mutex // guards what follows
	devices  map[protocol.DeviceID]*link
	accounts map[protocol.AccountID]*online
}

// online is an account with at least one link.
type online struct {
	links map[*link]struct{}
	edges map[protocol.AccountID]struct{}
}

func newPresence() *presence {
	return &presence{devices: map[protocol.DeviceID]*link{}, accounts: map[protocol.AccountID]*online{}}
}

// join puts a link online. It returns the older link of the same device that
// it replaces, if any, and which contacts are online. watchers reads the
// account's mutual contacts.
func (p *presence) join(l *link, watchers func() ([]protocol.AccountID, error)) (old *link, seen []protocol.AccountID, err error) {
	p.refreshing.Lock()
	defer p.refreshing.Unlock()
	mutual, err := watchers()
	if err != nil {
		return nil, nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.accounts[l.account]
	if a == nil {
		a = &online{links: map[*link]struct{}{}, edges: map[protocol.AccountID]struct{}{}}
		p.accounts[l.account] = a
	}
	p.applyLocked(l.account, mutual)
	old = p.devices[l.device]
	delete(a.links, old)
	a.links[l] = struct{}{} // after applyLocked: the welcome tells this link
	p.devices[l.device] = l
	return old, slices.Collect(maps.Keys(a.edges)), nil
}

// leave takes a link offline. It tells whether the link was still the one of
// its device.
func (p *presence) leave(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.devices[l.device] != l {
		return false
	}
	delete(p.devices, l.device)
	a := p.accounts[l.account]
	delete(a.links, l)
	if len(a.links) == 0 {
		p.applyLocked(l.account, nil)
		delete(p.accounts, l.account)
	}
	return true
}

// refresh applies a changed contact list.
func (p *presence) refresh(account protocol.AccountID, watchers func() ([]protocol.AccountID, error)) error {
	p.refreshing.Lock()
	defer p.refreshing.Unlock()
	if !p.online(account) {
		return nil // read when it comes online
	}
	mutual, err := watchers()
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.applyLocked(account, mutual)
	return nil
}

// applyLocked makes the account's edges those to the mutual contacts that are
// online, and tells both sides of each change.
func (p *presence) applyLocked(account protocol.AccountID, mutual []protocol.AccountID) {
	a := p.accounts[account]
	if a == nil {
		return
	}
	wanted := make(map[protocol.AccountID]struct{}, len(mutual))
	for _, id := range mutual {
		if p.accounts[id] != nil && id != account {
			wanted[id] = struct{}{}
		}
	}
	for id := range a.edges {
		if _, ok := wanted[id]; !ok {
			delete(a.edges, id)
			delete(p.accounts[id].edges, account)
			p.tellBothLocked(account, id, false)
		}
	}
	for id := range wanted {
		if _, ok := a.edges[id]; !ok {
			a.edges[id] = struct{}{}
			p.accounts[id].edges[account] = struct{}{}
			p.tellBothLocked(account, id, true)
		}
	}
}

func (p *presence) tellBothLocked(a, b protocol.AccountID, online bool) {
	for l := range p.accounts[a].links {
		l.tellPresence(b, online)
	}
	for l := range p.accounts[b].links {
		l.tellPresence(a, online)
	}
}

// tellChanged tells the devices of the accounts that are online that account
// has another chain now.
func (p *presence) tellChanged(account protocol.AccountID, to []protocol.AccountID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range to {
		if a := p.accounts[id]; a != nil {
			for l := range a.links {
				l.tellChanged(account)
			}
		}
	}
}

// tellRoom tells the devices of the accounts that are online how far a room is.
func (p *presence) tellRoom(news roomNews, to []protocol.AccountID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range to {
		if a := p.accounts[id]; a != nil {
			for l := range a.links {
				l.tellRoom(news)
			}
		}
	}
}

// say tells the devices of the accounts that are online, but for one, a message of
// gossipsub.
func (p *presence) say(frame []byte, to []protocol.AccountID, but protocol.DeviceID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range to {
		if a := p.accounts[id]; a != nil {
			for l := range a.links {
				if l.device != but {
					l.topics.say(frame)
				}
			}
		}
	}
}

// announceTopics tells the devices of the accounts that are online, which came into a
// room or went, of which rooms we hear the topics.
func (p *presence) announceTopics(accounts []protocol.AccountID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range accounts {
		if a := p.accounts[id]; a != nil {
			for l := range a.links {
				l.topics.announce()
			}
		}
	}
}

func (p *presence) online(account protocol.AccountID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accounts[account] != nil
}

// link returns the link of a device, nil when it is offline.
func (p *presence) link(device protocol.DeviceID) *link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.devices[device]
}

// links returns all links there are.
func (p *presence) links() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Values(p.devices))
}

func (p *presence) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.devices)
}
