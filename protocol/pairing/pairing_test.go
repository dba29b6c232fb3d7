package pairing

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var (
	newcomerSelf = Self{Peer: []byte("new machine"), Rendezvous: []byte("rendezvous")}
	sponsorSelf  = Self{Peer: []byte("old device"), Rendezvous: []byte("rendezvous")}
)

// failer is a test, also one of rapid.
type failer interface {
	Helper()
	Fatal(...any)
}

func check(t failer, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pair is both sides of an attempt, and the frames that went between them.
type pair struct {
	newcomer       *Newcomer
	sponsor        *Sponsor
	enter, reply   []byte
	request        []byte
	asked          Request
	device, answer []byte
	answerFrames   [][]byte
}

// untilReply goes as far as the old device's first frame.
func untilReply(t failer, entered Code, offered ...Code) *pair {
	p := &pair{device: []byte("device request")}
	var err error
	p.newcomer, p.enter, err = Enter(entered, newcomerSelf, p.device, true)
	check(t, err)
	p.sponsor, err = Offer(sponsorSelf, offered...)
	check(t, err)
	p.reply, err = p.sponsor.Entered(p.enter)
	check(t, err)
	return p
}

// untilDecision goes as far as the question to the person.
func untilDecision(t failer, entered Code, offered ...Code) *pair {
	p := untilReply(t, entered, offered...)
	var err error
	p.request, err = p.newcomer.Reply(p.reply)
	check(t, err)
	p.asked, err = p.sponsor.Requested(p.request)
	check(t, err)
	return p
}

// untilAnswer goes as far as the frames of the answer.
func untilAnswer(t failer, size int, c Code) *pair {
	p := untilDecision(t, c, c)
	p.answer = bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	var err error
	p.answerFrames, err = p.sponsor.Accept(p.answer)
	check(t, err)
	return p
}

func TestAddingADevice(t *testing.T) {
	short, long := exampleShort(t), exampleLink(t)
	for name, entered := range map[string]Code{"words": short, "link": long} {
		p := untilDecision(t, entered, short, long)
		if !bytes.Equal(p.asked.Device, p.device) || !p.asked.WantsHistory || !bytes.Equal(p.asked.Peer, newcomerSelf.Peer) {
			t.Errorf("%s: asked %+v", name, p.asked)
		}
		if f := p.asked.Fingerprint; len(f) != FingerprintWords || !slices.Equal(f, p.newcomer.Fingerprint()) {
			t.Errorf("%s: fingerprints %v and %v", name, f, p.newcomer.Fingerprint())
		}
	}
}

func TestAnswers(t *testing.T) {
	c := exampleShort(t)
	rapid.Check(t, func(t *rapid.T) {
		size := rapid.OneOf(rapid.IntRange(1, 2000), rapid.IntRange(piece-3, piece+3), rapid.IntRange(2*piece-3, 2*piece+3), rapid.IntRange(MaxAnswer-1, MaxAnswer)).Draw(t, "size")
		p := untilAnswer(t, size, c)
		for i, f := range p.answerFrames {
			if len(f) > MaxFrame {
				t.Fatalf("frame of %d bytes", len(f))
			}
			got, done, err := p.newcomer.Answer(f)
			if err != nil || done != (i == len(p.answerFrames)-1) || done && !bytes.Equal(got, p.answer) || !done && got != nil {
				t.Fatalf("frame %d of %d: done %v, %v", i, len(p.answerFrames), done, err)
			}
		}
		if _, _, err := p.newcomer.Answer(p.answerFrames[0]); err != ErrOver {
			t.Fatalf("after the end: %v", err)
		}
	})
}

func TestRefusal(t *testing.T) {
	c := exampleShort(t)
	p := untilDecision(t, c, c)
	no, err := p.sponsor.Refuse()
	check(t, err)
	if _, done, err := p.newcomer.Answer(no); err != ErrRefused || done {
		t.Errorf("refusal: %v, %v", done, err)
	}
	if _, err := p.sponsor.Accept([]byte("yes")); err != ErrOver {
		t.Errorf("yes after no: %v", err)
	}
}

// Whatever is not the same on both sides: both learn that the code is wrong
// and the attempt is over.
func TestWrongCode(t *testing.T) {
	short, long := exampleShort(t), exampleLink(t)
	elsewhere := newcomerSelf
	elsewhere.Rendezvous = []byte("another rendezvous")
	otherSlot := short
	otherSlot.Slot = "7422"
	otherLink, err := NewLink(long.Slot, long.Home)
	check(t, err)
	otherShort, err := Parse("7421-crane-lunar-bird")
	check(t, err)
	for name, c := range map[string]struct {
		entered Code
		self    Self
	}{
		"other words":      {otherShort, newcomerSelf},
		"other link":       {otherLink, newcomerSelf},
		"other slot":       {otherSlot, newcomerSelf},
		"other rendezvous": {short, elsewhere},
	} {
		n, enter, err := Enter(c.entered, c.self, []byte("x"), false)
		check(t, err)
		o, err := Offer(sponsorSelf, short, long)
		check(t, err)
		reply, err := o.Entered(enter)
		check(t, err)
		farewell, err := n.Reply(reply)
		if err != ErrWrongCode {
			t.Fatalf("%s: the new machine: %v", name, err)
		}
		if _, err := o.Requested(farewell); err != ErrWrongCode {
			t.Errorf("%s: the old device: %v", name, err)
		}
		if n.Fingerprint() != nil {
			t.Errorf("%s: a fingerprint without a common key", name)
		}
		for _, again := range []error{second(n.Reply(reply)), second(o.Entered(enter)), second(o.Requested(farewell)), second(o.Accept([]byte("x"))), second(o.Refuse())} {
			if again != ErrOver {
				t.Errorf("%s: the attempt goes on: %v", name, again)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

// Only the forms that were shown are accepted: a code of three words cannot
// stand in for a link alone.
func TestFormThatWasNotOffered(t *testing.T) {
	_, enter, err := Enter(exampleShort(t), newcomerSelf, []byte("x"), false)
	check(t, err)
	o, err := Offer(sponsorSelf, exampleLink(t))
	check(t, err)
	if _, err := o.Entered(enter); err != ErrWrongCode {
		t.Errorf("words for a link: %v", err)
	}
}

func TestLimits(t *testing.T) {
	c := exampleShort(t)
	otherSlot := exampleLink(t)
	otherSlot.Slot = "7422"
	noPeer, longPeer := newcomerSelf, newcomerSelf
	noPeer.Peer, longPeer.Peer = nil, make([]byte, 65)
	for name, err := range map[string]error{
		"no request":    third(Enter(c, newcomerSelf, nil, false)),
		"large request": third(Enter(c, newcomerSelf, make([]byte, MaxRequest+1), false)),
		"no code":       third(Enter(Code{}, newcomerSelf, []byte("x"), false)),
		"no peer":       third(Enter(c, noPeer, []byte("x"), false)),
		"long peer":     second(Offer(longPeer, c)),
		"no offer":      second(Offer(sponsorSelf)),
		"zero offer":    second(Offer(sponsorSelf, Code{})),
		"two slots":     second(Offer(sponsorSelf, c, otherSlot)),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	p := untilDecision(t, c, c)
	for _, size := range []int{0, MaxAnswer + 1} {
		if _, err := p.sponsor.Accept(make([]byte, size)); err == nil || err == ErrOver {
			t.Errorf("answer of %d bytes: %v", size, err)
		}
	}
	if _, err := p.sponsor.Accept(make([]byte, 1)); err != nil {
		t.Errorf("a bad answer ended the attempt: %v", err)
	}
	if _, err := (&Sponsor{}).Entered(nil); err != ErrOver {
		t.Error("zero sponsor")
	}
	if _, err := (&Newcomer{}).Reply(nil); err != ErrOver {
		t.Error("zero newcomer")
	}
}

func third[A, B any](_ A, _ B, err error) error { return err }

// Another request, or another attempt with the same one, has other words.
func TestFingerprintIsForThisDeviceAndAttempt(t *testing.T) {
	c := exampleShort(t)
	a, b := untilDecision(t, c, c), untilDecision(t, c, c)
	if slices.Equal(a.asked.Fingerprint, b.asked.Fingerprint) {
		t.Error("two attempts with one fingerprint")
	}
	if slices.Equal(fingerprint(a.newcomer.keys, []byte("one")), fingerprint(a.newcomer.keys, []byte("two"))) {
		t.Error("two devices with one fingerprint")
	}
}

func TestSidesAreHidden(t *testing.T) {
	c := exampleShort(t)
	p := untilDecision(t, c, c)
	secret := p.sponsor.out.key()
	j, err := json.Marshal([]any{p.newcomer, p.sponsor})
	check(t, err)
	holder := struct {
		n *Newcomer
		o *Sponsor
	}{p.newcomer, p.sponsor}
	for _, out := range []string{fmt.Sprintf("%v %+v %#v", p.newcomer, p.newcomer, p.newcomer), fmt.Sprintf("%v %+v %#v", p.sponsor, p.sponsor, p.sponsor), string(j), fmt.Sprintf("%+v", holder), fmt.Sprintf("%+v", *p)} {
		for _, form := range []string{fmt.Sprintf("%x", secret[:4]), strings.Trim(fmt.Sprint(secret[:4]), "[]"), "crane"} {
			if strings.Contains(out, form) {
				t.Errorf("secret shown: %s", out)
			}
		}
	}
}

// Whatever a stranger sends first, the old device does not panic.
func FuzzEntered(f *testing.F) {
	c := exampleShort(f)
	_, enter, err := Enter(c, newcomerSelf, []byte("x"), false)
	check(f, err)
	f.Add(enter)
	f.Fuzz(func(t *testing.T, frame []byte) {
		o, err := Offer(sponsorSelf, c, exampleLink(t))
		check(t, err)
		if reply, err := o.Entered(frame); (reply == nil) == (err == nil) {
			t.Fatal("neither reply nor error")
		}
	})
}

// Nor does the new machine, whoever answers.
func FuzzReplyAndAnswer(f *testing.F) {
	c := exampleShort(f)
	p := untilAnswer(f, 10, c)
	f.Add(p.reply, p.answerFrames[0], byte(last))
	f.Fuzz(func(t *testing.T, reply, text []byte, mark byte) {
		n, _, err := Enter(c, newcomerSelf, []byte("x"), false)
		check(t, err)
		if _, err := n.Reply(reply); err == nil {
			t.Fatal("reply without the code")
		}
		q := untilDecision(t, c, c)
		if len(text) > piece {
			text = text[:piece]
		}
		got, done, err := q.newcomer.Answer(q.sponsor.out.seal([]byte{version, frameAnswer, mark}, text))
		if done && (err != nil || !bytes.Equal(got, text[1:]) || text[0] != accepted || mark != last) {
			t.Fatalf("%x taken as %x", text, got)
		}
	})
}
