package key_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// privateKey is what the private keys have in common.
type privateKey interface {
	fmt.Stringer
	Bytes() []byte
}

func privateKeys(t *testing.T) []privateKey {
	return []privateKey{key.NewAccount(), key.NewRecovery(), key.NewDevice(), key.NewLink(), key.NewIdentity(), key.NewHost(), keytest.RSA(t, 0)}
}

func zeroKeys() []privateKey {
	return []privateKey{key.AccountPrivate{}, key.RecoveryPrivate{}, key.DevicePrivate{}, key.LinkPrivate{}, key.IdentityPrivate{}, key.HostPrivate{}, key.RSAPrivate{}}
}

// reparse returns Public().Bytes() of the key read back from its own bytes.
func reparse(k privateKey) (before, after []byte, err error) {
	b := k.Bytes()
	switch k := k.(type) {
	case key.AccountPrivate:
		n, err := key.ParseAccount(b)
		return k.Public().Bytes(), n.Public().Bytes(), err
	case key.RecoveryPrivate:
		n, err := key.ParseRecovery(b)
		return k.Public().Bytes(), n.Public().Bytes(), err
	case key.DevicePrivate:
		n, err := key.ParseDevice(b)
		return k.Public().Bytes(), n.Public().Bytes(), err
	case key.LinkPrivate:
		n, err := key.ParseLink(b)
		return k.Public().Bytes(), n.Public().Bytes(), err
	case key.IdentityPrivate:
		n, err := key.ParseIdentity(b)
		return k.Public().Bytes(), n.Public().Bytes(), err
	case key.HostPrivate:
		n, err := key.ParseHost(b)
		return k.Public().Bytes(), n.Public().Bytes(), err
	case key.RSAPrivate:
		n, err := key.ParseRSA(b)
		return k.Public().Bytes(), n.Public().Bytes(), err
	}
	return nil, nil, errors.New("unknown kind")
}

func TestRoundTrip(t *testing.T) {
	for _, k := range privateKeys(t) {
		before, after, err := reparse(k)
		if err != nil || !bytes.Equal(before, after) || len(before) == 0 {
			t.Errorf("%T: %v", k, err)
		}
		b := k.Bytes()
		clear(b)
		if bytes.Equal(b, k.Bytes()) {
			t.Errorf("%T: Bytes gives out its own memory", k)
		}
	}
}

func TestWrongLength(t *testing.T) {
	for _, n := range []int{0, 31, 33, 64, 511, 513} {
		b := bytes.Repeat([]byte{7}, n)
		for name, parse := range map[string]func() error{
			"account":         func() error { _, err := key.ParseAccount(b); return err },
			"recovery":        func() error { _, err := key.ParseRecovery(b); return err },
			"device":          func() error { _, err := key.ParseDevice(b); return err },
			"identity":        func() error { _, err := key.ParseIdentity(b); return err },
			"host":            func() error { _, err := key.ParseHost(b); return err },
			"rsa":             func() error { _, err := key.ParseRSA(b); return err },
			"account public":  func() error { _, err := key.ParseAccountPublic(b); return err },
			"recovery public": func() error { _, err := key.ParseRecoveryPublic(b); return err },
			"device public":   func() error { _, err := key.ParseDevicePublic(b); return err },
			"identity public": func() error { _, err := key.ParseIdentityPublic(b); return err },
			"host public":     func() error { _, err := key.ParseHostPublic(b); return err },
			"rsa public":      func() error { _, err := key.ParseRSAPublic(b); return err },
			"peer id":         func() error { _, err := key.ParsePeerID(b); return err },
		} {
			if err := parse(); !errors.Is(err, key.ErrInvalid) {
				t.Errorf("%s of %d bytes: %v", name, n, err)
			}
		}
	}
}

// A zero key gives errors or nothing; it never panics and never works.
func TestZeroKeys(t *testing.T) {
	for _, k := range zeroKeys() {
		if k.Bytes() != nil {
			t.Errorf("%T: zero key has bytes", k)
		}
	}
	signers := []interface {
		Sign(string, ...[]byte) ([]byte, error)
	}{key.AccountPrivate{}, key.RecoveryPrivate{}, key.DevicePrivate{}, key.LinkPrivate{}}
	for _, s := range signers {
		if _, err := s.Sign("x"); !errors.Is(err, key.ErrInvalid) {
			t.Errorf("%T signs: %v", s, err)
		}
	}
	if _, err := (key.IdentityPrivate{}).DH(make([]byte, 32)); err == nil {
		t.Error("zero identity key agrees")
	}
	if _, err := (key.RSAPrivate{}).Unwrap(make([]byte, 512), nil); err == nil {
		t.Error("zero RSA key unwraps")
	}
	if _, err := (key.RSAPublic{}).Wrap([]byte("x"), nil); err == nil {
		t.Error("zero RSA key wraps")
	}
	if err := (key.DevicePublic{}).Verify("x", make([]byte, 64)); err == nil {
		t.Error("zero public key verifies")
	}
	if !(key.AccountPrivate{}).Public().IsZero() || key.NewAccount().Public().IsZero() {
		t.Error("IsZero")
	}
	_ = key.RecoveryPrivate{}.Public()
	_ = key.DevicePrivate{}.Public()
	_ = key.LinkPrivate{}.Public()
	_ = key.IdentityPrivate{}.Public()
	_ = key.HostPrivate{}.Public()
	_ = key.RSAPrivate{}.Public()
}

// However a private key is printed, logged or marshalled, alone or inside
// another value, none of its bytes show.
func TestRedacted(t *testing.T) {
	for _, k := range privateKeys(t) {
		secret := k.Bytes()[:32]
		type outer struct {
			Exported   any
			unexported any
		}
		values := []any{k, &k, []any{k}, map[string]any{"k": k}, outer{k, k}, &outer{k, k}}
		for _, v := range values {
			checkHidden(t, secret, fmt.Sprint(v))
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p"} {
				checkHidden(t, secret, fmt.Sprintf(verb, v))
			}
			b, _ := json.Marshal(v)
			checkHidden(t, secret, string(b))
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("m", "k", v)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "k", v)
			checkHidden(t, secret, log.String())
		}
		if got := fmt.Sprintf("%v %s %#v", k, k, k); got != "redacted redacted redacted" {
			t.Errorf("%T prints as %q", k, got)
		}
		if reflect.TypeOf(k).Comparable() {
			t.Errorf("%T can be compared with ==", k)
		}
	}
}

// checkHidden looks for the secret in the ways fmt and encoding/json write
// bytes: raw, hexadecimal, decimal, hexadecimal with prefixes.
func checkHidden(t *testing.T, secret []byte, text string) {
	t.Helper()
	part := secret[4:10]
	var decimal, prefixed []string
	for _, b := range part {
		decimal = append(decimal, fmt.Sprint(b))
		prefixed = append(prefixed, fmt.Sprintf("%#x", b))
	}
	for _, form := range []string{
		string(part), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)),
		strings.Join(decimal, " "), strings.Join(decimal, ","), strings.Join(prefixed, ", "),
	} {
		if strings.Contains(text, form) {
			t.Fatalf("secret bytes in %q", text)
		}
	}
}

// KLC-02: a key used for another purpose is refused, by the type system where
// types differ and by the label where they do not.
func TestKLC02_KeysServeOnePurpose(t *testing.T) {
	dsk := key.NewDevice()
	sig, err := dsk.Sign("prekey", []byte("a"), []byte("bc"))
	if err != nil {
		t.Fatal(err)
	}
	pub := dsk.Public()
	if err := pub.Verify("prekey", sig, []byte("a"), []byte("bc")); err != nil {
		t.Fatal(err)
	}
	damaged := bytes.Clone(sig)
	damaged[0] ^= 1
	for name, err := range map[string]error{
		"purpose":     pub.Verify("upload", sig, []byte("a"), []byte("bc")),
		"other split": pub.Verify("prekey", sig, []byte("ab"), []byte("c")),
		"joined":      pub.Verify("prekey", sig, []byte("abc")),
		"other bytes": pub.Verify("prekey", sig, []byte("a"), []byte("bd")),
		"damaged":     pub.Verify("prekey", damaged, []byte("a"), []byte("bc")),
		"short":       pub.Verify("prekey", sig[:63], []byte("a"), []byte("bc")),
		"other key":   key.NewDevice().Public().Verify("prekey", sig, []byte("a"), []byte("bc")),
	} {
		if !errors.Is(err, key.ErrSignature) {
			t.Errorf("%s: %v", name, err)
		}
	}

	types := []reflect.Type{
		reflect.TypeFor[key.AccountPrivate](), reflect.TypeFor[key.RecoveryPrivate](), reflect.TypeFor[key.DevicePrivate](),
		reflect.TypeFor[key.IdentityPrivate](), reflect.TypeFor[key.HostPrivate](), reflect.TypeFor[key.RSAPrivate](), reflect.TypeFor[key.LinkPrivate](), reflect.TypeFor[key.LinkPublic](),
		reflect.TypeFor[key.AccountPublic](), reflect.TypeFor[key.RecoveryPublic](), reflect.TypeFor[key.DevicePublic](),
	}
	for i, a := range types {
		for j, b := range types {
			if i != j && a.ConvertibleTo(b) {
				t.Errorf("%v converts to %v", a, b)
			}
		}
	}
	for _, k := range []any{key.IdentityPrivate{}, key.HostPrivate{}, key.RSAPrivate{}} {
		if _, signs := reflect.TypeOf(k).MethodByName("Sign"); signs {
			t.Errorf("%T signs", k)
		}
	}
}

func TestMessageIsUnambiguous(t *testing.T) {
	parts := rapid.SliceOfN(rapid.SliceOfN(rapid.ByteRange(0, 2), 0, 3), 0, 3)
	word := rapid.StringMatching(`[ab]{0,2}`)
	rapid.Check(t, func(t *rapid.T) {
		w1, w2 := word.Draw(t, "w1"), word.Draw(t, "w2")
		p1, p2 := parts.Draw(t, "p1"), parts.Draw(t, "p2")
		same := w1 == w2 && reflect.DeepEqual(p1, p2)
		if bytes.Equal(key.Message(w1, p1...), key.Message(w2, p2...)) != same {
			t.Fatal("two meanings, one encoding")
		}
	})
}

// Under a point of small order or in a second encoding of a point, one
// signature can fit many messages or one key have two names.
func TestWeakPointsRefused(t *testing.T) {
	weak := []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000080",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
		"ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
	}
	for _, text := range weak {
		b, err := hex.DecodeString(text)
		if err != nil || len(b) != 32 {
			t.Fatal(text)
		}
		if _, err := key.ParseAccountPublic(b); !errors.Is(err, key.ErrInvalid) {
			t.Errorf("accepted %s", text)
		}
	}
}

func TestPeerID(t *testing.T) {
	seed := bytes.Repeat([]byte{1}, 32)
	k, err := key.ParseHost(seed)
	if err != nil {
		t.Fatal(err)
	}
	// libp2p's peer.IDFromPrivateKey of the same seed.
	const want = "0024080112208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
	id := k.Public().PeerID()
	if hex.EncodeToString(id) != want || len(id) != 38 {
		t.Errorf("peer id %x", id)
	}
	back, err := key.ParsePeerID(id)
	if err != nil || back != k.Public() {
		t.Errorf("parse: %v", err)
	}
	for i := range 6 {
		bad := bytes.Clone(id)
		bad[i] ^= 1
		if _, err := key.ParsePeerID(bad); !errors.Is(err, key.ErrInvalid) {
			t.Errorf("byte %d changed: %v", i, err)
		}
	}
}

func TestDHRefusesLowOrder(t *testing.T) {
	k := key.NewIdentity()
	for _, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
		"5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
	} {
		b, _ := hex.DecodeString(text)
		if _, err := k.DH(b); err == nil {
			t.Errorf("agreed with %s", text)
		}
	}
}

// A public X25519 key has one encoding and is not of low order: else one key
// would have two names, and a revoked device could come back under another.
func TestX25519HasOneEncoding(t *testing.T) {
	good := key.NewIdentity().Public().Bytes()
	signed := bytes.Clone(good)
	signed[31] |= 0x80
	prime := append([]byte{0xed}, bytes.Repeat([]byte{0xff}, 30)...)
	prime = append(prime, 0x7f)
	nine := append([]byte{0xed + 9}, prime[1:]...) // the base point's other encoding
	orderEight := unhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
	orderEightToo := unhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157")
	for name, b := range map[string][]byte{
		"top bit set":     signed,
		"the field prime": prime,
		"nine above it":   nine,
		"short":           good[:31],
		"long":            append(bytes.Clone(good), 0),
		"order 4":         make([]byte, 32),
		"order 1":         append([]byte{1}, make([]byte, 31)...),
		"order 2":         append([]byte{0xec}, prime[1:]...),
		"order 8":         orderEight,
		"other order 8":   orderEightToo,
	} {
		if _, err := key.ParseIdentityPublic(b); !errors.Is(err, key.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := key.ParseIdentityPublic(good); err != nil {
		t.Error(err)
	}
}

func unhex(text string) []byte {
	b, _ := hex.DecodeString(text)
	return b
}
