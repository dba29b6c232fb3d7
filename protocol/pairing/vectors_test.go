package pairing

import (
	"crypto/rand"
	"testing"
	"testing/cryptotest"

	"github.com/parley-chat/parley/protocol/key/keytest"
)

// vector is one attempt, frame by frame.
type vector struct {
	Comment     string        `json:"comment"`
	Code        string        `json:"code"`
	NewPeer     keytest.Hex   `json:"newcomer_peer"`
	OldPeer     keytest.Hex   `json:"sponsor_peer"`
	Rendezvous  keytest.Hex   `json:"rendezvous"`
	RandomNew   keytest.Hex   `json:"random_newcomer"` // before the four highest bits are cleared
	RandomOld   keytest.Hex   `json:"random_sponsor"`
	Password    keytest.Hex   `json:"password"`
	Channel     keytest.Hex   `json:"channel"`
	ADNew       keytest.Hex   `json:"ad_newcomer"`
	ADOld       keytest.Hex   `json:"ad_sponsor"`
	Device      keytest.Hex   `json:"device_request"`
	History     bool          `json:"wants_history"`
	Enter       keytest.Hex   `json:"frame_enter"`
	Reply       keytest.Hex   `json:"frame_reply"`
	Session     keytest.Hex   `json:"session"`
	KeyFromNew  keytest.Hex   `json:"key_from_newcomer"`
	KeyFromOld  keytest.Hex   `json:"key_from_sponsor"`
	Request     keytest.Hex   `json:"frame_request"`
	Fingerprint []string      `json:"fingerprint"`
	Answer      keytest.Hex   `json:"answer"` // empty: refused
	Answers     []keytest.Hex `json:"frames_answer"`
}

// The random bytes of both sides are the first that Go's test source gives; if
// a later Go gives others, the vectors are to be made anew.
func TestVectors(t *testing.T) {
	keytest.Golden(t, "pairing.json", []vector{
		makeVector(t, "three words, accepted", exampleShort(t), true, []byte("answer")),
		makeVector(t, "a link, refused", exampleLink(t), false, nil),
	})
}

func makeVector(t *testing.T, comment string, c Code, history bool, answer []byte) vector {
	v := vector{
		Comment: comment, Code: c.String(), Password: c.password(), Channel: common(c, newcomerSelf.Rendezvous).Channel,
		NewPeer: newcomerSelf.Peer, OldPeer: sponsorSelf.Peer, Rendezvous: newcomerSelf.Rendezvous,
		ADNew: adNewcomer(newcomerSelf.Peer), ADOld: adSponsor(sponsorSelf.Peer),
		Device: []byte("device request"), History: history, Answer: answer,
		RandomNew: make([]byte, 32), RandomOld: make([]byte, 32),
	}
	cryptotest.SetGlobalRandom(t, 1)
	rand.Read(v.RandomNew)
	rand.Read(v.RandomOld)
	cryptotest.SetGlobalRandom(t, 1)

	n, enter, err := Enter(c, newcomerSelf, v.Device, history)
	check(t, err)
	o, err := Offer(sponsorSelf, c)
	check(t, err)
	v.Enter = enter
	v.Reply, err = o.Entered(enter)
	check(t, err)
	v.Request, err = n.Reply(v.Reply)
	check(t, err)
	out := fromNewcomer(n.keys)
	v.Session, v.KeyFromNew, v.KeyFromOld = n.keys.Session(), out.key()[:], n.in.key()[:]
	asked, err := o.Requested(v.Request)
	check(t, err)
	v.Fingerprint = asked.Fingerprint
	if answer == nil {
		no, err := o.Refuse()
		check(t, err)
		v.Answers = append(v.Answers, no)
		return v
	}
	frames, err := o.Accept(answer)
	check(t, err)
	for _, f := range frames {
		v.Answers = append(v.Answers, f)
	}
	return v
}
