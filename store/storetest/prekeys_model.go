package storetest

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parley-chat/parley/store"
)

// testPrekeyModel uploads, claims, retries and sweeps at random and compares
// with a queue in memory: first in, first out, each key once, ever.
func testPrekeyModel(t *testing.T, r store.Rendezvous) {
	_, device := person(t, r, "alice")
	bob, _ := person(t, r, "bob")
	ok(t, r.PutSigned(ctx, device, signed(1, 1000*month), start))
	now, used, epoch := start, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		now = now.Add(24 * time.Hour) // what an earlier run left has expired
		epoch++
		type queued struct {
			n       int
			expires time.Time
		}
		var queue []queued
		answers := map[int]string{}
		alive := func() {
			kept := queue[:0]
			for _, q := range queue {
				if q.expires.After(now) {
					kept = append(kept, q)
				}
			}
			queue = kept
		}
		steps := rapid.IntRange(1, 30).Draw(t, "steps")
		for range steps {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0: // upload new keys and old ones
				var keys []store.OneTimePrekey
				for range rapid.IntRange(1, 6).Draw(t, "keys") {
					k := oneTime(used)
					k.Expires = now.Add(time.Duration(rapid.IntRange(1, 10).Draw(t, "hours")) * time.Hour)
					queue = append(queue, queued{used, k.Expires})
					keys = append(keys, k)
					used++
				}
				if used > 20 {
					old := oneTime(used - 20)
					old.Expires = now.Add(-time.Second) // if it was forgotten, it is expired
					keys = append(keys, old)
				}
				if _, err := r.PutOneTime(ctx, device, keys, 1000, now); err != nil {
					t.Fatal(err)
				}
			case 1, 2: // claim, or repeat a claim
				alive()
				nonce := epoch*10 + rapid.IntRange(0, 5).Draw(t, "nonce")
				p := claim(bob, device, nonce)
				p.Now = now
				c, err := r.Claim(ctx, p)
				if err != nil {
					t.Fatal(err)
				}
				want, repeated := answers[nonce]
				if !repeated && len(queue) > 0 {
					want = fmt.Sprintf("record %d", queue[0].n)
					queue = queue[1:]
				}
				if string(c.OneTime) != want || c.Retry != repeated {
					t.Fatalf("claimed %q, retry %v, want %q, %v", c.OneTime, c.Retry, want, repeated)
				}
				answers[nonce] = want
			case 3:
				now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "minutes")) * time.Minute)
				clear(answers) // what was answered may have expired,
				epoch++        // so the nonces are new
			case 4:
				alive()
				if _, err := r.Sweep(ctx, now); err != nil {
					t.Fatal(err)
				}
				n, err := r.CountPrekeys(ctx, device, now)
				if err != nil || n.OneTime != len(queue) {
					t.Fatalf("count %d, %v, want %d", n.OneTime, err, len(queue))
				}
			}
		}
	})
}
