package pairing

import (
	"bytes"
	"slices"
	"testing"
)

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
		o, err := Offer(sponsorSelf, c)
		check(t, err)
		n, enter, err := Enter(c, newcomerSelf, []byte("x"), true)
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
		if next, err := p.newcomer.Reply(bad); err != ErrWrongCode && err != ErrFrame || len(next) > headerSize {
			t.Errorf("reply, change %d: %v", i, err)
		}
	}
	for i, bad := range changed(example.request) {
		p := untilReply(t, c, c)
		request, err := p.newcomer.Reply(p.reply)
		check(t, err)
		if len(bad) == len(request) {
			bad = slices.Clone(request)
			bad[i] ^= 1
		}
		if _, err := p.sponsor.Requested(bad); err != ErrWrongCode && err != ErrFrame {
			t.Errorf("request, change %d: %v", i, err)
		}
		if _, err := p.sponsor.Accept([]byte("x")); err != ErrOver {
			t.Errorf("request, change %d: yes to nobody: %v", i, err)
		}
	}
	for i, bad := range changed(example.answerFrames[0]) {
		p := untilAnswer(t, 100, c)
		if len(bad) == len(p.answerFrames[0]) {
			bad = slices.Clone(p.answerFrames[0])
			bad[i] ^= 1
		}
		if got, done, err := p.newcomer.Answer(bad); err != ErrFrame || done || got != nil {
			t.Errorf("answer, change %d: %v", i, err)
		}
		if _, _, err := p.newcomer.Answer(p.answerFrames[0]); err != ErrOver {
			t.Errorf("answer, change %d: goes on: %v", i, err)
		}
	}
}

// Frames that come back, twice, out of order or from another attempt.
func TestFramesOutOfPlace(t *testing.T) {
	c := exampleShort(t)

	p := untilReply(t, c, c)
	if _, err := p.newcomer.Reply(p.enter); err != ErrFrame {
		t.Errorf("own frame came back to the new machine: %v", err)
	}
	if _, err := p.sponsor.Requested(p.reply); err != ErrFrame {
		t.Errorf("own frame came back to the old device: %v", err)
	}

	p = untilReply(t, c, c)
	if _, err := p.sponsor.Requested(p.enter); err != ErrFrame {
		t.Errorf("first frame twice: %v", err)
	}
	p = untilReply(t, c, c)
	if _, err := p.sponsor.Entered(p.enter); err != ErrOver {
		t.Errorf("code entered twice: %v", err)
	}
	p, other := untilDecision(t, c, c), untilReply(t, c, c)
	if _, err := other.sponsor.Requested(p.request); err != ErrWrongCode {
		t.Errorf("request of another attempt: %v", err)
	}
	if _, err := other.newcomer.Reply(p.reply); err != ErrWrongCode {
		t.Errorf("reply of another attempt: %v", err)
	}

	big := 3 * piece
	for name, order := range map[string][]int{
		"second first": {1}, "first twice": {0, 0}, "second left out": {0, 2}, "last first": {3},
	} {
		p := untilAnswer(t, big, c)
		var err error
		for _, i := range order {
			_, _, err = p.newcomer.Answer(p.answerFrames[i])
		}
		if err != ErrFrame {
			t.Errorf("%s: %v", name, err)
		}
	}
	p = untilAnswer(t, 100, c)
	if _, _, err := p.newcomer.Answer(p.request); err != ErrFrame {
		t.Errorf("own request came back: %v", err)
	}
	p = untilAnswer(t, 100, c)
	reflected := append([]byte{version, frameAnswer, last}, p.request[headerSize+64:]...)
	if _, _, err := p.newcomer.Answer(reflected); err != ErrFrame {
		t.Errorf("own request came back as an answer: %v", err)
	}
}

// Both machines the same, or both in one role: no key.
func TestRoles(t *testing.T) {
	c := exampleShort(t)
	o, err := Offer(newcomerSelf, c)
	check(t, err)
	_, enter, err := Enter(c, newcomerSelf, []byte("x"), false)
	check(t, err)
	if _, err := o.Entered(enter); err != ErrFrame {
		t.Errorf("adding oneself: %v", err)
	}
	a, _, err := Enter(c, newcomerSelf, []byte("x"), false)
	check(t, err)
	_, enterB, err := Enter(c, sponsorSelf, []byte("x"), false)
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
			_, _, err = p.newcomer.Answer(p.sponsor.out.seal([]byte{version, frameAnswer, pc.mark}, pc.text))
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
		if _, _, err := p.newcomer.Answer(p.sponsor.out.seal([]byte{version, frameAnswer, more}, full)); err != nil {
			break
		}
	}
	if n != MaxAnswer/piece {
		t.Errorf("%d frames of an answer without end were kept", n)
	}
}
