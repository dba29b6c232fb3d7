package proof

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vectors are proofs from fixed seeds.
type vectors struct {
	Hello struct {
		DSKSeed    keytest.Hex `json:"dsk_seed"`
		Device     keytest.Hex `json:"device"`
		StoreID    keytest.Hex `json:"store_id"`
		Counter    uint64      `json:"counter"`
		Start      keytest.Hex `json:"start"`
		Rendezvous keytest.Hex `json:"rendezvous"`
		Sig        keytest.Hex `json:"sig"`
	} `json:"hello"`
	Fetch struct {
		AIKSeed      keytest.Hex `json:"aik_seed"`
		RKSeed       keytest.Hex `json:"rk_seed"`
		Rendezvous   keytest.Hex `json:"rendezvous"`
		Caller       keytest.Hex `json:"caller"`
		Name         string      `json:"name"`
		SigByName    keytest.Hex `json:"sig_by_name_aik"`
		Account      keytest.Hex `json:"account"`
		SigByAccount keytest.Hex `json:"sig_by_account_rk"`
	} `json:"fetch"`
	Heads struct {
		Accounts []keytest.Hex `json:"accounts"`
		Hashes   []keytest.Hex `json:"hashes"`
		Digest   keytest.Hex   `json:"digest"`
		Empty    keytest.Hex   `json:"digest_of_none"`
	} `json:"heads"`
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestVectors(t *testing.T) {
	var v vectors
	h := &v.Hello
	h.DSKSeed, h.Device, h.StoreID = keytest.Seed("dsk", 32), keytest.Seed("device", 32), keytest.Seed("store", 16)
	h.Counter, h.Start, h.Rendezvous = 258, keytest.Seed("start", 16), keytest.Seed("rendezvous", 38)
	dsk, err := key.ParseDevice(h.DSKSeed)
	check(t, err)
	h.Sig, err = Hello{
		Device: protocol.DeviceID(h.Device), StoreID: [16]byte(h.StoreID), Counter: h.Counter, Start: [16]byte(h.Start), Rendezvous: h.Rendezvous,
	}.Sign(dsk)
	check(t, err)

	f := &v.Fetch
	f.AIKSeed, f.RKSeed = keytest.Seed("aik", 32), keytest.Seed("rk", 32)
	f.Rendezvous, f.Caller = keytest.Seed("rendezvous", 38), keytest.Seed("caller", 38)
	f.Name, f.Account = "alice", keytest.Seed("account", 32)
	aik, err := key.ParseAccount(f.AIKSeed)
	check(t, err)
	rk, err := key.ParseRecovery(f.RKSeed)
	check(t, err)
	f.SigByName, err = SignFetch(aik, Fetch{Rendezvous: f.Rendezvous, Caller: f.Caller, Name: f.Name})
	check(t, err)
	f.SigByAccount, err = SignFetch(rk, Fetch{Rendezvous: f.Rendezvous, Caller: f.Caller, Account: f.Account})
	check(t, err)

	var heads []Head
	for _, name := range []string{"b", "a"} { // not in order
		id, hash := keytest.Seed(name+" account", 32), keytest.Seed(name+" head", 32)
		heads = append(heads, HeadOf(protocol.AccountID(id), [32]byte(hash)))
		v.Heads.Accounts = append(v.Heads.Accounts, id)
		v.Heads.Hashes = append(v.Heads.Hashes, hash[:HeadSize])
	}
	digest, empty := HeadsDigest(heads), HeadsDigest(nil)
	v.Heads.Digest, v.Heads.Empty = digest[:], empty[:]
	keytest.Golden(t, "proof.json", v)
}

// A hello is for one device, one start of one store, and one rendezvous.
func TestHelloFitsOneStart(t *testing.T) {
	dsk := key.NewDevice()
	h := Hello{Device: protocol.DeviceID{1}, StoreID: [16]byte{2}, Counter: 3, Start: [16]byte{4}, Rendezvous: []byte("rendezvous")}
	sig, err := h.Sign(dsk)
	check(t, err)
	check(t, h.Verify(dsk.Public(), sig))
	for name, change := range map[string]func(*Hello){
		"device":     func(h *Hello) { h.Device[31] ^= 1 },
		"store":      func(h *Hello) { h.StoreID[15] ^= 1 },
		"counter":    func(h *Hello) { h.Counter++ },
		"start":      func(h *Hello) { h.Start[15] ^= 1 },
		"rendezvous": func(h *Hello) { h.Rendezvous = []byte("another") },
	} {
		other := h
		change(&other)
		if err := other.Verify(dsk.Public(), sig); !errors.Is(err, key.ErrSignature) {
			t.Errorf("another %s: %v", name, err)
		}
	}
	if err := h.Verify(key.NewDevice().Public(), sig); !errors.Is(err, key.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
}

func owned(t testing.TB) (c *account.Chain, aik key.AccountPrivate, rk key.RecoveryPrivate) {
	t.Helper()
	aik, rk = key.NewAccount(), key.NewRecovery()
	c, err := account.Create(time.Unix(1_800_000_000, 0), aik, rk.Public())
	check(t, err)
	return c, aik, rk
}

// Both keys in force own the account; a key that was replaced does no more.
func TestFetchNeedsAKeyInForce(t *testing.T) {
	c, aik, rk := owned(t)
	f := Fetch{Rendezvous: []byte("rendezvous"), Caller: []byte("caller"), Name: "alice"}
	byAIK, err := SignFetch(aik, f)
	check(t, err)
	byRK, err := SignFetch(rk, f)
	check(t, err)
	check(t, f.Verify(c, aik.Public().Bytes(), byAIK))
	check(t, f.Verify(c, rk.Public().Bytes(), byRK))

	later, err := c.RecoverAIK(time.Unix(1_800_000_001, 0), rk, key.NewAccount())
	check(t, err)
	for name, v := range map[string]struct {
		f           Fetch
		c           *account.Chain
		signer, sig []byte
	}{
		"replaced key":     {f, later, aik.Public().Bytes(), byAIK},
		"other signer":     {f, c, rk.Public().Bytes(), byAIK},
		"no signer":        {f, c, nil, byAIK},
		"no signature":     {f, c, aik.Public().Bytes(), nil},
		"other rendezvous": {Fetch{[]byte("other"), f.Caller, f.Name, nil}, c, aik.Public().Bytes(), byAIK},
		"other caller":     {Fetch{f.Rendezvous, []byte("other"), f.Name, nil}, c, aik.Public().Bytes(), byAIK},
		"other name":       {Fetch{f.Rendezvous, f.Caller, "bob", nil}, c, aik.Public().Bytes(), byAIK},
		"name as account":  {Fetch{f.Rendezvous, f.Caller, "", []byte("alice")}, c, aik.Public().Bytes(), byAIK},
	} {
		if err := v.f.Verify(v.c, v.signer, v.sig); !errors.Is(err, key.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The digest depends on every byte of every head, and not on their order.
func TestHeadsDigest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var heads []Head
		for i := range rapid.IntRange(1, 8).Draw(t, "heads") {
			var hash [32]byte
			copy(hash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
			heads = append(heads, HeadOf(protocol.AccountID{byte(i)}, hash))
		}
		want := HeadsDigest(heads)
		shuffled := rapid.Permutation(heads).Draw(t, "order")
		before := slices.Clone(shuffled)
		if HeadsDigest(shuffled) != want || !slices.Equal(shuffled, before) {
			t.Fatal("the order matters, or was changed")
		}
		i := rapid.IntRange(0, len(heads)-1).Draw(t, "which")
		if HeadsDigest(slices.Delete(slices.Clone(heads), i, i+1)) == want {
			t.Fatal("a head does not count")
		}
		heads[i].Hash[rapid.IntRange(0, HeadSize-1).Draw(t, "byte")] ^= 1
		if HeadsDigest(heads) == want {
			t.Fatal("a byte does not count")
		}
	})
}

// No bytes but the signature itself verify.
func FuzzVerify(f *testing.F) {
	c, aik, _ := owned(f)
	dsk := key.NewDevice()
	h, fetch := Hello{Counter: 1, Rendezvous: []byte("r")}, Fetch{Rendezvous: []byte("r"), Name: "alice"}
	helloSig, err := h.Sign(dsk)
	check(f, err)
	fetchSig, err := SignFetch(aik, fetch)
	check(f, err)
	signer := aik.Public().Bytes()
	f.Add(signer, helloSig)
	f.Add(signer, fetchSig)
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, by, sig []byte) {
		if h.Verify(dsk.Public(), sig) == nil && !bytes.Equal(sig, helloSig) {
			t.Errorf("hello verifies with %x", sig)
		}
		if fetch.Verify(c, by, sig) == nil && (!bytes.Equal(sig, fetchSig) || !bytes.Equal(by, signer)) {
			t.Errorf("fetch verifies with %x of %x", sig, by)
		}
	})
}
