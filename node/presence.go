package node

import (
	"sync"

	"github.com/parley-chat/parley/protocol"
)

// presence is who is online, as the rendezvous last said. It is kept in memory
// only: after a loss of the link nothing is known until the next welcome.
type presence struct {
	mu     sync.Mutex
	known  bool // there is a link; who is not in online is offline
	online map[protocol.AccountID]bool
}

// reset forgets everyone.
func (p *presence) reset(known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known, p.online = known, map[protocol.AccountID]bool{}
}

// set tells whether that was news. The rendezvous speaks of our contacts only,
// so more of them than there can be are ignored.
func (p *presence) set(a protocol.AccountID, online bool) (news bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.online[a] == online || !p.known {
		return false
	}
	if !online {
		delete(p.online, a)
		return true
	}
	if len(p.online) >= protocol.MaxContacts {
		return false
	}
	p.online[a] = true
	return true
}

func (p *presence) of(a protocol.AccountID) (online, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.online[a], p.known
}
