package pairing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"slices"

	"github.com/gtank/ristretto255"

	"github.com/parley-chat/parley/protocol/words"
)

// Here SPEC "CPace" and "Adding a device" are written once more, with nothing
// of ours but the list of words: what the vectors are made with and what the
// package has to understand.

func specM(word string, parts ...[]byte) []byte {
	var b []byte
	for _, p := range append([][]byte{[]byte("parley/1 " + word)}, parts...) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

func specLV(parts ...[]byte) []byte {
	var b []byte
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	return b
}

// specRun is one run of CPace with what came out of it.
type specRun struct {
	password, channel, adA, adB []byte // A is the newcomer
	shareA, shareB, tagA, tagB  []byte
	session, keyA, keyB         []byte
}

func newSpecRun(password []byte, slot string, rendezvous, peerA, peerB []byte) *specRun {
	return &specRun{
		password: password, channel: specM("pair", []byte(slot), rendezvous),
		adA: specM("pair newcomer", peerA), adB: specM("pair sponsor", peerB),
	}
}

// scalar is y of 32 random bytes.
func (r *specRun) scalar(random []byte) *ristretto255.Scalar {
	b := slices.Clone(random)
	b[31] &= 0x0f
	y, err := ristretto255.NewScalar().SetCanonicalBytes(b)
	if err != nil {
		panic(err)
	}
	return y
}

// share is Y for y.
func (r *specRun) share(y *ristretto255.Scalar) []byte {
	zeros := make([]byte, max(0, 128-len(specLV(r.password))-18-1))
	hash := sha512.Sum512(specLV([]byte("CPaceRistretto255"), r.password, zeros, r.channel, nil))
	g, err := ristretto255.NewIdentityElement().SetUniformBytes(hash[:])
	if err != nil {
		panic(err)
	}
	return g.ScalarMult(y, g).Bytes()
}

// finish fills in the rest, given both shares and y of one side.
func (r *specRun) finish(y *ristretto255.Scalar, other []byte) {
	e, err := ristretto255.NewIdentityElement().SetCanonicalBytes(other)
	if err != nil {
		panic(err)
	}
	k := e.ScalarMult(y, e).Bytes()
	t := specLV(r.shareA, r.adA, r.shareB, r.adB)
	isk := sha512.Sum512(append(specLV([]byte("CPaceRistretto255_ISK"), nil, k), t...))
	session := sha512.Sum512(append([]byte("CPaceSidOutput"), t...))
	r.session = session[:]
	mac := sha512.Sum512(append([]byte("CPaceMac"), isk[:]...))
	tag := func(share, ad []byte) []byte {
		h := hmac.New(sha512.New, mac[:])
		h.Write(specLV(share, ad))
		return h.Sum(nil)
	}
	r.tagA, r.tagB = tag(r.shareA, r.adA), tag(r.shareB, r.adB)
	derive := func(purpose string) []byte {
		prk, err := hkdf.Extract(sha256.New, isk[:], session[:])
		if err != nil {
			panic(err)
		}
		key, err := hkdf.Expand(sha256.New, prk, "parley/1 "+purpose, 32)
		if err != nil {
			panic(err)
		}
		return key
	}
	r.keyA, r.keyB = derive("pair from newcomer"), derive("pair from sponsor")
}

func specAEAD(key []byte, n uint64) (cipher.AEAD, []byte) {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead, binary.BigEndian.AppendUint64(make([]byte, 4), n)
}

func specSeal(key []byte, n uint64, header, text []byte) []byte {
	aead, nonce := specAEAD(key, n)
	return append(slices.Clone(header), aead.Seal(nil, nonce, text, header)...)
}

// The frames.

func (r *specRun) enter(kind byte, peer []byte) []byte {
	return slices.Concat([]byte{1, 1, kind, byte(len(peer))}, peer, r.shareA)
}

func (r *specRun) reply(peer []byte) []byte {
	return slices.Concat([]byte{1, 2, byte(len(peer))}, peer, r.shareB, r.tagB)
}

func (r *specRun) request(history byte, device []byte) []byte {
	return specSeal(r.keyA, 0, append([]byte{1, 3}, r.tagA...), append([]byte{history}, device...))
}

func (r *specRun) answers(text []byte) (frames [][]byte) {
	for n := uint64(0); ; n++ {
		if len(text) <= 61421 {
			return append(frames, specSeal(r.keyB, n, []byte{1, 4, 1}, text))
		}
		frames = append(frames, specSeal(r.keyB, n, []byte{1, 4, 0}, text[:61421]))
		text = text[61421:]
	}
}

func (r *specRun) fingerprint(device []byte) []string {
	sum := sha256.Sum256(specM("pair words", r.session, device))
	return words.Spell(sum[:], 8)
}

// specPassword is PRS.
func specPassword(kind byte, secret []byte) []byte {
	return specM("pair code", []byte{kind}, secret)
}
