package engine

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/store"
)

// However uploads, lost answers, new starts, stores that are set back and
// rotations follow each other: no id is ever published with another key, and in
// the end every published one-time prekey has its private half.
func TestOTK17_NoPublishedKeyIsOverwritten(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 17))
			w := newWorld(t)
			a := w.add("alice")
			kept := a.copyStore()
			actions := []func(){
				func() { // others claim
					s := a.shelf()
					s.oneTime = s.oneTime[min(len(s.oneTime), 1+rnd.IntN(protocol.PrekeyStock)):]
				},
				func() { a.syncPrekeys() },
				func() { // the answer is lost
					w.home.deaf = true
					a.syncPrekeys()
					w.home.deaf = false
				},
				func() { a.load() },
				func() { kept = a.copyStore() },
				func() { a.kv = kept; a.load(); kept = a.copyStore() },
				func() { a.rotate(RotateSigned) },
				func() { w.now = w.now.Add(time.Duration(1+rnd.IntN(72)) * time.Hour); a.tick() },
			}
			ever := map[protocol.PrekeyID][32]byte{}
			for range 40 {
				actions[rnd.IntN(len(actions))]()
				for _, b := range append([][]byte{a.shelf().signed}, a.shelf().oneTime...) {
					id, sum := recordID(b), sha256.Sum256(b)
					if before, ok := ever[id]; ok && before != sum {
						t.Fatalf("prekey %v was published with another key", id)
					}
					ever[id] = sum
				}
				if a.notices(NoticePrekeyConflict) > 0 {
					t.Fatal("an id was used again")
				}
			}
			for range 3 { // a pause may have to end
				w.now = w.now.Add(2 * resetEvery)
				a.syncPrekeys()
			}
			a.view(func(tx store.Tx) error {
				for _, b := range a.shelf().oneTime {
					if pair, err := loadPair(tx, keyOneTime(recordID(b))); err != nil || pair == nil {
						t.Fatalf("a published key without private half: %v", err)
					}
				}
				return nil
			})
		})
	}
}
