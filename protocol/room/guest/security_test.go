package guest

import (
	"bytes"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/pake"
	"github.com/parley-chat/parley/protocol/room"
)

// Who has everything that passed, and nothing else, finds out by no candidate whether
// it is the password: all he can compute with the right one fails as with wrong ones,
// and what the two told each other stays closed to him.
func TestGST09_TranscriptAllowsNoOfflineGuess(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	c, r := untilRequest(t, h.door(), bert.self(h.s.Room()))
	w := h.letIn(c, r)
	seen := bytes.Join(c.frames, nil)
	for name, secret := range map[string][]byte{
		"what the password derives": h.secret[:], "name": []byte("bert"), "state key": w.Keys[0].Bytes(), "entry": w.Entry.Bytes(),
	} {
		if bytes.Contains(seen, secret) {
			t.Errorf("%s in the open", name)
		}
	}

	answer := c.frames[2][headerSize:]
	shareG, tagG := answer[:pake.ShareSize], answer[pake.ShareSize:][:pake.TagSize]
	tagA := c.frames[3][headerSize:]
	if _, ok := c.visitor.run.verify(t, pake.Initiator, h.secret, shareG, tagG, c.frames[4]); ok {
		t.Error("the right password, guessed afterwards, shows by the guest's frames")
	}
	if _, ok := c.visitor.run.verify(t, pake.Responder, h.secret, c.visitor.shareA, tagA, c.frames[5]); ok {
		t.Error("the right password, guessed afterwards, shows by the admitter's frames")
	}
}

// verify is what a candidate for the password lets somebody compute who sees the frames
// and knows the sides' names: the run with a scalar of his own.
func (r *run) verify(t *testing.T, role pake.Role, candidate [32]byte, share, tag, sealed []byte) (text []byte, ok bool) {
	t.Helper()
	ad := r.adAdmitter()
	if role == pake.Initiator {
		ad = r.adGuest()
	}
	u, err := r.party(role, candidate).Finish(share, ad)
	check(t, err)
	keys, err := u.Confirm(tag)
	if err != nil {
		return nil, false
	}
	text, err = open(fromGuest(keys), frameName, sealed)
	return text, err == nil
}

// A rendezvous that poses as the admitter has one guess in each attempt of the guest,
// sees whether it is right, and nothing by which it could try another.
func TestGST09_RendezvousPosesAsAdmitter(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	d := h.door()
	liar := newPerson(t, "liar", "laptop")
	d.Cert = liar.cert
	guess := [32]byte{1}
	d.Secret = func() *[32]byte { return &guess }
	c := untilAnswer(t, d, bert.self(h.s.Room()), h.secret)
	frame, err := c.admitter.Answered(start, &Limits{}, "", c.last())
	if protocol.CodeOf(err) != protocol.WrongPassword {
		t.Fatalf("%v", err)
	}
	answer := c.last()[headerSize:]
	if _, ok := c.admitter.run.verify(t, pake.Initiator, h.secret, answer[:pake.ShareSize], answer[pake.ShareSize:][:pake.TagSize], nil); ok {
		t.Error("a second guess, after the guest is gone, can be checked")
	}
	if _, err := c.visitor.Confirmed(frame); protocol.CodeOf(err) != protocol.WrongPassword {
		t.Errorf("the guest: %v", err)
	}
	c = untilAnswer(t, d, bert.self(h.s.Room()), h.secret)
	if _, err := c.visitor.Confirmed(append([]byte{version, frameConfirm}, make([]byte, pake.TagSize)...)); protocol.CodeOf(err) != protocol.WrongPassword {
		t.Errorf("a confirmation out of nothing: %v", err)
	}
}

// A rendezvous that knows two rooms, or two members, cannot bring a guest to another
// than it knocked at.
func TestFramesOfAnotherPlace(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	other := newHouse(t)
	d := other.door()
	d.Secret = h.door().Secret // and if both had one password
	c := untilAnswer(t, d, bert.self(h.s.Room()), h.secret)
	if _, err := c.admitter.Answered(start, &Limits{}, "", c.last()); err != ErrFrame {
		t.Errorf("another room: %v", err)
	}

	a, b := untilAnswer(t, h.door(), bert.self(h.s.Room()), h.secret), untilAnswer(t, h.door(), bert.self(h.s.Room()), h.secret)
	if _, err := a.admitter.Answered(start, &Limits{}, "", b.last()); err != ErrFrame {
		t.Errorf("an answer of another attempt: %v", err)
	}
}

// What is wrong does not show in the answer: it is the same for each wrong password,
// as long as for every other, and says nothing of the room.
func TestGST08_WrongPasswordsAreAlike(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	empty := newHouse(t)
	var first []byte
	for _, house := range []*house{h, empty} {
		for i := range 4 {
			c := untilAnswer(t, house.door(), bert.self(house.s.Room()), [32]byte{byte(i)})
			frame, err := c.admitter.Answered(start, &Limits{}, "", c.last())
			if protocol.CodeOf(err) != protocol.WrongPassword {
				t.Fatal(err)
			}
			if first == nil {
				first = frame
			}
			if !bytes.Equal(frame, first) {
				t.Errorf("refused with %x, and with %x", frame, first)
			}
			if _, err := c.admitter.Requested(c.last()); err != ErrOver {
				t.Errorf("it goes on: %v", err)
			}
		}
		house.do(room.Lock{On: true}) // told to nobody without the password
	}
}

// Nobody who merely saw a guest uses up what it may try.
func TestGuessesTakeTheGuestsKey(t *testing.T) {
	h, bert, carl := newHouse(t), newPerson(t, "bert", ""), newPerson(t, "carl", "")
	l := &Limits{}
	for range 3 * keyTries {
		c := untilAnswer(t, h.door(), bert.self(h.s.Room()), [32]byte{1})
		frame := bytes.Clone(c.last())
		sig, err := carl.Key.Sign(labelProof, c.admitter.run.proof(c.admitter.shareA, frame[headerSize:][:pake.ShareSize])...)
		check(t, err)
		copy(frame[len(frame)-len(sig):], sig)
		if _, err := c.admitter.Answered(start, l, "", frame); err != ErrFrame {
			t.Fatalf("somebody else's key: %v", err)
		}
	}
	c := untilAnswer(t, h.door(), bert.self(h.s.Room()), h.secret)
	if _, err := c.admitter.Answered(start, l, "", c.last()); err != nil {
		t.Errorf("the guest itself: %v", err)
	}
}

// One byte of a frame changes on the way, or a frame is cut or made longer: nothing of
// it is taken, and the attempt is over.
func TestChangedFrames(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	self := bert.self(h.s.Room())
	steps := map[string]struct {
		until func() *attempt
		take  func(c *attempt, frame []byte) error
	}{
		"answer": {
			func() *attempt { return untilAnswer(t, h.door(), self, h.secret) },
			func(c *attempt, f []byte) error {
				_, err := c.admitter.Answered(start, &Limits{}, "", f)
				return err
			},
		},
		"confirm": {
			func() *attempt {
				c := untilAnswer(t, h.door(), self, h.secret)
				c.pass(c.admitter.Answered(start, &Limits{}, "", c.last()))
				return c
			},
			func(c *attempt, f []byte) error { _, err := c.visitor.Confirmed(f); return err },
		},
		"name": {
			func() *attempt {
				c := untilAnswer(t, h.door(), self, h.secret)
				c.pass(c.admitter.Answered(start, &Limits{}, "", c.last()))
				c.pass(c.visitor.Confirmed(c.last()))
				return c
			},
			func(c *attempt, f []byte) error { _, err := c.admitter.Requested(f); return err },
		},
		"welcome": {
			func() *attempt {
				c, _ := untilRequest(t, h.door(), self)
				c.pass(c.admitter.Refuse(protocol.Refuse(protocol.RoomLocked, "")))
				return c
			},
			func(c *attempt, f []byte) error { _, err := c.visitor.Welcomed(f); return err },
		},
	}
	for name, step := range steps {
		length := len(step.until().last())
		for i := range length + 3 {
			c := step.until()
			bad := bytes.Clone(c.last())
			switch i {
			case length:
				bad = bad[:length-1]
			case length + 1:
				bad = append(bad, 0)
			case length + 2:
				bad = nil
			default:
				bad[i] ^= 1
			}
			err := step.take(c, bad)
			if err != ErrFrame && protocol.CodeOf(err) != protocol.WrongPassword {
				t.Errorf("%s, change %d: %v", name, i, err)
			}
			if err := step.take(c, c.last()); err != ErrOver {
				t.Errorf("%s, change %d: it goes on: %v", name, i, err)
			}
		}
	}
}

// Of the first two frames, what changes makes the passwords differ, or is refused at
// once.
func TestChangedBeginning(t *testing.T) {
	h, bert := newHouse(t), newPerson(t, "bert", "")
	_, knock, err := Knock(bert.self(h.s.Room()))
	check(t, err)
	for i := range len(knock) {
		v, frame, err := Knock(bert.self(h.s.Room()))
		check(t, err)
		frame[i] ^= 1
		a, offer, err := Answer(h.door(), frame)
		if err != nil {
			continue
		}
		notLetIn(t, h, v, a, offer, i)
	}
	_, offer, err := Answer(h.door(), knock)
	check(t, err)
	for i := range len(offer) {
		v, frame, err := Knock(bert.self(h.s.Room()))
		check(t, err)
		a, offer, err := Answer(h.door(), frame)
		check(t, err)
		offer[i] ^= 1
		if i >= 18 && i < 22 { // the number of the password; another one derives another secret
			continue
		}
		notLetIn(t, h, v, a, offer, i)
	}
}

func notLetIn(t *testing.T, h *house, v *Visitor, a *Admitter, offer []byte, change int) {
	t.Helper()
	if _, err := v.Offered(offer); err != nil {
		return
	}
	answer, err := v.Answer(h.secret)
	if err != nil {
		return
	}
	if _, err := a.Answered(start, &Limits{}, "", answer); err != ErrFrame && protocol.CodeOf(err) != protocol.WrongPassword {
		t.Errorf("change %d: %v", change, err)
	}
}

// Whatever a stranger sends first, the admitter does not panic, and answers or refuses.
func FuzzAnswer(f *testing.F) {
	h, bert := newHouse(f), newPerson(f, "bert", "")
	_, knock, err := Knock(bert.self(h.s.Room()))
	check(f, err)
	f.Add(knock)
	f.Fuzz(func(t *testing.T, frame []byte) {
		if a, offer, err := Answer(h.door(), frame); (a == nil) != (err != nil) || (offer == nil) != (err != nil) {
			t.Fatal("neither offer nor error, or both")
		}
	})
}

// Nor does the guest, whoever answers it.
func FuzzVisitor(f *testing.F) {
	h, bert := newHouse(f), newPerson(f, "bert", "")
	c, _ := untilRequest(f, h.door(), bert.self(h.s.Room()))
	f.Add(c.frames[1], c.frames[3], []byte{accepted})
	f.Fuzz(func(t *testing.T, offer, confirm, inside []byte) {
		v, _, err := Knock(bert.self(h.s.Room()))
		check(t, err)
		if _, err := v.Offered(offer); err == nil {
			if _, err := v.Answer(h.secret); err == nil {
				if _, err := v.Confirmed(confirm); err == nil {
					t.Fatal("confirmed by somebody who did not see the guess")
				}
			}
		}
		if w, err := parseWelcome(inside); err == nil {
			again, err := w.marshal()
			if err != nil || !bytes.Equal(again, inside) {
				t.Fatal("not canonical")
			}
		}
	})
}
