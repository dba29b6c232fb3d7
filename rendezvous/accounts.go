package rendezvous

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// validName is ASCII only, so that no name looks like another one.
var validName = regexp.MustCompile(`^[a-z0-9_]{3,32}$`)

// reservedNames would pass for the service or its people.
var reservedNames = strings.Fields(`
	abuse admin administrator all anonymous bot deleted everyone guest help here
	host hostmaster info me mod moderator nobody null official operator owner
	parley postmaster relay rendezvous root security server service staff
	support system undefined unknown webmaster you`)

func checkName(name string) error {
	if !validName.MatchString(name) {
		return protocol.Refuse(protocol.NameInvalid, "a name has 3 to 32 characters of a-z, 0-9 and _")
	}
	for _, r := range reservedNames {
		if strings.Trim(name, "_") == r {
			return protocol.Refuse(protocol.NameInvalid, "this name is reserved")
		}
	}
	return nil
}

// register binds a name to a new account. It may be repeated.
func (s *Server) register(ctx context.Context, peerID []byte, r *wire.Register, resp *wire.Response) error {
	if err := checkName(r.GetName()); err != nil {
		return err
	}
	chain, err := account.ParseChain(r.GetChain())
	if err != nil {
		return protocol.Refuse(protocol.BadRequest, "malformed statement chain")
	}
	devices := chain.Devices(s.now())
	if len(devices) != 1 || !bytes.Equal(devices[0].PeerID, peerID) {
		return protocol.Refuse(protocol.BadRequest, "the chain must certify one device: the one that registers")
	}
	cert := devices[0]
	if cert.MinProto > protocol.Version || cert.MaxProto < protocol.Version {
		return protocol.Refuse(protocol.UnsupportedVersion, "this rendezvous speaks version %d", protocol.Version)
	}
	p := store.RegisterParams{
		Name:      r.GetName(),
		Label:     s.book.label(r.GetName()),
		Account:   chain.Account(),
		Chain:     r.GetChain(),
		ChainSeq:  chain.Seq(),
		ChainHead: chain.Head(),
		Devices:   []store.NewDevice{{ID: cert.DeviceID(), PeerID: peerID, Cert: cert.Marshal()}},
		Now:       s.now(),
	}
	if !s.cfg.Open {
		hash := store.InviteHash(r.GetInvite()) // of no token: no such invite
		p.Invite = &hash
	}
	if err := s.store.Register(ctx, p); err != nil {
		return fmt.Errorf("register: %w", err)
	}
	// To the store a known account is a repetition, whatever its chain; but
	// another device of it has not become a member by this.
	if d, err := s.store.DeviceByPeer(ctx, peerID); protocol.CodeOf(err) == protocol.UnknownDevice || err == nil && d.Account != p.Account {
		return protocol.Refuse(protocol.BadRequest, "the account is registered, with another device")
	} else if err != nil {
		return fmt.Errorf("find device of peer: %w", err)
	}
	resp.Result = &wire.Response_Registered{Registered: &wire.Registered{}}
	return nil
}

// lookup tells who a name or an account is, and gives prekeys for its devices
// when a nonce is set.
func (s *Server) lookup(ctx context.Context, from store.Device, l *wire.Lookup, resp *wire.Response) error {
	a, err := s.findAccount(ctx, l)
	if err != nil {
		return err
	}
	if a.IsGuest() && a.ID != from.Account {
		if err := s.checkCommonRoom(ctx, from.Account, a.ID); err != nil {
			return err
		}
	}
	var devices []store.Device // whose prekeys are wanted
	switch len(l.GetNonce()) {
	case 0:
	case 16:
		if devices, err = s.currentDevices(ctx, a.ID); err != nil {
			return err
		}
		// A chain that is read after its devices certifies them all, but for those
		// that were revoked in between, and of these nothing can be claimed.
		if a, err = s.store.Account(ctx, a.ID); err != nil {
			return fmt.Errorf("read account: %w", err)
		}
	default:
		return protocol.Refuse(protocol.BadRequest, "a nonce has 16 bytes")
	}
	found, err := s.found(ctx, from, a, l.GetLogSize())
	if err != nil {
		return err
	}
	if len(devices) > 0 {
		if found.Bundles, err = s.bundles(ctx, from, devices, [16]byte(l.GetNonce())); err != nil {
			return err
		}
	}
	resp.Result = &wire.Response_Found{Found: found}
	return nil
}

func (s *Server) findAccount(ctx context.Context, l *wire.Lookup) (store.Account, error) {
	if (l.GetName() == "") == (len(l.GetAccount()) == 0) {
		return store.Account{}, protocol.Refuse(protocol.BadRequest, "a look-up has a name or an account")
	}
	if l.GetName() != "" {
		if !validName.MatchString(l.GetName()) {
			return store.Account{}, protocol.Refuse(protocol.UnknownAccount, "no such name")
		}
		return s.store.AccountByName(ctx, l.GetName())
	}
	id, err := parseID[protocol.AccountID](l.GetAccount())
	if err != nil {
		return store.Account{}, err
	}
	return s.store.Account(ctx, id)
}

// currentDevices returns the devices of an account that may be written to now.
func (s *Server) currentDevices(ctx context.Context, id protocol.AccountID) ([]store.Device, error) {
	all, err := s.store.Devices(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("read devices: %w", err)
	}
	var current []store.Device
	for _, d := range all {
		if d.Revoked {
			continue
		}
		cert, err := account.ParseCert(d.Cert)
		if err != nil {
			return nil, fmt.Errorf("read certificate of device %v: %w", d.ID, err)
		}
		if s.now().Before(cert.NotAfter) {
			current = append(current, d)
		}
	}
	return current, nil
}

// setContacts replaces the caller's allow list.
func (s *Server) setContacts(ctx context.Context, from store.Device, c *wire.SetContacts, resp *wire.Response) error {
	if len(c.GetAccounts()) > protocol.MaxContacts {
		return protocol.Refuse(protocol.TooLarge, "more than %d contacts", protocol.MaxContacts)
	}
	list, err := parseIDs[protocol.AccountID](c.GetAccounts())
	if err != nil {
		return err
	}
	digest := store.ContactsDigest(list)
	resp.Result = &wire.Response_ContactsSet{ContactsSet: &wire.ContactsSet{Digest: digest[:]}}
	old, err := s.store.ContactsDigest(ctx, from.Account)
	if err != nil {
		return fmt.Errorf("read contacts: %w", err)
	}
	if old == digest {
		return nil // a retry
	}
	if err := take(s.now(), 1, "changes of contacts", s.rates.contacts.get(from.ID)); err != nil {
		return err
	}
	if err := s.store.SetContacts(ctx, from.Account, list); err != nil {
		return fmt.Errorf("set contacts: %w", err)
	}
	// The list is durable: presence that cannot be refreshed now is right
	// again when the link comes back.
	err = s.presence.refresh(from.Account, func() ([]protocol.AccountID, error) { return s.store.Watchers(ctx, from.Account) })
	if err != nil {
		return fmt.Errorf("refresh presence: %w", err)
	}
	return nil
}

// where tells a contact's addresses, if each has accepted the other. Strangers
// and unknown accounts get the same answer.
func (s *Server) where(ctx context.Context, from store.Device, w *wire.Where, resp *wire.Response) error {
	id, err := parseID[protocol.AccountID](w.GetAccount())
	if err != nil {
		return err
	}
	ok, err := s.mutual(ctx, from.Account, id)
	if err != nil {
		return err
	}
	if !ok {
		return protocol.Refuse(protocol.NotContact, "not a contact of each other")
	}
	devices, err := s.currentDevices(ctx, id)
	if err != nil {
		return err
	}
	places := &wire.Places{}
	for _, d := range devices {
		place := &wire.Place{Device: d.ID[:]}
		if l := s.presence.link(d.ID); l != nil {
			addrs, relays := l.places()
			place.Online, place.Addrs, place.Relays = true, addrs, s.relays.only(relays)
		}
		places.Places = append(places.Places, place)
	}
	resp.Result = &wire.Response_Places{Places: places}
	return nil
}

func (s *Server) mutual(ctx context.Context, a, b protocol.AccountID) (bool, error) {
	if a == b {
		return true, nil // own devices
	}
	for _, pair := range [][2]protocol.AccountID{{a, b}, {b, a}} {
		ok, err := s.store.Allows(ctx, pair[0], pair[1])
		if err != nil {
			return false, fmt.Errorf("read contacts: %w", err)
		}
		if !ok {
			return false, nil
		}
	}
	return true, nil
}

// accepts tells whether mail and circuits of the account from reach to.
func (s *Server) accepts(ctx context.Context, to, from protocol.AccountID) (bool, error) {
	if to == from {
		return true, nil // own devices
	}
	ok, err := s.store.Allows(ctx, to, from)
	if err != nil {
		return false, fmt.Errorf("read contacts: %w", err)
	}
	return ok, nil
}

// gate answers the relay. What cannot be found out is refused.
type gate struct{ s *Server }

const gateTimeout = 2 * time.Second

// Conn is where the hello was welcomed: the host key alone may be a thief's.
func (g gate) Conn(p peer.ID) network.Conn { return g.s.hellos.conn(p) }

func (g gate) Member(p peer.ID) bool {
	ctx, cancel := context.WithTimeout(g.s.ctx, gateTimeout)
	defer cancel()
	_, ok := g.member(ctx, p)
	return ok
}

func (g gate) MayConnect(src, dst peer.ID) bool {
	ctx, cancel := context.WithTimeout(g.s.ctx, gateTimeout)
	defer cancel()
	from, ok := g.member(ctx, src)
	if !ok {
		return false
	}
	to, ok := g.member(ctx, dst)
	if !ok {
		return false
	}
	ok, err := g.s.accepts(ctx, to.Account, from.Account)
	return ok && err == nil
}

func (g gate) member(ctx context.Context, p peer.ID) (store.Device, bool) {
	d, err := g.s.store.DeviceByPeer(ctx, []byte(p))
	return d, err == nil && !d.Revoked
}

// parseID reads a name from a request.
func parseID[T protocol.ID](b []byte) (T, error) {
	id, err := protocol.FromBytes[T](b)
	if err != nil {
		return id, protocol.Refuse(protocol.BadRequest, "%v", err)
	}
	return id, nil
}

func parseIDs[T protocol.ID](list [][]byte) ([]T, error) {
	ids := make([]T, len(list))
	for i, b := range list {
		id, err := parseID[T](b)
		if err != nil {
			return nil, err
		}
		ids[i] = id
	}
	return ids, nil
}
