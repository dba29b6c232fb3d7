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
	NewPeer     keytest.Hex   `json:"new_peer"`
	OldPeer     keytest.Hex   `json:"old_peer"`
	Rendezvous  keytest.Hex   `json:"rendezvous"`
	RandomNew   keytest.Hex   `json:"random_new"` // before the four highest bits are cleared
	RandomOld   keytest.Hex   `json:"random_old"`
	Password    keytest.Hex   `json:"password"`
	Channel     keytest.Hex   `json:"channel"`
	ADNew       keytest.Hex   `json:"ad_new"`
	ADOld       keytest.Hex   `json:"ad_old"`
	Device      keytest.Hex   `json:"device_request"`
	History     bool          `json:"wants_history"`
	Enter       keytest.Hex   `json:"frame_enter"`
	Reply       keytest.Hex   `json:"frame_reply"`
	Session     keytest.Hex   `json:"session"`
	KeyFromNew  keytest.Hex   `json:"key_from_new"`
	KeyFromOld  keytest.Hex   `json:"key_from_old"`
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
		Comment: comment, Code: c.String(), Password: c.password(), Channel: common(c, newSelf.Rendezvous).Channel,
		NewPeer: newSelf.Peer, OldPeer: oldSelf.Peer, Rendezvous: newSelf.Rendezvous,
		ADNew: adNew(newSelf.Peer), ADOld: adOld(oldSelf.Peer),
		Device: []byte("device request"), History: history, Answer: answer,
		RandomNew: make([]byte, 32), RandomOld: make([]byte, 32),
	}
	cryptotest.SetGlobalRandom(t, 1)
	rand.Read(v.RandomNew)
	rand.Read(v.RandomOld)
	cryptotest.SetGlobalRandom(t, 1)

	n, enter, err := Enter(c, newSelf, v.Device, history)
	check(t, err)
	o, err := Offer(oldSelf, c)
	check(t, err)
	v.Enter = enter
	v.Reply, err = o.Entered(enter)
	check(t, err)
	v.Request, err = n.Reply(v.Reply)
	check(t, err)
	out := fromNew(n.keys)
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
