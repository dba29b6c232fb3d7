package rendezvous

import (
	"errors"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/protocol"
)

func TestTakeAllOrNothing(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	wide, narrow := rate.NewLimiter(rate.Every(time.Minute), 3), rate.NewLimiter(rate.Every(time.Hour), 1)
	if err := take(now, 1, "tests", wide, narrow); err != nil {
		t.Fatal(err)
	}
	err := take(now, 1, "tests", wide, narrow)
	e, ok := errors.AsType[*protocol.Error](err)
	if !ok || e.Code != protocol.RateLimited || e.RetryAfter != time.Hour {
		t.Fatalf("%v", err)
	}
	if got := wide.TokensAt(now); got != 2 {
		t.Errorf("a refusal cost the other bucket: %v tokens left", got)
	}
	if err := take(now.Add(e.RetryAfter), 1, "tests", wide, narrow); err != nil {
		t.Errorf("after the advised wait: %v", err)
	}
	if err := take(now, 100, "tests", rate.NewLimiter(1, 5)); err != nil {
		t.Errorf("what costs more than the bucket holds costs all of it: %v", err)
	}
}

// Keys come from the network, so there is a bound; a key in use survives.
func TestBucketsAreBounded(t *testing.T) {
	const bound = 10
	made := 0
	b := newBuckets[int](bound, func() int { made++; return made })
	mine := b.get(-1)
	for i := range 1000 {
		b.get(i)
		if got := b.get(-1); got != mine {
			t.Fatalf("a key in use was forgotten after %d others", i)
		}
		if n := len(b.young) + len(b.old); n > 2*bound {
			t.Fatalf("%d keys kept", n)
		}
	}
	if b.get(0) == 2 {
		t.Error("a key long idle was kept")
	}
}
