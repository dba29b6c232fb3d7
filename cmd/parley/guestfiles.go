package main

import (
	"context"
	"strings"

	"github.com/parley-chat/parley/node/api"
)

const guestFilesHelp = "At a terminal a line that is a command about files is not sent but done, as it is shown beside each file:\n" +
	"parley file accept ID (or decline, pause, resume, cancel), parley files, and parley send PATH."

// fileCommand does what a line asks of files, in the words of the commands that do it
// outside of a conversation, and tells whether it was such a line. Only what a person
// types can be one: the lines of a program may be anybody's words.
func (t *roomTalk) fileCommand(ctx context.Context, line string) (was bool, err error) {
	if !t.p.atTerminal() || t.c.Bool("json") {
		return false, nil
	}
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "parley" {
		return false, nil
	}
	switch {
	case words[1] == "files" && len(words) == 2:
		list, err := t.client.Files(ctx, t.with)
		if err != nil {
			return true, err
		}
		return true, t.p.listFiles(t.c, list)
	case words[1] == "file" && len(words) == 4:
		m, err := t.client.ChangeFile(ctx, words[3], words[2], api.FileRequest{})
		if err != nil {
			return true, err
		}
		return true, t.p.sayFile(t.c, m)
	case words[1] == "send" && len(words) > 2:
		_, path, _ := strings.Cut(line, "send")
		full, err := findFile(strings.Trim(strings.TrimSpace(path), `'"`))
		if err != nil {
			return true, err
		}
		m, err := t.p.sendFile(t.c, t.client, api.SendFileRequest{To: t.with, Path: full})
		if err != nil {
			return true, err
		}
		return true, t.p.saySent(t.c, m)
	}
	return false, nil
}
