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
	newSelf = Self{Peer: []byte("new machine"), Rendezvous: []byte("rendezvous")}
	oldSelf = Self{Peer: []byte("old device"), Rendezvous: []byte("rendezvous")}
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
	new            *New
	old            *Old
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
	p.new, p.enter, err = Enter(entered, newSelf, p.device, true)
	check(t, err)
	p.old, err = Offer(oldSelf, offered...)
	check(t, err)
	p.reply, err = p.old.Entered(p.enter)
	check(t, err)
	return p
}

// untilDecision goes as far as the question to the person.
func untilDecision(t failer, entered Code, offered ...Code) *pair {
	p := untilReply(t, entered, offered...)
	var err error
	p.request, err = p.new.Reply(p.reply)
	check(t, err)
	p.asked, err = p.old.Requested(p.request)
	check(t, err)
	return p
}

// untilAnswer goes as far as the frames of the answer.
func untilAnswer(t failer, size int, c Code) *pair {
	p := untilDecision(t, c, c)
	p.answer = bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
	var err error
	p.answerFrames, err = p.old.Accept(p.answer)
	check(t, err)
	return p
}

func TestAddingADevice(t *testing.T) {
	short, long := exampleShort(t), exampleLink(t)
	for name, entered := range map[string]Code{"words": short, "link": long} {
		p := untilDecision(t, entered, short, long)
		if !bytes.Equal(p.asked.Device, p.device) || !p.asked.WantsHistory || !bytes.Equal(p.asked.Peer, newSelf.Peer) {
			t.Errorf("%s: asked %+v", name, p.asked)
		}
		if f := p.asked.Fingerprint; len(f) != FingerprintWords || !slices.Equal(f, p.new.Fingerprint()) {
			t.Errorf("%s: fingerprints %v and %v", name, f, p.new.Fingerprint())
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
			got, done, err := p.new.Answer(f)
			if err != nil || done != (i == len(p.answerFrames)-1) || done && !bytes.Equal(got, p.answer) || !done && got != nil {
				t.Fatalf("frame %d of %d: done %v, %v", i, len(p.answerFrames), done, err)
			}
		}
		if _, _, err := p.new.Answer(p.answerFrames[0]); err != ErrOver {
			t.Fatalf("after the end: %v", err)
		}
	})
}

func TestRefusal(t *testing.T) {
	c := exampleShort(t)
	p := untilDecision(t, c, c)
	no, err := p.old.Refuse()
	check(t, err)
	if _, done, err := p.new.Answer(no); err != ErrRefused || done {
		t.Errorf("refusal: %v, %v", done, err)
	}
	if _, err := p.old.Accept([]byte("yes")); err != ErrOver {
		t.Errorf("yes after no: %v", err)
	}
}

// Whatever is not the same on both sides: both learn that the code is wrong
// and the attempt is over.
func TestWrongCode(t *testing.T) {
	short, long := exampleShort(t), exampleLink(t)
	elsewhere := newSelf
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
		"other words":      {otherShort, newSelf},
		"other link":       {otherLink, newSelf},
		"other slot":       {otherSlot, newSelf},
		"other rendezvous": {short, elsewhere},
	} {
		n, enter, err := Enter(c.entered, c.self, []byte("x"), false)
		check(t, err)
		o, err := Offer(oldSelf, short, long)
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
	_, enter, err := Enter(exampleShort(t), newSelf, []byte("x"), false)
	check(t, err)
	o, err := Offer(oldSelf, exampleLink(t))
	check(t, err)
	if _, err := o.Entered(enter); err != ErrWrongCode {
		t.Errorf("words for a link: %v", err)
	}
}

// Somebody who passes the frames on changes one byte, or cuts or lengthens a
// frame: nothing of it is taken, and the attempt is over.
func TestChangedFrames(t *testing.T) {
	c := exampleShort(t)
	changed := func(frame []byte) (all [][]byte) {
		for i := range frame {
			bad := bytes.Clone(frame)
			bad[i] ^= 1
			all = append(all, bad)
		}
		for _, n := range []int{0, 1, 2, 3, len(frame) / 2, len(frame) - 1} {
			all = append(all, frame[:n])
		}
		return append(all, append(bytes.Clone(frame), 0), make([]byte, MaxFrame+1))
	}
	example := untilAnswer(t, 100, c)

	for i, bad := range changed(example.enter) {
		o, err := Offer(oldSelf, c)
		check(t, err)
		n, enter, err := Enter(c, newSelf, []byte("x"), true)
		check(t, err)
		if len(bad) == len(enter) { // the change, in this attempt's own frame
			bad = slices.Clone(enter)
			bad[i] ^= 1
		}
		reply, err := o.Entered(bad)
		if err != nil {
			continue
		}
		if _, err := n.Reply(reply); err != ErrWrongCode && err != ErrFrame {
			t.Errorf("enter, change %d: %v", i, err)
		}
	}
	for i, bad := range changed(example.reply) {
		p := untilReply(t, c, c)
		if len(bad) == len(p.reply) {
			bad = slices.Clone(p.reply)
			bad[i] ^= 1
		}
		if next, err := p.new.Reply(bad); err != ErrWrongCode && err != ErrFrame || len(next) > headerSize {
			t.Errorf("reply, change %d: %v", i, err)
		}
	}
	for i, bad := range changed(example.request) {
		p := untilReply(t, c, c)
		request, err := p.new.Reply(p.reply)
		check(t, err)
		if len(bad) == len(request) {
			bad = slices.Clone(request)
			bad[i] ^= 1
		}
		if _, err := p.old.Requested(bad); err != ErrWrongCode && err != ErrFrame {
			t.Errorf("request, change %d: %v", i, err)
		}
		if _, err := p.old.Accept([]byte("x")); err != ErrOver {
			t.Errorf("request, change %d: yes to nobody: %v", i, err)
		}
	}
	for i, bad := range changed(example.answerFrames[0]) {
		p := untilAnswer(t, 100, c)
		if len(bad) == len(p.answerFrames[0]) {
			bad = slices.Clone(p.answerFrames[0])
			bad[i] ^= 1
		}
		if got, done, err := p.new.Answer(bad); err != ErrFrame || done || got != nil {
			t.Errorf("answer, change %d: %v", i, err)
		}
		if _, _, err := p.new.Answer(p.answerFrames[0]); err != ErrOver {
			t.Errorf("answer, change %d: goes on: %v", i, err)
		}
	}
}

// Frames that come back, twice, out of order or from another attempt.
func TestFramesOutOfPlace(t *testing.T) {
	c := exampleShort(t)

	p := untilReply(t, c, c)
	if _, err := p.new.Reply(p.enter); err != ErrFrame {
		t.Errorf("own frame came back to the new machine: %v", err)
	}
	if _, err := p.old.Requested(p.reply); err != ErrFrame {
		t.Errorf("own frame came back to the old device: %v", err)
	}

	p = untilReply(t, c, c)
	if _, err := p.old.Requested(p.enter); err != ErrFrame {
		t.Errorf("first frame twice: %v", err)
	}
	p = untilReply(t, c, c)
	if _, err := p.old.Entered(p.enter); err != ErrOver {
		t.Errorf("code entered twice: %v", err)
	}
	p, other := untilDecision(t, c, c), untilReply(t, c, c)
	if _, err := other.old.Requested(p.request); err != ErrWrongCode {
		t.Errorf("request of another attempt: %v", err)
	}
	if _, err := other.new.Reply(p.reply); err != ErrWrongCode {
		t.Errorf("reply of another attempt: %v", err)
	}

	big := 3 * piece
	for name, order := range map[string][]int{
		"second first": {1}, "first twice": {0, 0}, "second left out": {0, 2}, "last first": {3},
	} {
		p := untilAnswer(t, big, c)
		var err error
		for _, i := range order {
			_, _, err = p.new.Answer(p.answerFrames[i])
		}
		if err != ErrFrame {
			t.Errorf("%s: %v", name, err)
		}
	}
	p = untilAnswer(t, 100, c)
	if _, _, err := p.new.Answer(p.request); err != ErrFrame {
		t.Errorf("own request came back: %v", err)
	}
	p = untilAnswer(t, 100, c)
	reflected := append([]byte{version, frameAnswer, last}, p.request[headerSize+64:]...)
	if _, _, err := p.new.Answer(reflected); err != ErrFrame {
		t.Errorf("own request came back as an answer: %v", err)
	}
}

// Both machines the same, or both in one role: no key.
func TestRoles(t *testing.T) {
	c := exampleShort(t)
	o, err := Offer(newSelf, c)
	check(t, err)
	_, enter, err := Enter(c, newSelf, []byte("x"), false)
	check(t, err)
	if _, err := o.Entered(enter); err != ErrFrame {
		t.Errorf("adding oneself: %v", err)
	}
	a, _, err := Enter(c, newSelf, []byte("x"), false)
	check(t, err)
	_, enterB, err := Enter(c, oldSelf, []byte("x"), false)
	check(t, err)
	if _, err := a.Reply(enterB); err != ErrFrame {
		t.Errorf("two new machines: %v", err)
	}
}

// The answer's own rules, out of the hands of somebody who has the code.
func TestMalformedAnswers(t *testing.T) {
	c := exampleShort(t)
	for name, pieces := range map[string][]struct {
		mark byte
		text []byte
	}{
		"empty":               {{last, nil}},
		"yes without content": {{last, []byte{accepted}}},
		"no with content":     {{last, []byte{refused, 1}}},
		"neither yes nor no":  {{last, []byte{3, 1}}},
		"short piece":         {{more, []byte{accepted, 1}}},
		"other mark":          {{2, []byte{accepted, 1}}},
		"mark on a full one":  {{2, append([]byte{accepted}, make([]byte, piece-1)...)}},
	} {
		p := untilDecision(t, c, c)
		var err error
		for _, pc := range pieces {
			_, _, err = p.new.Answer(p.old.out.seal([]byte{version, frameAnswer, pc.mark}, pc.text))
		}
		if err != ErrFrame {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := untilDecision(t, c, c)
	full := make([]byte, piece)
	full[0] = accepted
	n := 0
	for ; n < 100; n++ {
		if _, _, err := p.new.Answer(p.old.out.seal([]byte{version, frameAnswer, more}, full)); err != nil {
			break
		}
	}
	if n != MaxAnswer/piece {
		t.Errorf("%d frames of an answer without end were kept", n)
	}
}

func TestLimits(t *testing.T) {
	c := exampleShort(t)
	otherSlot := exampleLink(t)
	otherSlot.Slot = "7422"
	noPeer, longPeer := newSelf, newSelf
	noPeer.Peer, longPeer.Peer = nil, make([]byte, 65)
	for name, err := range map[string]error{
		"no request":    third(Enter(c, newSelf, nil, false)),
		"large request": third(Enter(c, newSelf, make([]byte, MaxRequest+1), false)),
		"no code":       third(Enter(Code{}, newSelf, []byte("x"), false)),
		"no peer":       third(Enter(c, noPeer, []byte("x"), false)),
		"long peer":     second(Offer(longPeer, c)),
		"zero offer":    second(Offer(oldSelf, Code{})),
		"two slots":     second(Offer(oldSelf, c, otherSlot)),
	} {
		if err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	p := untilDecision(t, c, c)
	for _, size := range []int{0, MaxAnswer + 1} {
		if _, err := p.old.Accept(make([]byte, size)); err == nil || err == ErrOver {
			t.Errorf("answer of %d bytes: %v", size, err)
		}
	}
	if _, err := p.old.Accept(make([]byte, 1)); err != nil {
		t.Errorf("a bad answer ended the attempt: %v", err)
	}
	if _, err := (&Old{}).Entered(nil); err != ErrOver {
		t.Error("zero Old")
	}
	if _, err := (&New{}).Reply(nil); err != ErrOver {
		t.Error("zero New")
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
	if slices.Equal(fingerprint(a.new.keys, []byte("one")), fingerprint(a.new.keys, []byte("two"))) {
		t.Error("two devices with one fingerprint")
	}
}

func TestSidesAreHidden(t *testing.T) {
	c := exampleShort(t)
	p := untilDecision(t, c, c)
	secret := p.old.out.key()
	j, err := json.Marshal([]any{p.new, p.old})
	check(t, err)
	holder := struct {
		n *New
		o *Old
	}{p.new, p.old}
	for _, out := range []string{fmt.Sprintf("%v %+v %#v", p.new, p.new, p.new), fmt.Sprintf("%v %+v %#v", p.old, p.old, p.old), string(j), fmt.Sprintf("%+v", holder), fmt.Sprintf("%+v", *p)} {
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
	_, enter, err := Enter(c, newSelf, []byte("x"), false)
	check(f, err)
	f.Add(enter)
	f.Fuzz(func(t *testing.T, frame []byte) {
		o, err := Offer(oldSelf, c, exampleLink(t))
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
		n, _, err := Enter(c, newSelf, []byte("x"), false)
		check(t, err)
		if _, err := n.Reply(reply); err == nil {
			t.Fatal("reply without the code")
		}
		q := untilDecision(t, c, c)
		if len(text) > piece {
			text = text[:piece]
		}
		got, done, err := q.new.Answer(q.old.out.seal([]byte{version, frameAnswer, mark}, text))
		if done && (err != nil || !bytes.Equal(got, text[1:]) || text[0] != accepted || mark != last) {
			t.Fatalf("%x taken as %x", text, got)
		}
	})
}
