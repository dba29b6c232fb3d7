package engine

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/parley-chat/parley/protocol/prekey"
)

// Private keys stand in ephemeral rows and nowhere else, so that replacing the
// key of these rows destroys the keys that were deleted.
func TestKLC04_PrivateKeysAreInEphemeralRows(t *testing.T) {
	w, a, b := pair(t)
	a.send(b, "a text")
	w.settle()
	id := a.e.Identity()
	secrets := map[string][]byte{
		"account key": a.aik().Bytes(), "recovery key": a.recovery().Bytes(), "signing key": id.DSK.Bytes(),
		"identity key": id.DIK.Bytes(), "host key": id.Host.Seed(), "RSA prime": a.rsaKey().Bytes()[:256],
	}
	for _, table := range []byte{tableSigned, tableOneTime} {
		for i, row := range a.rows(table) {
			var r pairRow
			w.check(r.decode(row.Value))
			pair, err := prekey.ParsePair(r.pair)
			w.check(err)
			secrets[fmt.Sprintf("prekey %c %d", table, i)] = pair.X25519()
		}
	}
	found := map[string]bool{}
	for table := range 256 {
		for _, row := range a.rows(byte(table)) {
			for what, secret := range secrets {
				if !bytes.Contains(row.Value, secret) {
					continue
				}
				found[what] = true
				if !Ephemeral(row.Key) {
					t.Errorf("the %s is in a row of table %c", what, table)
				}
			}
		}
	}
	if len(found) != len(secrets) || len(secrets) < 20 {
		t.Errorf("found only %d of %d secrets", len(found), len(secrets))
	}
	for _, row := range a.rows(tableSession) {
		if !Ephemeral(row.Key) {
			t.Error("a session is in a lasting row")
		}
	}
}
