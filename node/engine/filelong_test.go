package engine

import (
	"bytes"
	"crypto/rand"
	"image"
	"image/jpeg"
	mathrand "math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/file"
	"github.com/parley-chat/parley/store"
)

// largestFile describes a file of which as much is told as may be in a message.
func largestFile(t *testing.T) *FileDraft {
	t.Helper()
	list := make(file.List, file.MaxInline)
	d, err := file.New().Describe(strings.Repeat("n", file.MaxName), int64(file.MaxInline)*file.PieceSize-1, list)
	if err != nil {
		t.Fatal(err)
	}
	d.Type = "text/" + strings.Repeat("x", file.MaxType-len("text/"))
	noise := image.NewGray(image.Rect(0, 0, 100, 100))
	random := mathrand.New(mathrand.NewPCG(1, 2))
	for i := range noise.Pix {
		noise.Pix[i] = byte(random.Uint32())
	}
	for quality := 100; len(d.Thumbnail) == 0; quality-- {
		var b bytes.Buffer
		if err := jpeg.Encode(&b, noise, &jpeg.Options{Quality: quality}); err != nil {
			t.Fatal(err)
		}
		if b.Len() <= file.MaxThumbnail {
			d.Thumbnail = b.Bytes()
		}
	}
	return &FileDraft{Descriptor: *d, Path: "/a"}
}

// The longest text with the largest description of a file goes to contacts, rooms and own
// devices; and, with many reactions to it, to a device that is added later.
func TestLongestTextWithLargestFile(t *testing.T) {
	w, alices, bobs := crowd(t, 2, 1)
	a, b := alices[0], bobs[0]
	room := a.createRoom("Climbing")
	w.settle()
	a.invite(room, b)
	w.settle()
	b.join(room)
	w.settle()
	text := strings.Repeat("x", protocol.MaxText)
	for _, with := range []protocol.AccountID{b.account(), Conversation(room)} {
		draft := largestFile(t)
		id := a.sendsFile(with, text, draft)
		w.pass(time.Minute)
		for _, n := range w.nodes {
			if f := n.fileOf(id); f.ID != draft.Descriptor.ID || len(f.Thumbnail) < 4<<10 || len(f.Inline) != file.MaxInline || n.message(id).Text != text {
				t.Errorf("%s has not all of it", n.name)
			}
		}
		at := b.fileOf(id).FileRef
		b.do(func(tx store.Tx) (Hint, error) {
			return b.e.do(tx, w.now, func(w *work) error {
				h, _, err := load[historyRow](tx, keyHistory(at.With, at.Position))
				if err != nil {
					return err
				}
				for range 2 * maxPastMarks {
					r := markRow{at: w.now, text: "👩🏿‍❤️‍💋‍👨🏿"}
					rand.Read(r.by[:])
					if _, err := w.setMark(at.With, markReaction, at.Position, r); err != nil {
						return err
					}
				}
				h.marked = true
				return w.put(keyHistory(at.With, at.Position), &h)
			})
		})
	}
	later := w.link(b)
	w.settle()
	b.do(func(tx store.Tx) (Hint, error) { return b.e.SharePast(tx, w.now, later.device(), true) })
	w.pass(time.Hour)
	for _, list := range [][]Message{later.history(a), later.heard(room)} {
		if len(list) != 1 || list[0].Text != text || list[0].File == nil || len(list[0].Reactions) < maxPastMarks/4 {
			t.Errorf("a device that was added later has %d messages", len(list))
		}
	}
	w.checkEmpty()
}
