package main

import (
	"context"
	"slices"
	"time"

	"github.com/parley-chat/parley/cmd/parley/display"
	"github.com/parley-chat/parley/node/api"
)

// roomEntries is the log of a room, oldest first.
func roomEntries(ctx context.Context, client *api.Client, room string) (all []api.RoomEntry, err error) {
	for before := uint64(0); ; {
		page, err := client.RoomLog(ctx, room, before, api.MaxRoomLog)
		if err != nil || len(page) == 0 {
			slices.Reverse(all)
			return all, err
		}
		slices.Reverse(page)
		all = append(all, page...)
		if before = page[len(page)-1].Seq; before == 0 {
			slices.Reverse(all)
			return all, nil
		}
	}
}

// exportLog writes who did what in a room, behind what was said there.
func exportLog(ctx context.Context, client *api.Client, out exportFormat, t talk) error {
	all, err := roomEntries(ctx, client, t.room)
	if err != nil || len(all) == 0 {
		return err
	}
	if err := out.conversation(t.title + ", who did what"); err != nil {
		return err
	}
	for _, e := range all {
		if err := out.entry(t.room, e); err != nil {
			return err
		}
	}
	return nil
}

func (e *exportJSON) entry(room string, entry api.RoomEntry) error {
	return writeJSON(e.w, struct {
		Room  string        `json:"room"`
		Entry api.RoomEntry `json:"entry"`
	}{room, entry})
}

func (e *exportMarkdown) entry(_ string, entry api.RoomEntry) error {
	return e.print("\n%s %s\n", markdownLine(entryTime(entry)), markdownLine(display.Clean(entry.Text)))
}

func (e *exportHTML) entry(_ string, entry api.RoomEntry) error {
	return pages.ExecuteTemplate(e.w, "entry", [2]string{entryTime(entry), display.Clean(entry.Text)})
}

func entryTime(e api.RoomEntry) string { return e.Time.Local().Format(time.DateOnly + " 15:04") }
