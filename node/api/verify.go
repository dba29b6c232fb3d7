package api

import (
	"context"
	"iter"
	"net/url"
	"time"
)

// Safety is what two people compare to know that nobody is between them.
type Safety struct {
	With       string `json:"with"`
	Number     string `json:"number"` // 12 groups of 5 digits
	Code       string `json:"code"`   // the same for the other's Scan, as text or QR code
	Verified   bool   `json:"verified"`
	KeyChanged bool   `json:"key_changed"` // since they were verified: see Contact

	// What speaks for their key before anybody compares.
	Since     time.Time `json:"since"`           // the same key since then, as far as this device knows
	Entry     *uint64   `json:"entry,omitempty"` // the newest one of their account in the public log; nil: not read there yet
	Confirmed []string  `json:"confirmed"`       // contacts who were shown the same log as this device in the last 24 hours
}

// The stages of comparing emoji, in order. The last three are the end.
const (
	CompareOffered  = "offered"  // they began: Compare answers
	CompareWaiting  = "waiting"  // for the other
	ComparePictures = "pictures" // Pictures are to be compared, then SayCompared
	CompareMatched  = "matched"  // both said that they see the same: verified
	CompareDiffers  = "differs"  // one of the two said that they do not
	CompareEnded    = "ended"    // without a result; Text says why
)

// Comparison is how far comparing emoji with a contact is.
type Comparison struct {
	With     string    `json:"with"`
	Stage    string    `json:"stage"`
	Pictures []Picture `json:"pictures,omitempty"`
	Said     bool      `json:"said,omitempty"` // our user said that they match; theirs is waited for
	Until    time.Time `json:"until"`
	Text     string    `json:"text,omitempty"`
}

// Ended tells that nothing more comes.
func (c Comparison) Ended() bool {
	return c.Stage == CompareMatched || c.Stage == CompareDiffers || c.Stage == CompareEnded
}

// Picture is one emoji, and its names for people on the telephone.
type Picture struct {
	Emoji  string `json:"emoji"`
	Name   string `json:"name"`
	NameZH string `json:"name_zh"`
}

// What there is to do about a comparison.
const (
	CompareStart  = "start" // begin, or answer
	CompareMatch  = "match"
	CompareDiffer = "differ"
	CompareStop   = "stop"
)

// Requests about verifying.
type (
	VerifyRequest struct {
		Verified bool `json:"verified"`
	}
	ScanRequest struct {
		Code string `json:"code"`
	}
	CompareRequest struct {
		Do string `json:"do"`
	}
)

// Safety returns the safety number with a contact.
func (c *Client) Safety(ctx context.Context, name string) (s Safety, err error) {
	return s, c.call(ctx, "GET", contactPath(name, "safety"), nil, &s)
}

// SetVerified says what the user found by comparing the safety number.
func (c *Client) SetVerified(ctx context.Context, name string, verified bool) error {
	return c.call(ctx, "POST", contactPath(name, "verify"), VerifyRequest{verified}, nil)
}

// Scan verifies a contact by the code on their screen; ErrMismatch if it does not
// fit what this device knows.
func (c *Client) Scan(ctx context.Context, name, code string) (s Safety, err error) {
	return s, c.call(ctx, "POST", contactPath(name, "scan"), ScanRequest{code}, &s)
}

// AcceptChange goes on writing to a contact whose account was recovered, who no
// longer counts as verified.
func (c *Client) AcceptChange(ctx context.Context, name string) (Contact, error) {
	return c.contact(ctx, name, "accept_change")
}

// Compare does one of the things there are to do about comparing emoji with a
// contact, and returns how far it is.
func (c *Client) Compare(ctx context.Context, name, do string) (k Comparison, err error) {
	return k, c.call(ctx, "POST", contactPath(name, "compare"), CompareRequest{do}, &k)
}

// Comparison yields how far comparing emoji with a contact is, now and with each
// change, until it has ended.
func (c *Client) Comparison(ctx context.Context, name string) iter.Seq2[Comparison, error] {
	return stream[Comparison](ctx, c, contactPath(name, "compare"))
}

func contactPath(name, what string) string {
	return "/v1/contacts/" + url.PathEscape(name) + "/" + what
}
