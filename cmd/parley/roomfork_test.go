package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/account"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/room"
)

// forkOfRoom is a room whose founder signed two logs, of one and of two entries more.
func forkOfRoom(t *testing.T) *room.Fork {
	t.Helper()
	now := time.Unix(1_700_000_000, 0)
	check := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	aik, device := key.NewAccount(), key.NewDevice()
	chain, err := account.Create(now, aik, key.NewRecovery().Public())
	check(err)
	cert, err := account.NewCert(aik, account.Cert{
		Account: chain.Account(), Signing: device.Public(), Identity: key.NewIdentity().Public(), PeerID: key.NewHost().Public().PeerID(),
		MinProto: 1, MaxProto: 1, Created: now, NotAfter: now.AddDate(1, 0, 0), Name: "laptop",
	})
	check(err)
	chain, err = chain.AddDevice(now, aik, cert)
	check(err)
	author := room.Author{Account: chain.Account(), Device: cert.DeviceID(), Key: device}
	base, first, err := room.NewRoom(now, author, chain)
	check(err)
	_, lock, err := base.Write(now, author, room.Lock{On: true})
	check(err)
	next, rotate, err := base.Write(now, author, room.Rotate{})
	check(err)
	_, again, err := next.Write(now, author, room.Rotate{})
	check(err)
	return &room.Fork{Common: []room.Entry{first}, Ours: []room.Entry{lock}, Theirs: []room.Entry{rotate, again}}
}

// What parley room fork --evidence writes, parley evidence check checks, without a node.
func TestEvidenceOfAFork(t *testing.T) {
	fork := forkOfRoom(t)
	whole := fork.Marshal()
	check := func(content []byte, flags ...string) (string, int) {
		path := filepath.Join(t.TempDir(), "logs")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return command(t, t.TempDir(), append([]string{"evidence", "check", path}, flags...)...)
	}
	id := fork.Common[0].Room().String()
	if out, code := check(whole); code != exitOK || !strings.Contains(out, id) || !strings.Contains(out, "after entry 0") {
		t.Errorf("%d: %s", code, out)
	}
	out, code := check(whole, "--json")
	var found forkFound
	if err := json.Unmarshal([]byte(out), &found); err != nil || code != exitOK || found.Room != id || found.Ours != 1 || found.Theirs != 2 {
		t.Errorf("%d: %s (%v)", code, out, err)
	}
	bent := append([]byte{}, whole...)
	bent[len(bent)-1] ^= 1
	for name, content := range map[string][]byte{
		"bent": bent, "cut": whole[:len(whole)-1],
		"the same twice": (&room.Fork{Common: fork.Common, Ours: fork.Ours, Theirs: fork.Ours}).Marshal(),
	} {
		if out, code := check(content); code != exitUnverified || !strings.Contains(out, "parley room fork ROOM --evidence FILE") {
			t.Errorf("%s: %d: %s", name, code, out)
		}
	}
}
