package engine

import (
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key/keytest"
	"github.com/parley-chat/parley/protocol/prekey"
)

// What was sealed to the signed prekey and the RSA key before they were replaced
// opens until their time is over, and not after.
func TestKLC03_PreviousKeysWithinTheOverlap(t *testing.T) {
	for name, test := range map[string]struct {
		late time.Duration
		want protocol.Code
	}{
		"at once":      {time.Minute, protocol.OK},
		"at the end":   {prekey.SignedKeep - 24*time.Hour, protocol.OK},
		"after it all": {prekey.SignedKeep + 24*time.Hour, protocol.StaleKey},
	} {
		t.Run(name, func(t *testing.T) {
			w, a, b := pair(t)
			w.settle()
			b.shelf().oneTime = nil // so that nothing but the signed prekey decides
			w.home.deaf = true
			w.now = w.now.Add(time.Minute)
			a.loseSessions(b)
			a.away, a.offline = false, false
			a.send(b, "sealed to the previous keys")
			a.lookUp(b.account(), true)
			queue := a.queue(b)
			if len(queue) == 0 {
				t.Fatal("nothing was sealed")
			}
			w.home.deaf = false
			a.away, a.offline = true, true
			signed, rsa := b.prekeyStatus().Signed, b.prekeyStatus().RSA
			b.rotate(RotateAll)
			b.addRSA(keytest.RSA(t, 1))
			w.pass(test.late)
			if s := b.prekeyStatus(); s.Signed == signed || s.RSA == rsa {
				t.Fatalf("not replaced: %+v", s)
			}
			if code := b.receive(queue[0].Envelope, a.device(), Direct); code != test.want {
				t.Fatalf("%v, want %v", code, test.want)
			}
			if n := len(b.history(a)); (n == 1) != (test.want == protocol.OK) {
				t.Errorf("%d messages", n)
			}
		})
	}
}
