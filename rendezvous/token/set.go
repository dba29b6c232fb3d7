package token

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
)

const (
	MaxSet  = 16 << 10 // bytes of a key set
	MaxKeys = 16       // keys in it
)

// ErrBadSet is returned for a document that is no key set of the issuer.
var ErrBadSet = errors.New("not a key set of this issuer")

// Set is the public keys of one issuer at one moment. It never changes.
type Set struct {
	Issuer string
	Number uint64 // of the change that made it; a higher one is newer

	keys map[string]ed25519.PublicKey // by KeyID
	doc  []byte
	hash [sha256.Size]byte // of doc
}

// document is a set as JSON Web Key Set (RFC 7517, RFC 8037), with two members
// of our own that other software ignores.
type document struct {
	Issuer string `json:"issuer"`
	Number uint64 `json:"number"`
	Keys   []jwk  `json:"keys"`
}

type jwk struct {
	Type      string `json:"kty"`
	Curve     string `json:"crv"`
	X         string `json:"x"`
	ID        string `json:"kid"`
	Use       string `json:"use"`
	Algorithm string `json:"alg"`
}

// NewSet makes the set of these keys; at most MaxKeys.
func NewSet(issuer string, number uint64, keys []ed25519.PublicKey) (*Set, error) {
	if len(keys) > MaxKeys {
		return nil, fmt.Errorf("make key set: %d keys, at most %d", len(keys), MaxKeys)
	}
	s := &Set{Issuer: issuer, Number: number, keys: map[string]ed25519.PublicKey{}}
	for _, k := range keys {
		s.keys[KeyID(k)] = k
	}
	d := document{Issuer: issuer, Number: number, Keys: []jwk{}}
	for _, id := range s.IDs() {
		d.Keys = append(d.Keys, jwk{"OKP", "Ed25519", text64.EncodeToString(s.keys[id]), id, "sig", "EdDSA"})
	}
	doc, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode key set: %w", err)
	}
	s.doc, s.hash = doc, sha256.Sum256(doc)
	return s, nil
}

// ParseSet reads the key set of issuer. Keys of other kinds are passed over;
// everything else that is wrong is ErrBadSet.
func ParseSet(doc []byte, issuer string) (*Set, error) {
	if len(doc) > MaxSet {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrBadSet, len(doc), MaxSet)
	}
	var d document
	if err := json.Unmarshal(doc, &d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSet, err)
	}
	if d.Issuer != issuer || len(d.Keys) > MaxKeys {
		return nil, fmt.Errorf("%w: %d keys of %q", ErrBadSet, len(d.Keys), d.Issuer)
	}
	s := &Set{Issuer: issuer, Number: d.Number, keys: map[string]ed25519.PublicKey{}, doc: slices.Clone(doc), hash: sha256.Sum256(doc)}
	for _, k := range d.Keys {
		if k.Type != "OKP" || k.Curve != "Ed25519" || k.Algorithm != "EdDSA" || k.Use != "sig" {
			continue
		}
		x, err := text64.DecodeString(k.X)
		if err != nil || len(x) != ed25519.PublicKeySize || KeyID(x) != k.ID {
			return nil, fmt.Errorf("%w: the id of a key is not its thumbprint", ErrBadSet)
		}
		if _, twice := s.keys[k.ID]; twice {
			return nil, fmt.Errorf("%w: the same key twice", ErrBadSet)
		}
		s.keys[k.ID] = x
	}
	return s, nil
}

// JSON is the document; not to be changed.
func (s *Set) JSON() []byte { return s.doc }

// Hash is the SHA-256 of the document.
func (s *Set) Hash() [sha256.Size]byte { return s.hash }

// ETag is Hash as HTTP entity tag (RFC 9110), with its quotes.
func (s *Set) ETag() string { return `"` + text64.EncodeToString(s.hash[:]) + `"` }

// IDs lists the ids of the keys, sorted.
func (s *Set) IDs() []string { return slices.Sorted(maps.Keys(s.keys)) }

// Has tells whether the key is in the set.
func (s *Set) Has(id string) bool { _, ok := s.keys[id]; return ok }

// without returns a set that lacks the keys which keep does not name.
func (s *Set) without(keep []string) *Set {
	less := *s
	less.keys = maps.Clone(s.keys)
	maps.DeleteFunc(less.keys, func(id string, _ ed25519.PublicKey) bool { return !slices.Contains(keep, id) })
	return &less
}
