package rendezvous

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/proof"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/rendezvous/p2p"
	"github.com/parley-chat/parley/store"
)

// updateChain takes a longer chain of an account, and acts on it: new devices
// are members, revoked ones are cut off, and who has the account on the list is
// told. It may be repeated.
//
// A machine that is no member yet needs no hello. Neither does one that repeats
// what made it a member, or that has the recovery key.
func (s *Server) updateChain(ctx context.Context, c network.Conn, from store.Device, u *wire.UpdateChain, resp *wire.Response) error {
	chain, err := account.ParseChain(u.GetChain())
	if err != nil {
		return protocol.Refuse(protocol.BadRequest, "malformed statement chain")
	}
	if err := s.mayUpdate(chain, []byte(c.RemotePeer()), from); err != nil {
		return err
	}
	old, err := s.store.Account(ctx, chain.Account())
	if err != nil {
		return fmt.Errorf("find account: %w", err)
	}
	if old.IsGuest() {
		return notForGuests()
	}
	resp.Result = &wire.Response_ChainUpdated{ChainUpdated: &wire.ChainUpdated{}}
	if bytes.Equal(old.Chain, u.GetChain()) {
		return nil // a retry
	}
	if !bytes.HasPrefix(u.GetChain(), old.Chain) { // SetChain says the same, after what costs more
		return protocol.Refuse(protocol.ChainConflict, "the stored chain, at %d, is no part of this one", old.ChainSeq)
	}
	if isMember := from.ID != (protocol.DeviceID{}); isMember && !chain.Recovered(old.ChainSeq) && !s.hellos.isWelcome(c) {
		return helloFirst()
	}
	statements := int(chain.Seq() - old.ChainSeq)
	if err := take(s.now(), statements, "changes of this account", s.rates.chains.get(bucketOf(chain, old.ChainSeq, from))); err != nil {
		return err
	}
	return s.setChain(ctx, chain)
}

// bucketOf tells what the statements of a chain after number seq, sent by the
// device from, are counted by.
func bucketOf(chain *account.Chain, seq uint64, from store.Device) chainBucket {
	switch {
	case chain.Recovered(seq):
		return chainBucket{account: chain.Account(), kind: chainRecovered}
	case chain.Secured(seq):
		return chainBucket{account: chain.Account(), device: from.ID, kind: chainSecured}
	}
	return chainBucket{account: chain.Account(), device: from.ID, kind: chainGrows}
}

// mayUpdate tells whether the caller has a say in this account: as a device
// that the chain certifies now, or as one that is registered for it, which is
// how a last device closes its account.
func (s *Server) mayUpdate(chain *account.Chain, caller []byte, from store.Device) error {
	if from.ID != (protocol.DeviceID{}) && from.Account == chain.Account() {
		return nil
	}
	for _, cert := range chain.Devices(s.now()) {
		if !bytes.Equal(cert.PeerID, caller) {
			continue
		}
		if cert.MinProto > protocol.Version || cert.MaxProto < protocol.Version {
			return protocol.Refuse(protocol.UnsupportedVersion, "this rendezvous speaks version %d", protocol.Version)
		}
		return nil
	}
	return protocol.Refuse(protocol.BadRequest, "the chain does not certify the device that sends it")
}

// setChain commits a chain and does what follows from it.
func (s *Server) setChain(ctx context.Context, chain *account.Chain) error {
	id := chain.Account()
	before, err := s.store.Devices(ctx, id)
	if err != nil {
		return fmt.Errorf("read devices: %w", err)
	}
	p := store.ChainParams{
		Account: id, Chain: chain.Bytes(), ChainSeq: chain.Seq(), ChainHead: chain.Head(),
		Revoked: chain.Ended(), Now: s.now(),
		LastRecovery: chain.LastRecovery(), LastKey: chain.LastKey(), Closed: chain.Closed(),
	}
	for _, cert := range chain.Standing() {
		p.Devices = append(p.Devices, store.NewDevice{ID: cert.DeviceID(), PeerID: cert.PeerID, Cert: cert.Marshal()})
	}
	if err := s.store.SetChain(ctx, p); err != nil {
		return fmt.Errorf("set chain: %w", err)
	}
	for _, d := range before {
		if !d.Revoked && slices.Contains(p.Revoked, d.ID) {
			s.expel(d)
		}
	}
	// The chain is stored: who is online must hear of it even if the caller's
	// time is up.
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Limits.CallDeadline)
	defer cancel()
	watchers, err := s.store.Watchers(ctx, id)
	if err != nil {
		return fmt.Errorf("find who to tell: %w", err)
	}
	s.presence.tellChanged(id, append(watchers, id))
	return nil
}

// expel ends the link of a device that was just revoked and, once it had time
// to read why, its connections, with all circuits on them. The caller is inside
// a call, so the goroutine ends before the server does.
func (s *Server) expel(d store.Device) {
	if l := s.presence.link(d.ID); l != nil {
		l.bye(revokedRefusal())
	}
	s.inside.Add(1)
	go func() {
		defer s.inside.Done()
		select {
		case <-time.After(linger):
		case <-s.ctx.Done():
		}
		s.host.Network().ClosePeer(peer.ID(d.PeerID))
	}()
}

// fetchChain gives the chain of an account to whoever proves to hold a key of
// it, a machine that is no member included. To everybody else no account
// exists.
func (s *Server) fetchChain(ctx context.Context, c network.Conn, f *wire.FetchChain, resp *wire.Response) error {
	if err := take(s.now(), 1, "fetches of chains", s.rates.fetches.get(p2p.Site(c))); err != nil {
		return err
	}
	if len(f.GetSigner()) != 32 || len(f.GetSig()) != key.SignatureSize {
		return protocol.Refuse(protocol.BadRequest, "a fetch is signed by a key of the account")
	}
	notOwner := protocol.Refuse(protocol.NotOwner, "this is no key of an account here")
	a, err := s.findAccount(ctx, &wire.Lookup{Name: f.GetName(), Account: f.GetAccount()})
	if protocol.CodeOf(err) == protocol.UnknownAccount {
		return notOwner
	}
	if err != nil {
		return err
	}
	chain, err := account.ParseChain(a.Chain)
	if err != nil {
		return fmt.Errorf("read chain: %w", err)
	}
	asked := proof.Fetch{Rendezvous: []byte(s.PeerID()), Caller: []byte(c.RemotePeer()), Name: f.GetName(), Account: f.GetAccount()}
	if asked.Verify(chain, f.GetSigner(), f.GetSig()) != nil {
		return notOwner
	}
	found, err := s.found(ctx, store.Device{}, a, 0)
	if err != nil {
		return err
	}
	resp.Result = &wire.Response_Found{Found: found}
	return nil
}

// headList tells the heads of the chains of the caller's contacts and its own.
func (s *Server) headList(ctx context.Context, from store.Device, resp *wire.Response) error {
	heads, err := s.heads(ctx, from.Account)
	if err != nil {
		return err
	}
	list := &wire.HeadList{}
	for _, h := range heads {
		list.Heads = append(list.Heads, &wire.Head{Account: h.Account[:], Head: h.Hash[:]})
	}
	resp.Result = &wire.Response_HeadList{HeadList: list}
	return nil
}

func (s *Server) heads(ctx context.Context, owner protocol.AccountID) ([]proof.Head, error) {
	stored, err := s.store.Heads(ctx, owner)
	if err != nil {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	heads := make([]proof.Head, len(stored))
	for i, h := range stored {
		heads[i] = proof.Head(h)
	}
	return heads, nil
}
