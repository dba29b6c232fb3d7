package pairing

import (
	"bytes"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vector is one attempt, frame by frame.
type vector struct {
	Comment         string        `json:"comment"`
	Code            string        `json:"code"`
	NewcomerPeer    keytest.Hex   `json:"newcomer_peer"`
	SponsorPeer     keytest.Hex   `json:"sponsor_peer"`
	Rendezvous      keytest.Hex   `json:"rendezvous"`
	NewcomerRandom  keytest.Hex   `json:"newcomer_random"` // before the four highest bits are cleared
	SponsorRandom   keytest.Hex   `json:"sponsor_random"`
	Password        keytest.Hex   `json:"password"`
	Channel         keytest.Hex   `json:"channel"`
	NewcomerAD      keytest.Hex   `json:"newcomer_ad"`
	SponsorAD       keytest.Hex   `json:"sponsor_ad"`
	Device          keytest.Hex   `json:"device_request"`
	History         bool          `json:"wants_history"`
	Enter           keytest.Hex   `json:"frame_enter"`
	Reply           keytest.Hex   `json:"frame_reply"`
	Session         keytest.Hex   `json:"session"`
	KeyFromNewcomer keytest.Hex   `json:"key_from_newcomer"`
	KeyFromSponsor  keytest.Hex   `json:"key_from_sponsor"`
	Request         keytest.Hex   `json:"frame_request"`
	Fingerprint     []string      `json:"fingerprint"`
	Answer          keytest.Hex   `json:"answer"` // empty: refused
	Answers         []keytest.Hex `json:"frames_answer"`
}

func TestVectors(t *testing.T) {
	keytest.Golden(t, "pairing.json", []vector{
		makeVector("three words, accepted", exampleShort(t), 1, []byte("answer")),
		makeVector("a link, refused", exampleLink(t), 0, nil),
	})
}

func makeVector(comment string, c Code, history byte, answer []byte) vector {
	v := vector{
		Comment: comment, Code: c.String(), Device: []byte("device request"), History: history == 1, Answer: answer,
		NewcomerPeer: newcomerSelf.Peer, SponsorPeer: sponsorSelf.Peer, Rendezvous: newcomerSelf.Rendezvous,
		NewcomerRandom: keytest.Seed("newcomer", 32), SponsorRandom: keytest.Seed("sponsor", 32),
	}
	r := newSpecRun(specPassword(byte(c.kind), c.secret()[:]), c.Slot, v.Rendezvous, v.NewcomerPeer, v.SponsorPeer)
	a, b := r.scalar(v.NewcomerRandom), r.scalar(v.SponsorRandom)
	r.shareA, r.shareB = r.share(a), r.share(b)
	r.finish(a, r.shareB)
	v.Password, v.Channel, v.NewcomerAD, v.SponsorAD = r.password, r.channel, r.adA, r.adB
	v.Enter, v.Reply, v.Request = r.enter(byte(c.kind), v.NewcomerPeer), r.reply(v.SponsorPeer), r.request(history, v.Device)
	v.Session, v.KeyFromNewcomer, v.KeyFromSponsor = r.session, r.keyA, r.keyB
	v.Fingerprint = r.fingerprint(v.Device)
	text := append([]byte{1}, answer...)
	if answer == nil {
		text = []byte{2}
	}
	for _, f := range r.answers(text) {
		v.Answers = append(v.Answers, f)
	}
	return v
}

// A newcomer written from the text alone, and our sponsor.
func TestSponsorFollowsTheSpec(t *testing.T) {
	for _, c := range []Code{exampleShort(t), exampleLink(t)} {
		o, err := Offer(sponsorSelf, c)
		check(t, err)
		r := newSpecRun(specPassword(byte(c.kind), c.secret()[:]), c.Slot, newcomerSelf.Rendezvous, newcomerSelf.Peer, sponsorSelf.Peer)
		random := make([]byte, 32)
		rand.Read(random)
		y := r.scalar(random)
		r.shareA = r.share(y)
		reply, err := o.Entered(r.enter(byte(c.kind), newcomerSelf.Peer))
		check(t, err)
		at := 3 + len(sponsorSelf.Peer)
		r.shareB = reply[at : at+32]
		r.finish(y, r.shareB)
		if !bytes.Equal(reply, r.reply(sponsorSelf.Peer)) {
			t.Fatalf("reply %x", reply)
		}
		device := []byte("device request")
		asked, err := o.Requested(r.request(1, device))
		check(t, err)
		if !bytes.Equal(asked.Device, device) || !asked.WantsHistory || !slices.Equal(asked.Fingerprint, r.fingerprint(device)) {
			t.Fatalf("asked %+v", asked)
		}
		answer := bytes.Repeat([]byte("answer"), 30_000)
		frames, err := o.Accept(answer)
		check(t, err)
		want := r.answers(append([]byte{1}, answer...))
		if !slices.EqualFunc(frames, want, bytes.Equal) {
			t.Fatalf("%d frames of an answer, want %d, or other bytes", len(frames), len(want))
		}
	}
}

// The request's own rules, out of the hands of somebody who has the code.
func TestMalformedRequests(t *testing.T) {
	c := exampleShort(t)
	for name, text := range map[string][]byte{
		"neither with history nor without": {2, 'x'},
		"empty":                            {},
		"no device":                        {1},
		"large":                            make([]byte, 1+MaxRequest+1),
	} {
		o, err := Offer(sponsorSelf, c)
		check(t, err)
		r := newSpecRun(specPassword(byte(c.kind), c.secret()[:]), c.Slot, newcomerSelf.Rendezvous, newcomerSelf.Peer, sponsorSelf.Peer)
		y := r.scalar(keytest.Seed("newcomer", 32))
		r.shareA = r.share(y)
		reply, err := o.Entered(r.enter(byte(c.kind), newcomerSelf.Peer))
		check(t, err)
		r.shareB = reply[3+len(sponsorSelf.Peer):][:32]
		r.finish(y, r.shareB)
		if _, err := o.Requested(specSeal(r.keyA, 0, append([]byte{1, 3}, r.tagA...), text)); err != ErrFrame {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A sponsor that has the newcomer's own peer id is the newcomer, or a cheat.
func TestSponsorWithOurPeerID(t *testing.T) {
	c := exampleShort(t)
	n, enter, err := Enter(c, newcomerSelf, []byte("x"), false)
	check(t, err)
	r := newSpecRun(specPassword(byte(c.kind), c.secret()[:]), c.Slot, newcomerSelf.Rendezvous, newcomerSelf.Peer, newcomerSelf.Peer)
	r.shareA = enter[4+len(newcomerSelf.Peer):]
	y := r.scalar(keytest.Seed("sponsor", 32))
	r.shareB = r.share(y)
	r.finish(y, r.shareA)
	if _, err := n.Reply(r.reply(newcomerSelf.Peer)); err != ErrFrame {
		t.Errorf("%v", err)
	}
}

// A sponsor written from the text alone, and our newcomer.
func TestNewcomerFollowsTheSpec(t *testing.T) {
	for _, c := range []Code{exampleShort(t), exampleLink(t)} {
		device := []byte("device request")
		n, enter, err := Enter(c, newcomerSelf, device, true)
		check(t, err)
		r := newSpecRun(specPassword(byte(c.kind), c.secret()[:]), c.Slot, newcomerSelf.Rendezvous, newcomerSelf.Peer, sponsorSelf.Peer)
		r.shareA = enter[4+len(newcomerSelf.Peer):]
		if !bytes.Equal(enter, r.enter(byte(c.kind), newcomerSelf.Peer)) {
			t.Fatalf("enter %x", enter)
		}
		random := make([]byte, 32)
		rand.Read(random)
		y := r.scalar(random)
		r.shareB = r.share(y)
		r.finish(y, r.shareA)
		request, err := n.Reply(r.reply(sponsorSelf.Peer))
		check(t, err)
		if !bytes.Equal(request, r.request(1, device)) || !slices.Equal(n.Fingerprint(), r.fingerprint(device)) {
			t.Fatalf("request %x", request)
		}
		want := bytes.Repeat([]byte("answer"), 30_000)
		for _, f := range r.answers(append([]byte{1}, want...)) {
			answer, done, err := n.Answer(f)
			check(t, err)
			if done && !bytes.Equal(answer, want) {
				t.Fatal("another answer")
			}
		}
	}
}
