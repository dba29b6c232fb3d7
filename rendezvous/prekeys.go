package rendezvous

import (
	"context"
	"crypto/sha256"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/prekey"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

// clockSlack is how far in the future a prekey may have been created. The
// newest by creation is handed out, so one from next year would stay for ever.
const clockSlack = 24 * time.Hour

// uploadPrekeys publishes prekeys of the calling device. It may be repeated:
// the same bytes are the same prekeys. All records are checked before any is
// stored.
func (s *Server) uploadPrekeys(ctx context.Context, from store.Device, u *wire.UploadPrekeys, resp *wire.Response) error {
	if err := take(s.now(), 1, "uploads", s.rates.uploads.get(from.ID)); err != nil {
		return err
	}
	cert, err := account.ParseCert(from.Cert)
	if err != nil {
		return fmt.Errorf("read certificate: %w", err)
	}
	var signed *store.SignedPrekey
	if len(u.GetSignedRecord()) > 0 {
		if signed, err = s.checkSigned(cert, u.GetSignedRecord(), u.GetRsa()); err != nil {
			return err
		}
	}
	oneTime, err := s.checkOneTime(cert, u.GetOneTimeRecords())
	if err != nil {
		return err
	}
	if u.GetReset_() {
		if err := take(s.now(), 1, "resets today", s.rates.resets.get(from.ID)); err != nil {
			return err
		}
	}
	var conflicts []protocol.PrekeyID
	if signed != nil {
		err := s.store.PutSigned(ctx, from.ID, *signed, s.now())
		if protocol.CodeOf(err) == protocol.KeyConflict {
			conflicts = append(conflicts, signed.ID) // the one-time prekeys are stored all the same
		} else if err != nil {
			return fmt.Errorf("store signed prekey: %w", err)
		}
	}
	if u.GetReset_() {
		if err := s.store.DropOneTime(ctx, from.ID); err != nil {
			return fmt.Errorf("reset prekeys: %w", err)
		}
	}
	result, err := s.store.PutOneTime(ctx, from.ID, oneTime, s.cfg.Limits.PrekeyCap, s.now())
	if err != nil {
		return fmt.Errorf("store one-time prekeys: %w", err)
	}
	if n := len(result.Full); n > 0 && n == len(oneTime) && signed == nil {
		return protocol.Refuse(protocol.StockFull, "%d one-time prekeys are published already", result.Count.OneTime)
	}
	counts, err := s.prekeyCounts(ctx, from.ID)
	if err != nil {
		return err
	}
	for _, id := range append(conflicts, result.Conflicts...) {
		counts.Conflicts = append(counts.Conflicts, id[:])
	}
	resp.Result = &wire.Response_PrekeyCounts{PrekeyCounts: counts}
	return nil
}

// checkSigned verifies a signed prekey and the RSA key it names: a 4096-bit
// modulus with the hash in the record, nothing weaker.
func (s *Server) checkSigned(cert account.Cert, record, rsa []byte) (*store.SignedPrekey, error) {
	r, err := s.checkRecord(cert, record, prekey.Signed)
	if err != nil {
		return nil, err
	}
	if r.CheckTime(s.now()) != nil {
		return nil, protocol.Refuse(protocol.BadRequest, "the signed prekey has expired: is the device's clock right?")
	}
	pub, err := key.ParseRSAPublic(rsa)
	if err != nil {
		return nil, protocol.Refuse(protocol.BadRequest, "not an RSA key of 4096 bits")
	}
	if pub.Hash() != r.RSAHash {
		return nil, protocol.Refuse(protocol.BadSignature, "the signed prekey names another RSA key")
	}
	return &store.SignedPrekey{
		ID: r.ID(), Key: bodyHash(record), Record: record, RSA: rsa, Created: r.Created, Expires: r.Expires,
	}, nil
}

func (s *Server) checkOneTime(cert account.Cert, records [][]byte) ([]store.OneTimePrekey, error) {
	keys := make([]store.OneTimePrekey, 0, len(records))
	for _, record := range records {
		r, err := s.checkRecord(cert, record, prekey.OneTime)
		if err != nil {
			return nil, err
		}
		keys = append(keys, store.OneTimePrekey{ID: r.ID(), Key: bodyHash(record), Record: record, Expires: r.Expires})
	}
	return keys, nil
}

// checkRecord verifies that the device made the record.
func (s *Server) checkRecord(cert account.Cert, record []byte, kind prekey.Kind) (prekey.Record, error) {
	r, err := prekey.Parse(record)
	if err != nil || r.Kind != kind {
		return prekey.Record{}, protocol.Refuse(protocol.BadRequest, "malformed prekey")
	}
	if err := r.Verify(cert.DeviceID(), cert.Signing); err != nil {
		return prekey.Record{}, protocol.Refuse(protocol.BadSignature, "prekey %v is not of this device", r.ID())
	}
	if r.Created.After(s.now().Add(clockSlack)) {
		return prekey.Record{}, protocol.Refuse(protocol.BadRequest, "a prekey from the future: is the device's clock right?")
	}
	return r, nil
}

// bodyHash is what makes two records the same prekey: all but the signature.
func bodyHash(record []byte) [32]byte {
	return sha256.Sum256(record[:len(record)-key.SignatureSize])
}

// prekeyCounts tells a device's published stock.
func (s *Server) prekeyCounts(ctx context.Context, device protocol.DeviceID) (*wire.PrekeyCounts, error) {
	n, err := s.store.CountPrekeys(ctx, device, s.now())
	if err != nil {
		return nil, fmt.Errorf("count prekeys: %w", err)
	}
	counts := &wire.PrekeyCounts{OneTime: uint32(n.OneTime), Cap: uint32(s.cfg.Limits.PrekeyCap), Digest: n.Digest[:]}
	signed, err := s.store.SignedPrekey(ctx, device, s.now())
	switch {
	case err == nil:
		counts.SignedId = signed.ID[:]
	case protocol.CodeOf(err) != protocol.Unavailable: // which is: none published
		return nil, fmt.Errorf("read signed prekey: %w", err)
	}
	return counts, nil
}

// bundles gives prekeys for an account's devices. A device without a signed
// prekey has no bundle: nobody can write to it yet; nor has one that was revoked
// meanwhile.
func (s *Server) bundles(ctx context.Context, from store.Device, devices []store.Device, nonce [16]byte) ([]*wire.Bundle, error) {
	var bundles []*wire.Bundle
	for _, d := range devices {
		if d.ID == from.ID {
			continue
		}
		claimed, err := s.claim(ctx, from, d.ID, nonce)
		if code := protocol.CodeOf(err); code == protocol.Unavailable || code == protocol.Revoked {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("claim prekeys: %w", err)
		}
		bundles = append(bundles, &wire.Bundle{
			Device: d.ID[:], SignedRecord: claimed.Signed.Record, Rsa: claimed.Signed.RSA, OneTimeRecord: claimed.OneTime,
		})
	}
	return bundles, nil
}

// claim takes one one-time prekey out of the device's stock while the limits
// allow; beyond them it gives the signed prekey alone, which is no error.
func (s *Server) claim(ctx context.Context, from store.Device, target protocol.DeviceID, nonce [16]byte) (store.Claimed, error) {
	now := s.now()
	mine := s.rates.claims.get(claimPair{from.Account, target})
	if !mine.allow(now, nonce, s.rates.claimsTarget.get(target)) {
		signed, err := s.store.SignedPrekey(ctx, target, now)
		return store.Claimed{Signed: signed}, err
	}
	claimed, err := s.store.Claim(ctx, store.ClaimParams{Claimer: from.Account, Device: target, Nonce: nonce, Now: now})
	if err != nil {
		return store.Claimed{}, err
	}
	if claimed.Left < protocol.PrekeyRefill && !claimed.Retry {
		s.pushCounts(ctx, target)
	}
	return claimed, nil
}

// pushCounts tells an online device that its stock runs low.
func (s *Server) pushCounts(ctx context.Context, device protocol.DeviceID) {
	l := s.presence.link(device)
	if l == nil {
		return // the welcome will tell
	}
	counts, err := s.prekeyCounts(ctx, device)
	if err != nil {
		return // so will the next claim
	}
	l.tellPrekeys(counts)
}

// claimPair is who claims whose prekeys.
type claimPair struct {
	claimer protocol.AccountID
	target  protocol.DeviceID
}

// claimBucket allows 3 claims an hour. The nonce of the claim let through last
// is free: a retry gets the same prekey again.
type claimBucket struct {
	mu     sync.Mutex
	bucket *rate.Limiter
	used   bool // last is a nonce
	last   [16]byte
}

func newClaimBucket() *claimBucket {
	return &claimBucket{bucket: rate.NewLimiter(rate.Every(20*time.Minute), 3)}
}

func (c *claimBucket) allow(now time.Time, nonce [16]byte, target *rate.Limiter) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.used && nonce == c.last {
		return true
	}
	if take(now, 1, "claims", c.bucket, target) != nil {
		return false
	}
	c.used, c.last = true, nonce
	return true
}
