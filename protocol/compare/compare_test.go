package compare

import (
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vector is one comparison.
type vector struct {
	ID           keytest.Hex   `json:"id"`
	BeganAccount keytest.Hex   `json:"began_account"`
	BeganDevice  keytest.Hex   `json:"began_device"`
	BeganNonce   keytest.Hex   `json:"began_nonce"`
	Commitment   keytest.Hex   `json:"commitment"`
	OtherAccount keytest.Hex   `json:"other_account"`
	OtherDevice  keytest.Hex   `json:"other_device"`
	OtherNonce   keytest.Hex   `json:"other_nonce"`
	Pictures     [Count]string `json:"pictures"`
}

func side(name string) Side {
	return Side{
		Account: protocol.AccountID(keytest.Seed(name+" account", 32)),
		Device:  protocol.DeviceID(keytest.Seed(name+" device", 32)),
		Nonce:   Nonce(keytest.Seed(name+" nonce", 32)),
	}
}

func TestVectors(t *testing.T) {
	id := ID(keytest.Seed("id", IDSize))
	alice, bob := side("alice"), side("bob")
	c := commit(id, alice.Nonce)
	v := vector{
		ID: id[:], Commitment: c[:],
		BeganAccount: alice.Account[:], BeganDevice: alice.Device[:], BeganNonce: alice.Nonce[:],
		OtherAccount: bob.Account[:], OtherDevice: bob.Device[:], OtherNonce: bob.Nonce[:],
	}
	for i, p := range Emoji(id, alice, bob) {
		v.Pictures[i] = p.Emoji + " " + p.English
	}
	keytest.Golden(t, "compare.json", v)
}

func TestTable(t *testing.T) {
	var names [64]string
	seen := map[string]bool{}
	for i, p := range table {
		names[i] = p.Emoji + " " + p.English + " " + p.Chinese
		for _, s := range []string{p.Emoji, p.English, p.Chinese} {
			if s == "" || !utf8.ValidString(s) || seen[s] {
				t.Errorf("picture %d: %q is empty or there twice", i, s)
			}
			seen[s] = true
		}
	}
	keytest.Golden(t, "emoji.json", names)
}

// Both devices come to the same pictures; every picture can come up at every
// place.
func TestBothSeeTheSame(t *testing.T) {
	var seen [Count]map[string]bool
	for i := range seen {
		seen[i] = map[string]bool{}
	}
	for range 3000 {
		id, nonce, c := Begin()
		alice, bob := side("alice"), side("bob")
		bob.Nonce = NewNonce() // second step, after c
		alice.Nonce = nonce    // third
		if !c.Opens(id, alice.Nonce) {
			t.Fatal("an honest commitment does not open")
		}
		pictures := Emoji(id, alice, bob)
		if pictures != Emoji(id, alice, bob) {
			t.Fatal("not a function")
		}
		for i, p := range pictures {
			seen[i][p.Emoji] = true
		}
	}
	for i := range seen {
		if len(seen[i]) != 64 {
			t.Errorf("place %d showed %d of 64 pictures in 3000 comparisons", i, len(seen[i]))
		}
	}
}

// Anything that differs between the two screens changes the pictures, but for
// one case in 2^42.
func TestDifferenceIsSeen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		id := ID(rapid.SliceOfN(rapid.Byte(), IDSize, IDSize).Draw(t, "id"))
		alice, bob := side("alice"), side("bob")
		good := Emoji(id, alice, bob)
		bit := rapid.IntRange(0, 255).Draw(t, "bit")
		flip := func(b []byte) { b[bit/8%len(b)] ^= 1 << (bit % 8) }
		a, b, other := alice, bob, id
		what := rapid.SampledFrom([]string{"id", "account a", "account b", "device a", "device b", "nonce a", "nonce b", "roles"}).Draw(t, "what")
		switch what {
		case "id":
			flip(other[:])
		case "account a":
			flip(a.Account[:])
		case "account b":
			flip(b.Account[:])
		case "device a":
			flip(a.Device[:])
		case "device b":
			flip(b.Device[:])
		case "nonce a":
			flip(a.Nonce[:])
		case "nonce b":
			flip(b.Nonce[:])
		case "roles":
			a, b = b, a
		}
		if Emoji(other, a, b) == good {
			t.Fatalf("%s does not matter", what)
		}
	})
}

func TestCommitmentBinds(t *testing.T) {
	id, nonce, c := Begin()
	for i := range nonce {
		bad := nonce
		bad[i] ^= 1
		if c.Opens(id, bad) {
			t.Fatalf("byte %d of the nonce does not matter", i)
		}
	}
	otherID := id
	otherID[0] ^= 1
	if c.Opens(otherID, nonce) || (Commitment{}).Opens(id, nonce) {
		t.Error("a commitment opens to another comparison")
	}
	id2, nonce2, c2 := Begin()
	if id == id2 || nonce == nonce2 || c == c2 || NewNonce() == nonce {
		t.Error("a comparison like another")
	}
}

func TestFromBytes(t *testing.T) {
	want := Nonce(keytest.Seed("nonce", NonceSize))
	if got, err := FromBytes[Nonce](want[:]); err != nil || got != want {
		t.Errorf("%x, %v", got, err)
	}
	for _, n := range []int{0, 15, 17, 32} {
		if _, err := FromBytes[ID](make([]byte, n)); err != ErrSize {
			t.Errorf("id of %d bytes: %v", n, err)
		}
	}
	for _, n := range []int{0, 31, 33} {
		if _, err := FromBytes[Commitment](make([]byte, n)); err != ErrSize {
			t.Errorf("commitment of %d bytes: %v", n, err)
		}
	}
}
