package guest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/gtank/ristretto255"
	"golang.org/x/crypto/argon2"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/room"
)

// Here SPEC "CPace" and "Guests" are written once more, from the text alone: what the
// vectors are made with and what the package has to understand.

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

// specRun is one attempt with what comes out of it.
type specRun struct {
	room, chain, cert, peerG, peerA []byte
	nonceG, nonceA, derived         []byte
	shareA, shareG, tagA, tagG      []byte
	session, keyG, keyA             []byte
}

func newSpecRun(h *house, guest *person) *specRun {
	id := h.s.Room()
	return &specRun{
		room: id[:], chain: guest.chain.Bytes(), cert: h.owner.cert.Marshal(), peerG: guest.cert.PeerID, peerA: h.owner.cert.PeerID,
		nonceG: keytest.Seed("guest nonce", 16), nonceA: keytest.Seed("admitter nonce", 16), derived: h.secret[:],
	}
}

func (r *specRun) sid() []byte     { return slices.Concat(r.nonceG, r.nonceA) }
func (r *specRun) channel() []byte { return specM("guest channel", r.room, r.peerG, r.peerA) }

func specScalar(random []byte) *ristretto255.Scalar {
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
	zeros := make([]byte, 128-len(specLV(r.derived))-18-1)
	hash := sha512.Sum512(specLV([]byte("CPaceRistretto255"), r.derived, zeros, r.channel(), r.sid()))
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
	a, b := specLV(r.shareA, specM("guest admitter", r.cert)), specLV(r.shareG, specM("guest visitor", r.chain))
	transcript := slices.Concat(a, b)
	isk := sha512.Sum512(append(specLV([]byte("CPaceRistretto255_ISK"), r.sid(), k), transcript...))
	session := sha512.Sum512(append([]byte("CPaceSidOutput"), transcript...))
	r.session = session[:]
	mac := sha512.Sum512(slices.Concat([]byte("CPaceMac"), r.sid(), isk[:]))
	tag := func(message []byte) []byte {
		h := hmac.New(sha512.New, mac[:])
		h.Write(message)
		return h.Sum(nil)
	}
	r.tagA, r.tagG = tag(a), tag(b)
	derive := func(purpose string) []byte {
		prk, err := hkdf.Extract(sha256.New, isk[:], session[:])
		if err != nil {
			panic(err)
		}
		secret, err := hkdf.Expand(sha256.New, prk, "parley/1 "+purpose, 32)
		if err != nil {
			panic(err)
		}
		return secret
	}
	r.keyG, r.keyA = derive("guest from visitor"), derive("guest from admitter")
}

func specSeal(secret, header, text []byte) []byte {
	block, err := aes.NewCipher(secret)
	if err != nil {
		panic(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return append(slices.Clone(header), aead.Seal(nil, make([]byte, 12), text, header)...)
}

// The frames.

func (r *specRun) knock() []byte { return slices.Concat([]byte{1, 1}, r.nonceG, r.chain) }

func (r *specRun) offer(number uint32) []byte {
	return slices.Concat([]byte{1, 2}, r.nonceA, binary.BigEndian.AppendUint32(nil, number), r.shareA, r.cert)
}

func (r *specRun) answer(dsk []byte) []byte {
	proof := ed25519.Sign(ed25519.NewKeyFromSeed(dsk), specM("guest proof", r.sid(), r.channel(), r.shareA, r.shareG))
	return slices.Concat([]byte{1, 3}, r.shareG, r.tagG, proof)
}

func (r *specRun) confirm() []byte { return append([]byte{1, 4}, r.tagA...) }

func (r *specRun) name(name string) []byte {
	text := append([]byte{byte(len(name))}, name...)
	return specSeal(r.keyG, []byte{1, 6}, append(text, make([]byte, 65-len(text))...))
}

func (r *specRun) welcome(entry []byte, keys ...[]byte) []byte {
	text := binary.BigEndian.AppendUint32([]byte{1}, uint32(len(entry)))
	return specSeal(r.keyA, []byte{1, 7}, append(append(text, entry...), slices.Concat(keys...)...))
}

func (r *specRun) refusal(code uint16, seconds uint32) []byte {
	text := binary.BigEndian.AppendUint16([]byte{2}, code)
	return specSeal(r.keyA, []byte{1, 7}, binary.BigEndian.AppendUint32(text, seconds))
}

// A guest written from the text, and our admitter.
func TestAdmitterFollowsTheSpec(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	r, y := newSpecRun(h, bert), specScalar(keytest.Seed("guest scalar", 32))
	a, offer, err := Answer(h.door(), r.knock())
	check(t, err)
	r.nonceA, r.shareA = offer[2:18], offer[22:54]
	if !bytes.Equal(offer, r.offer(1)) {
		t.Fatalf("offer %x", offer)
	}
	r.shareG = r.share(y)
	r.finish(y, r.shareA)
	confirm, err := a.Answered(start, &Limits{}, "", r.answer(bert.Key.Bytes()))
	check(t, err)
	if !bytes.Equal(confirm, r.confirm()) {
		t.Fatalf("confirm %x", confirm)
	}
	asked, err := a.Requested(r.name("bert"))
	check(t, err)
	if asked.Name != "bert" {
		t.Errorf("asked %+v", asked)
	}
	e, k := h.do(asked.Join(start, room.Sealed{})), room.NewStateKey()
	frame, err := a.Admit(Welcome{e, []room.StateKey{k}})
	check(t, err)
	if !bytes.Equal(frame, r.welcome(e.Bytes(), k.Bytes())) {
		t.Errorf("welcome %x", frame)
	}
}

// An admitter written from the text, and our guest.
func TestVisitorFollowsTheSpec(t *testing.T) {
	for _, refused := range []bool{false, true} {
		h, bert := newHouse(t), newPerson(t, "bert", "")
		r, y := newSpecRun(h, bert), specScalar(keytest.Seed("admitter scalar", 32))
		v, knock, err := Knock(bert.self(h.s.Room()))
		check(t, err)
		r.nonceG = knock[2:18]
		if !bytes.Equal(knock, r.knock()) {
			t.Fatalf("knock %x", knock)
		}
		r.shareA = r.share(y)
		_, err = v.Offered(r.offer(1))
		check(t, err)
		answer, err := v.Answer(h.secret)
		check(t, err)
		r.shareG = answer[2:34]
		r.finish(y, r.shareG)
		if !bytes.Equal(answer, r.answer(bert.Key.Bytes())) {
			t.Fatalf("answer %x", answer)
		}
		name, err := v.Confirmed(r.confirm())
		check(t, err)
		if !bytes.Equal(name, r.name("bert")) {
			t.Fatalf("name %x", name)
		}
		if refused {
			_, err = v.Welcomed(r.refusal(65, 7))
			if e, ok := err.(*protocol.Error); !ok || e.Code != protocol.Banned || e.RetryAfter.Seconds() != 7 {
				t.Errorf("refused: %v", err)
			}
			continue
		}
		e, k := h.do(Request{Chain: bert.chain, Number: 1}.Join(start, room.Sealed{})), room.NewStateKey()
		w, err := v.Welcomed(r.welcome(e.Bytes(), k.Bytes()))
		check(t, err)
		if w.Entry.Hash() != e.Hash() || len(w.Keys) != 1 || w.Keys[0].ID() != k.ID() {
			t.Errorf("welcome %+v", w)
		}
	}
}

// What the guest sends and gets inside, out of the hands of somebody who has the
// password.
func TestMalformedInside(t *testing.T) {
	h, bert, carl := newHouse(t), newPerson(t, "bert", ""), newPerson(t, "carl", "")
	join := func(p *person) []byte {
		return h.do(Request{Chain: p.chain, Number: 1}.Join(start, room.Sealed{})).Bytes()
	}
	right, ofOther := join(bert), join(carl)
	rotate := h.do(room.Rotate{}).Bytes()
	for name, text := range map[string][]byte{
		"nothing":         {},
		"no entry":        {1},
		"neither":         append([]byte{3}, key.AppendLP(nil, right)...),
		"half a key":      append(key.AppendLP([]byte{1}, right), make([]byte, 31)...),
		"too many keys":   append(key.AppendLP([]byte{1}, right), make([]byte, 32*(MaxKeys+1))...),
		"another's entry": key.AppendLP([]byte{1}, ofOther),
		"another entry":   key.AppendLP([]byte{1}, rotate),
		"a refusal of ok": {2, 0, 0, 0, 0, 0, 0},
		"half a refusal":  {2, 0, 65},
	} {
		c, _ := untilRequest(t, h.door(), bert.self(h.s.Room()))
		frame, err := c.admitter.decide(text)
		check(t, err)
		if _, err := c.visitor.Welcomed(frame); err != ErrFrame {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, text := range map[string][]byte{
		"no name": make([]byte, 65), "short": padName("bert")[:64], "a long one": append([]byte{65}, make([]byte, 64)...),
		"a control": padName("a\x00"), "something after it": append(append([]byte{1, 'a'}, make([]byte, 62)...), 1),
	} {
		c := untilAnswer(t, h.door(), bert.self(h.s.Room()), h.secret)
		c.pass(c.admitter.Answered(start, &Limits{}, "", c.last()))
		if _, err := c.admitter.Requested(seal(fromGuest(c.admitter.keys), frameName, text)); err != ErrFrame {
			t.Errorf("name: %s: %v", name, err)
		}
	}
}

// vector is one attempt, frame by frame.
type vector struct {
	Comment        string      `json:"comment"`
	Password       string      `json:"password"`
	Number         uint32      `json:"password_number"`
	Room           keytest.Hex `json:"room"`
	Derived        keytest.Hex `json:"derived"`
	GuestPeer      keytest.Hex `json:"guest_peer"`
	AdmitterPeer   keytest.Hex `json:"admitter_peer"`
	GuestDSK       keytest.Hex `json:"guest_dsk_seed"`
	GuestRandom    keytest.Hex `json:"guest_random"` // before the four highest bits are cleared
	AdmitterRandom keytest.Hex `json:"admitter_random"`
	Session        keytest.Hex `json:"session"`
	KeyGuest       keytest.Hex `json:"key_from_guest"`
	KeyAdmitter    keytest.Hex `json:"key_from_admitter"`
	Knock          keytest.Hex `json:"frame_knock"`
	Offer          keytest.Hex `json:"frame_offer"`
	Answer         keytest.Hex `json:"frame_answer"`
	Confirm        keytest.Hex `json:"frame_confirm"`
	Refused        keytest.Hex `json:"frame_refused"` // instead of it: wrong password
	Name           keytest.Hex `json:"frame_name"`
	Welcome        keytest.Hex `json:"frame_welcome"` // refused: the room is locked
}

func TestVectors(t *testing.T) {
	bert, anna := newPerson(t, "bert", ""), newPerson(t, "anna", "laptop")
	id := protocol.RoomID(keytest.Seed("room", 32))
	const password, number = "Café ﬁn", 3
	salt := sha256.Sum256(specM("guest password", id[:], []byte{0, 0, 0, number}))
	r := &specRun{
		room: id[:], chain: bert.chain.Bytes(), cert: anna.cert.Marshal(), peerG: bert.cert.PeerID, peerA: anna.cert.PeerID,
		nonceG: keytest.Seed("guest nonce", 16), nonceA: keytest.Seed("admitter nonce", 16),
		derived: argon2.IDKey([]byte("Caf\u00e9 fin"), salt[:], 3, 64<<10, 1, 32),
	}
	derived, err := Derive(password, id, number)
	check(t, err)
	if !bytes.Equal(derived[:], r.derived) {
		t.Errorf("derived %x", derived)
	}
	v := vector{
		Comment: "the password is right, and the room locked", Password: password, Number: number, Room: r.room, Derived: r.derived,
		GuestPeer: r.peerG, AdmitterPeer: r.peerA, GuestDSK: bert.Key.Bytes(),
		GuestRandom: keytest.Seed("guest scalar", 32), AdmitterRandom: keytest.Seed("admitter scalar", 32),
	}
	a, g := specScalar(v.AdmitterRandom), specScalar(v.GuestRandom)
	r.shareA, r.shareG = r.share(a), r.share(g)
	r.finish(a, r.shareG)
	v.Session, v.KeyGuest, v.KeyAdmitter = r.session, r.keyG, r.keyA
	v.Knock, v.Offer, v.Answer, v.Confirm = r.knock(), r.offer(number), r.answer(v.GuestDSK), r.confirm()
	v.Refused = appendRefused([]byte{version, frameRefused}, wrongPassword())
	v.Name, v.Welcome = r.name("bert"), r.refusal(64, 0)
	keytest.Golden(t, "guest.json", []vector{v})
}
