package node_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parley-chat/parley/node/api"
	"github.com/parley-chat/parley/node/nodetest"
)

// talk is two people who write to each other all the time, each texts messages,
// and everything that arrives.
type talk struct {
	t     testing.TB
	net   *nodetest.Net
	ends  [2]*talker
	texts int
	pace  time.Duration // between two messages of one end; 0: as fast as it goes
	group sync.WaitGroup
}

// talker is one of the two. What it heard is from the other.
type talker struct {
	*nodetest.Person
	with   string
	before uint64 // position of what was there before

	mu    sync.Mutex
	heard map[string]bool // ids of messages
	times []arrival
	wrong []api.Event // messages that could not be opened
}

// arrival is when a text was durable at its reader, and how long after it was
// due.
type arrival struct {
	at   time.Time
	took time.Duration
}

// talkers is how many messages of one end are being composed at a time.
const talkers = 16

func newTalk(t testing.TB, net *nodetest.Net, a, b *nodetest.Person, texts int, pace time.Duration) *talk {
	t.Helper()
	k := &talk{t: t, net: net, texts: texts, pace: pace}
	for i, p := range []*nodetest.Person{a, b} {
		with := []*nodetest.Person{b, a}[i].Name
		k.ends[i] = &talker{Person: p, with: with, heard: map[string]bool{}, before: lastPosition(t, p, with)}
		k.ends[i].listen(t)
	}
	return k
}

func lastPosition(t testing.TB, p *nodetest.Person, with string) uint64 {
	t.Helper()
	page, err := p.History(t.Context(), with, 0, 1)
	if err != nil {
		t.Fatal(err)
	}
	if len(page) == 0 {
		return 0
	}
	return page[0].Position
}

// begin lets both ends write; end waits for that.
func (k *talk) begin() {
	for _, from := range k.ends {
		turns := make(chan turn)
		k.group.Go(func() { k.paced(turns) })
		for range talkers {
			k.group.Go(func() {
				for t := range turns {
					k.write(from, t)
				}
			})
		}
	}
}

// turn is a message and when it is due. Its latency counts from then, also if
// nobody was free to write it.
type turn struct {
	i   int
	due time.Time
}

func (k *talk) paced(turns chan<- turn) {
	defer close(turns)
	due := time.Now()
	for i := range k.texts {
		if k.pace == 0 {
			due = time.Now()
		}
		time.Sleep(time.Until(due))
		turns <- turn{i, due}
		due = due.Add(k.pace)
	}
}

var padding = strings.Repeat("x", 200)

func (k *talk) write(from *talker, t turn) {
	text := fmt.Sprintf("%s %d %d %s", from.Name, t.i, t.due.UnixNano(), padding)
	for {
		_, err := from.Send(k.t.Context(), api.SendRequest{To: from.with, Text: text})
		if codeOf(err) == api.ErrFull { // the queue is bounded
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			k.t.Errorf("%s could not write: %v", from.Name, err)
		}
		return
	}
}

// listen takes down what arrives until the person's node ends.
func (p *talker) listen(t testing.TB) {
	t.Helper()
	last, err := p.LastEvent(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for e, err := range p.Events(ctx, last) {
			if err != nil {
				return
			}
			p.hear(e)
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
}

// hear takes down a text when it is first told of: a gap that was filled is
// told of twice.
func (p *talker) hear(e api.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case e.Kind == "undecryptable":
		p.wrong = append(p.wrong, e)
	case e.Kind == "message" && e.Message.State == api.Received && !p.heard[e.Message.ID]:
		p.heard[e.Message.ID] = true
		now := time.Now()
		var author string
		var i int
		var sent int64
		fmt.Sscan(e.Message.Text, &author, &i, &sent)
		p.times = append(p.times, arrival{now, now.Sub(time.Unix(0, sent))})
	}
}

func (p *talker) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.times)
}

// reached waits until a share of all that both ends write has arrived.
func (k *talk) reached(share float64) {
	k.t.Helper()
	want := int(share * float64(2*k.texts))
	k.net.Wait(fmt.Sprintf("%d messages", want), func() bool { return k.ends[0].count()+k.ends[1].count() >= want })
}

// end waits until everything was written and has arrived, and checks that each
// conversation shows it once.
func (k *talk) end() {
	k.t.Helper()
	k.group.Wait()
	k.reached(1)
	for _, p := range k.ends {
		shown := p.shown(k.t)
		if shown[""] > 0 || len(shown) != k.texts {
			k.t.Errorf("%s has %d different texts and %d gaps, want %d texts", p.Name, len(shown), shown[""], k.texts)
		}
		for text, times := range shown {
			if times != 1 {
				k.t.Errorf("%s has %q %d times", p.Name, text, times)
			}
		}
		p.mu.Lock()
		if len(p.wrong) > 0 {
			k.t.Errorf("%s could not open %d, first %+v", p.Name, len(p.wrong), p.wrong[0])
		}
		p.mu.Unlock()
	}
}

// shown counts each text that a conversation shows of the other. A gap is "".
func (p *talker) shown(t testing.TB) map[string]int {
	t.Helper()
	count := map[string]int{}
	for after := p.before; ; {
		page, err := p.HistoryAfter(t.Context(), p.with, after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return count
		}
		for _, m := range page {
			if !m.Mine {
				count[m.Text]++
			}
		}
		after = page[len(page)-1].Position
	}
}

// pause is the longest time from begun to ended in which nothing arrived at one
// of the ends.
func (k *talk) pause(begun, ended time.Time) (longest time.Duration) {
	for _, p := range k.ends {
		p.mu.Lock()
		last := begun
		for _, a := range p.times {
			if a.at.Before(begun) || a.at.After(ended) {
				continue
			}
			longest, last = max(longest, a.at.Sub(last)), a.at
		}
		p.mu.Unlock()
		longest = max(longest, ended.Sub(last))
	}
	return longest
}

// latencies are how long messages took that arrived from begun to ended, the
// shortest first.
func (k *talk) latencies(begun, ended time.Time) (list []time.Duration) {
	for _, p := range k.ends {
		p.mu.Lock()
		for _, a := range p.times {
			if !a.at.Before(begun) && !a.at.After(ended) {
				list = append(list, a.took)
			}
		}
		p.mu.Unlock()
	}
	slices.Sort(list)
	return list
}
