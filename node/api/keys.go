package api

import (
	"context"
	"net/url"
	"strconv"
	"time"

	"github.com/parley-chat/parley/protocol/ledger"
)

// Keys is the state of a device's keys.
type Keys struct {
	Published    int        `json:"published"` // one-time prekeys at the rendezvous, as it last said
	Cap          int        `json:"cap"`
	Kept         int        `json:"kept"` // one-time prekeys whose private halves are here
	Signed       string     `json:"signed,omitempty"`
	SignedSince  *time.Time `json:"signed_since,omitempty"`
	SignedUntil  *time.Time `json:"signed_until,omitempty"`
	SignedLive   bool       `json:"signed_live"` // the rendezvous has it
	RSA          string     `json:"rsa"`         // first 8 bytes of its hash
	RSASince     *time.Time `json:"rsa_since,omitempty"`
	RSAMaking    bool       `json:"rsa_making"`
	LastUpload   *time.Time `json:"last_upload,omitempty"`
	LastProblem  string     `json:"last_problem,omitempty"`
	LastConflict *time.Time `json:"last_conflict,omitempty"`
	Fallbacks    int        `json:"fallbacks"`      // sessions opened without a one-time prekey since the signed one was made
	Held         string     `json:"held,omitempty"` // why nothing leaves
	CertUntil    time.Time  `json:"cert_until"`
	Ledger       LedgerHead `json:"ledger"`
}

// LedgerHead is the newest entry of a device's ledger.
type LedgerHead struct {
	N    uint64      `json:"n"`
	Hash ledger.Hash `json:"hash"`
}

// What keys can be rotated.
const (
	RotateSigned   = "signed"
	RotateRSA      = "rsa"
	RotateSessions = "sessions"
	RotateAll      = "all"
)

// RotateRequest says what to rotate.
type RotateRequest struct {
	What string `json:"what"`
}

// How a check of the doctor ended.
const (
	CheckOK       = "ok"
	CheckRepaired = "repaired"
	CheckNeedsYou = "needs_you"
)

// Check is one thing the doctor looked at.
type Check struct {
	Name   string `json:"name"`
	Result string `json:"result"`
	Text   string `json:"text,omitempty"`
	Fix    string `json:"fix,omitempty"` // what to type, where the user is needed
}

// Checkup is what the doctor found.
type Checkup struct {
	Checks []Check `json:"checks"`
}

// MaxLedger is how many entries one call of Ledger returns at most.
const MaxLedger = 1000

// LedgerPage is a part of the ledger, oldest first.
type LedgerPage struct {
	Entries []ledger.Entry `json:"entries"`
	Head    LedgerHead     `json:"head"`
}

// Keys returns the state of the device's keys.
func (c *Client) Keys(ctx context.Context) (k Keys, err error) {
	return k, c.call(ctx, "GET", "/v1/keys", nil, &k)
}

// RotateKeys replaces keys before their time.
func (c *Client) RotateKeys(ctx context.Context, what string) (k Keys, err error) {
	return k, c.call(ctx, "POST", "/v1/keys/rotate", RotateRequest{what}, &k)
}

// Doctor checks all keys, and what the rendezvous has of them, now.
func (c *Client) Doctor(ctx context.Context) (d Checkup, err error) {
	return d, c.call(ctx, "POST", "/v1/keys/doctor", nil, &d)
}

// Ledger returns up to limit entries after the number after.
func (c *Client) Ledger(ctx context.Context, after uint64, limit int) (p LedgerPage, err error) {
	q := url.Values{"after": {strconv.FormatUint(after, 10)}, "limit": {strconv.Itoa(limit)}}
	return p, c.call(ctx, "GET", "/v1/keys/ledger?"+q.Encode(), nil, &p)
}
