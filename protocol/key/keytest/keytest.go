// Package keytest gives tests fixed keys, since making an RSA key takes up to
// seconds. The keys are public: never use them, or this package, outside of
// tests.
package keytest

import (
	"embed"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/parley-chat/parley/protocol/key"
)

//go:embed testdata
var testdata embed.FS

// RSAKeys is how many RSA keys there are.
const RSAKeys = 2

var rsaKeys = sync.OnceValues(func() (keys [RSAKeys]key.RSAPrivate, err error) {
	for i := range keys {
		text, err := testdata.ReadFile(fmt.Sprintf("testdata/rsa-%d.hex", i+1))
		if err != nil {
			return keys, err
		}
		b, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
		if err != nil {
			return keys, err
		}
		if keys[i], err = key.ParseRSA(b); err != nil {
			return keys, err
		}
	}
	return keys, nil
})

// RSA returns the fixed RSA key number i, from 0 to RSAKeys-1.
func RSA(t testing.TB, i int) key.RSAPrivate {
	t.Helper()
	keys, err := rsaKeys()
	if err != nil {
		t.Fatalf("fixed RSA keys: %v", err)
	}
	return keys[i]
}
