package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// Claims is the workload of a rendezvous that is killed while it hands out
// prekeys: four claimers and one device that publishes. No prekey is ever
// handed out to two claims, and a claim that was answered before the kill gets
// the same answer after it.
func Claims(over func(store.KV) (store.Rendezvous, error)) Crash {
	device, claimer := deviceID("alice", 0), accountID("bob")
	return Crash{
		Name: "claims",
		Work: func(kv store.KV, ack func(string, ...any)) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			ready := errors.Join(
				r.Register(ctx, registration("alice", 1)),
				r.PutSigned(ctx, device, signed(1, 0), start))
			if ready != nil {
				return ready
			}
			errs := make(chan error)
			go func() {
				for {
					from := rand.IntN(1 << 30)
					if _, err := r.PutOneTime(ctx, device, oneTimes(from, from+20), 200, start); err != nil {
						errs <- err
						return
					}
				}
			}()
			for range 4 {
				go func() {
					for {
						nonce := rand.Int()
						c, err := r.Claim(ctx, claim(claimer, device, nonce))
						if err != nil {
							errs <- err
							return
						}
						ack("%d %s", nonce, c.OneTime)
					}
				}()
			}
			return <-errs
		},
		Check: func(kv store.KV, acks []string) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			claimed := map[string]string{}
			for _, line := range acks {
				nonce, record, _ := strings.Cut(line, " ")
				if other, twice := claimed[record]; twice && record != "" && other != nonce {
					return fmt.Errorf("%s went to claims %s and %s", record, other, nonce)
				}
				claimed[record] = nonce
			}
			for _, line := range acks {
				var n int
				fmt.Sscan(line, &n)
				c, err := r.Claim(ctx, claim(claimer, device, n))
				if err != nil {
					return err
				}
				if again := fmt.Sprintf("%d %s", n, c.OneTime); again != line || !c.Retry {
					return fmt.Errorf("the retry of claim %q got %q", line, again)
				}
			}
			return nil
		},
	}
}

// Letters is the workload of a rendezvous that is killed while mail comes in:
// whatever was answered OK waits in the mailbox, each once, and the counters
// agree with what is there.
func Letters(over func(store.KV) (store.Rendezvous, error)) Crash {
	device := deviceID("alice", 0)
	return Crash{
		Name: "letters",
		Work: func(kv store.KV, ack func(string, ...any)) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			if err := r.Register(ctx, registration("alice", 1)); err != nil {
				return err
			}
			errs := make(chan error)
			for w := range 4 {
				go func() {
					sender := accountID(fmt.Sprint("sender", w))
					for {
						text := fmt.Sprintf("%d %d", w, rand.Int())
						mail := []store.Mail{letter(sender, device, text), letter(sender, device, text+" copy")}
						codes, err := r.Put(ctx, mail, store.Quotas{})
						if err != nil || codes[0] != protocol.OK || codes[1] != protocol.OK {
							errs <- fmt.Errorf("put: %v, %w", codes, err)
							return
						}
						ack("%s", text)
						if rand.IntN(4) == 0 { // a lost answer: the same again
							if _, err := r.Put(ctx, mail, store.Quotas{}); err != nil {
								errs <- err
								return
							}
						}
					}
				}()
			}
			return <-errs
		},
		Check: func(kv store.KV, acks []string) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			return checkLetters(r, device, acks)
		},
	}
}

func checkLetters(r store.Rendezvous, device protocol.DeviceID, acks []string) error {
	mail, err := r.Fetch(ctx, device, 0, 1<<30, 1<<40, start.Add(time.Hour))
	if err != nil {
		return err
	}
	waits, bytes, last := map[string]int{}, 0, uint64(0)
	for _, m := range mail {
		if m.Seq <= last {
			return fmt.Errorf("mail %d after %d", m.Seq, last)
		}
		last = m.Seq
		bytes += len(m.Envelope)
		waits[string(m.Envelope)]++
	}
	for text, n := range waits {
		base := strings.TrimSuffix(text, " copy")
		if n != 1 || waits[base] != waits[base+" copy"] {
			return fmt.Errorf("%q waits %d times, without its other half, or twice", text, n)
		}
	}
	for _, text := range acks {
		if waits[text] != 1 {
			return fmt.Errorf("%q was accepted and is not there", text)
		}
	}
	u, err := r.MailboxUsage(ctx, device)
	if err == nil && (u.Count != len(mail) || u.Bytes != bytes) {
		err = fmt.Errorf("usage is %+v for %d envelopes of %d bytes", u, len(mail), bytes)
	}
	return err
}

// Chains is the workload of a rendezvous that is killed while an account grows
// and its device starts again and again: what was answered is there whole, and
// a start from before it is refused.
func Chains(over func(store.KV) (store.Rendezvous, error)) Crash {
	alice, device := accountID("alice"), deviceID("alice", 0)
	at := func(seq uint64) store.StoreStart { return store.StoreStart{Counter: seq, Start: [16]byte{1}} }
	return Crash{
		Name: "chains",
		Work: func(kv store.KV, ack func(string, ...any)) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			if err := r.Register(ctx, registration("alice", 1)); err != nil {
				return err
			}
			a, err := r.Account(ctx, alice)
			if err != nil {
				return err
			}
			for seq := a.ChainSeq + 1; ; seq++ {
				if err := r.SetChain(ctx, chain("alice", seq, 0, int(seq))); err != nil {
					return err
				}
				if err := r.CheckStore(ctx, device, at(seq)); err != nil {
					return err
				}
				ack("%d", seq)
			}
		},
		Check: func(kv store.KV, acks []string) error {
			r, err := over(kv)
			if err != nil {
				return err
			}
			a, err := r.Account(ctx, alice)
			if err != nil {
				return err
			}
			var last uint64
			fmt.Sscan(acks[len(acks)-1], &last)
			want := chain("alice", a.ChainSeq)
			if a.ChainSeq < last || string(a.Chain) != string(want.Chain) {
				return fmt.Errorf("the chain is at %d after %d, with %d bytes", a.ChainSeq, last, len(a.Chain))
			}
			heads, err := r.Heads(ctx, alice)
			if err != nil || len(heads) != 1 || string(heads[0].Hash[:]) != string(a.ChainHead[:16]) {
				return fmt.Errorf("heads %x, %w; the chain has %x", heads, err, a.ChainHead)
			}
			devices, err := r.Devices(ctx, alice)
			if err != nil || uint64(len(devices)) != a.ChainSeq { // one at the genesis, and one with each statement but the first
				return fmt.Errorf("%d devices at %d, %w", len(devices), a.ChainSeq, err)
			}
			for _, start := range []store.StoreStart{at(last - 1), {Counter: last, Start: [16]byte{2}}} {
				if err := r.CheckStore(ctx, device, start); protocol.CodeOf(err) != protocol.StoreRolledBack {
					return fmt.Errorf("start %d after %d: %v", start.Counter, last, err)
				}
			}
			return nil
		},
	}
}
