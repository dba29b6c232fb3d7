package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/parley-chat/parley/node/engine"
	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/wire"
	"github.com/parley-chat/parley/store"
)

const (
	maxLookups    = 4  // at a time, in the background
	lookupsPerSec = 20 // whoever sends us envelopes can cause look-ups
	lookupsBurst  = 100
	maxWanted     = 2 * protocol.MaxContacts
	lookupRetry   = 5 * time.Second

	logTries = 3 // of a question, while answers to others move the log on
)

// lookups asks the rendezvous who accounts are. What it answers is verified by
// the engine. Looks for one account at one time are one look.
type lookups struct {
	n       *Node
	more    nudge
	pace    *rate.Limiter
	flights singleflight.Group

	mu     sync.Mutex
	wanted map[protocol.AccountID]want
	nonces map[string][16]byte // per account or name, until its prekeys were used
}

// want is a look-up that is to be made.
type want struct {
	prekeys bool // with one prekey per device, to open sessions with
	from    time.Time
	running bool
	anew    bool // asked for once more while it runs: its answer may be too old
}

func newLookups(n *Node) *lookups {
	return &lookups{
		n: n, more: newNudge(), pace: rate.NewLimiter(lookupsPerSec, lookupsBurst),
		wanted: map[protocol.AccountID]want{}, nonces: map[string][16]byte{},
	}
}

// want asks for look-ups in the background. When there are too many, those that
// are left out are asked for again by the engine's Tick.
func (l *lookups) want(accounts []protocol.AccountID, prekeys bool) {
	if len(accounts) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range accounts {
		w, ok := l.wanted[a]
		if !ok && len(l.wanted) >= maxWanted {
			continue
		}
		w.prekeys, w.from, w.anew = w.prekeys || prekeys, time.Time{}, w.running
		l.wanted[a] = w
	}
	l.more.push()
}

// retryAll makes everything due: the rendezvous is back.
func (l *lookups) retryAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, w := range l.wanted {
		w.from, w.anew = time.Time{}, w.running
		l.wanted[a] = w
	}
	l.more.push()
}

// retry makes a look-up of an account due, if one is wanted: a device of it may
// now be asked for its prekey.
func (l *lookups) retry(a protocol.AccountID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.wanted[a]
	if !ok || !w.prekeys || w.running {
		return
	}
	w.from = time.Time{}
	l.wanted[a] = w
	l.more.push()
}

// run makes the look-ups that are wanted until ctx ends.
func (l *lookups) run(ctx context.Context) error {
	var running sync.WaitGroup
	defer running.Wait()
	slots := make(chan struct{}, maxLookups)
	for {
		a, w, wait := l.take()
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-l.more:
			case <-timer.C:
			}
			timer.Stop()
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		running.Go(func() {
			l.done(a, w, l.look(ctx, a, w.prekeys))
			<-slots
		})
	}
}

// take returns a look-up that is due, or the time until there is one.
func (l *lookups) take() (a protocol.AccountID, w want, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	wait = time.Hour
	up := l.n.home.isUp() // the welcome wakes us; until then devices may be asked for their prekeys
	for a, w := range l.wanted {
		if w.running || !up && !w.prekeys {
			continue
		}
		if left := time.Until(w.from); left > 0 {
			wait = min(wait, left)
			continue
		}
		l.wanted[a] = want{running: true}
		return a, w, 0
	}
	return a, w, wait
}

// done puts a look-up that could not be made back; the engine keeps count of
// those that were refused.
func (l *lookups) done(a protocol.AccountID, made want, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.wanted[a]
	code := protocol.CodeOf(err)
	failed := errors.Is(err, ErrOffline) || errors.Is(err, engine.ErrLogMoved) || code == protocol.RateLimited || code == protocol.Unavailable
	if !failed && !now.anew {
		delete(l.wanted, a)
		return
	}
	w := want{prekeys: now.prekeys || failed && made.prekeys}
	if !now.anew {
		w.from = time.Now().Add(lookupWait(err))
	}
	l.wanted[a] = w
	l.more.push()
}

// lookupWait is how long to wait after a look-up that could not be made.
func lookupWait(err error) time.Duration {
	refusal, ok := errors.AsType[*protocol.Error](err)
	if !ok {
		return lookupRetry
	}
	return max(lookupRetry, refusal.RetryAfter)
}

// fetch looks an account up, without prekeys, while somebody waits.
func (l *lookups) fetch(ctx context.Context, a protocol.AccountID) error {
	return l.look(ctx, a, false)
}

func (l *lookups) look(ctx context.Context, a protocol.AccountID, prekeys bool) error {
	return l.n.share(ctx, &l.flights, fmt.Sprint(a, prekeys), func(ctx context.Context) error {
		return l.lookNow(ctx, a, prekeys)
	})
}

func (l *lookups) lookNow(ctx context.Context, a protocol.AccountID, prekeys bool) error {
	if err := l.pace.Wait(ctx); err != nil {
		return fmt.Errorf("wait for a turn to look up: %w", err)
	}
	req := &wire.Lookup{Account: a[:]}
	if prekeys {
		if all, err := l.askDevices(ctx, a); all || err != nil {
			return err
		}
		req.Nonce = l.nonce(string(a[:]))
	}
	err := untilSettled(func() error { return l.lookOnce(ctx, a, req) })
	if err == nil && prekeys {
		l.forget(string(a[:]))
	}
	return err
}

func (l *lookups) lookOnce(ctx context.Context, a protocol.AccountID, req *wire.Lookup) error {
	asked := l.n.now()
	found, err := l.ask(ctx, req)
	if refusal, ok := errors.AsType[*protocol.Error](err); ok {
		return errors.Join(err, l.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
			return l.n.eng.LookupFailed(tx, l.n.now(), a, refusal)
		}))
	}
	if err != nil {
		return err
	}
	return l.learn(ctx, a, asked, found)
}

// untilSettled asks and takes in the answer, again if the log moved on
// meanwhile.
func untilSettled(try func() error) (err error) {
	for range logTries {
		if err = try(); !errors.Is(err, engine.ErrLogMoved) {
			break
		}
	}
	return err
}

// learn hands an answer to the engine, which verifies it.
func (l *lookups) learn(ctx context.Context, a protocol.AccountID, asked time.Time, found *wire.Found) error {
	chain, err := account.ParseChain(found.GetChain())
	if err != nil || chain.Account() != a {
		err = fmt.Errorf("%w: not about the account that was asked for", engine.ErrBadAnswer)
		return l.alarm(ctx, a, err)
	}
	err = l.n.do(ctx, func(tx store.Tx) (engine.Hint, error) { return l.n.eng.SetAccount(tx, l.n.now(), asked, found) })
	if err == nil {
		return l.n.refreshPeers(ctx) // devices may have come and gone
	}
	if !engine.IsAlarm(err) {
		return fmt.Errorf("keep account: %w", err)
	}
	return l.alarm(ctx, a, err)
}

// alarm tells the engine that an answer does not verify.
func (l *lookups) alarm(ctx context.Context, a protocol.AccountID, err error) error {
	return errors.Join(protocol.Refuse(protocol.BadSignature, "%v", err), l.tell(ctx, a, err))
}

func (l *lookups) tell(ctx context.Context, a protocol.AccountID, err error) error {
	l.n.log.Error("the rendezvous's answer is wrong", "account", a, "err", err)
	return l.n.do(ctx, func(tx store.Tx) (engine.Hint, error) {
		return l.n.eng.LookupFailed(tx, l.n.now(), a, err)
	})
}

// byName looks a name up with prekeys, for a contact request. When the request
// was made of it, call forget(name): until then a retry gets the same prekeys.
func (l *lookups) byName(ctx context.Context, name string) (*wire.Found, error) {
	return l.ask(ctx, &wire.Lookup{Name: name, Nonce: l.nonce(name)})
}

// refused returns err, of the answer to a person's own question, and gives the
// alarm if it was a lie.
func (l *lookups) refused(ctx context.Context, found *wire.Found, err error) error {
	if !engine.IsAlarm(err) {
		return err
	}
	var a protocol.AccountID
	if chain, err := account.ParseChain(found.GetChain()); err == nil {
		a = chain.Account()
	}
	return errors.Join(err, l.tell(ctx, a, err))
}

func (l *lookups) ask(ctx context.Context, req *wire.Lookup) (*wire.Found, error) {
	return l.askBy(ctx, l.n.home.call, req)
}

// askBy looks up by one of the ways to call the rendezvous. The answer proves
// that its log continues the part that is known here.
func (l *lookups) askBy(ctx context.Context, call caller, req *wire.Lookup) (*wire.Found, error) {
	size, err := read(ctx, l.n.kv, l.n.eng.LogSize)
	if err != nil {
		return nil, err
	}
	req.LogSize = size
	resp, err := call(ctx, &wire.Request{Call: &wire.Request_Lookup{Lookup: req}})
	if err != nil {
		return nil, fmt.Errorf("look up account: %w", err)
	}
	found := resp.GetFound()
	if found.GetLog() != nil {
		found.Log.From = req.LogSize // we know what was asked
	}
	return found, nil
}

type caller func(context.Context, *wire.Request) (*wire.Response, error)

// nonce names one claim of prekeys: the rendezvous gives the same ones for the
// same nonce, so a retry after a lost answer uses up no more of them.
func (l *lookups) nonce(of string) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	nonce, ok := l.nonces[of]
	if !ok {
		if len(l.nonces) >= maxWanted {
			clear(l.nonces)
		}
		rand.Read(nonce[:])
		l.nonces[of] = nonce
	}
	return nonce[:]
}

func (l *lookups) forget(of string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.nonces, of)
}

// lookupRefusal is the code for an envelope whose sender could not be looked
// up: nobody of that name, or try again. An answer that was refused says nothing
// of the sender: the envelope is kept for one that holds.
func lookupRefusal(err error) *protocol.Error {
	if protocol.CodeOf(err) == protocol.UnknownAccount {
		return protocol.Refuse(protocol.BadRequest, "unknown sender")
	}
	return protocol.Refuse(protocol.Unavailable, "the sender cannot be looked up now")
}
