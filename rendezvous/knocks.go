package rendezvous

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
)

const (
	knockLife    = time.Minute // from the first frame on
	maxKnocks    = 1024        // at a time; more are told to come back
	maxSiteNow   = 16          // of them from one address
	maxDeviceNow = 16          // of them at one device; another one is asked then
)

// knocks are the guests who talk to members, or wait for one. They are held in memory
// only.
type knocks struct {
	secret [32]byte // what places are named with

	mu     sync.Mutex // guards what follows
	ended  bool
	all    map[*knock]struct{}
	site   map[netip.Prefix]int // how many of all
	device map[peer.ID]int
}

// knock is one guest at one door.
type knock struct {
	site   netip.Prefix
	device peer.ID // empty: none yet
	cancel func()
}

func newKnocks() *knocks {
	k := &knocks{all: map[*knock]struct{}{}, site: map[netip.Prefix]int{}, device: map[peer.ID]int{}}
	rand.Read(k.secret[:]) // crashes the program rather than fail
	return k
}

// begin admits a guest; end must follow. Cancel ends what it does.
func (n *knocks) begin(site netip.Prefix, cancel func()) (*knock, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ended {
		return nil, protocol.Refuse(protocol.Draining, "the rendezvous is shutting down")
	}
	if len(n.all) >= maxKnocks || n.site[site] >= maxSiteNow {
		e := protocol.Refuse(protocol.Unavailable, "too many guests at a time")
		e.RetryAfter = knockLife
		return nil, e
	}
	k := &knock{site: site, cancel: cancel}
	n.all[k] = struct{}{}
	n.site[site]++
	return k, nil
}

// at notes at which device the guest is now. It tells whether the device has time.
func (n *knocks) at(k *knock, device peer.ID) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.device[device] >= maxDeviceNow {
		return false
	}
	n.leaveDeviceLocked(k)
	k.device = device
	n.device[device]++
	return true
}

func (n *knocks) end(k *knock) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.all, k)
	if n.site[k.site]--; n.site[k.site] == 0 {
		delete(n.site, k.site)
	}
	n.leaveDeviceLocked(k)
}

func (n *knocks) leaveDeviceLocked(k *knock) {
	if k.device == "" {
		return
	}
	if n.device[k.device]--; n.device[k.device] == 0 {
		delete(n.device, k.device)
	}
	k.device = ""
}

// endAll cuts off all guests and lets no more begin.
func (n *knocks) endAll() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ended = true
	for k := range n.all {
		k.cancel()
	}
}

// place names to members where a guest is, so that they count wrong passwords by it:
// the same for one address, for this room, until the rendezvous begins anew. It says
// nothing else about the address.
func (n *knocks) place(at knockPlace) []byte {
	mac := hmac.New(sha256.New, n.secret[:])
	site, err := at.site.MarshalBinary()
	if err != nil {
		panic(err) // a prefix always has bytes
	}
	mac.Write(at.room[:])
	mac.Write(site)
	return mac.Sum(nil)[:16]
}
