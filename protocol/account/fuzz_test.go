package account

import (
	"bytes"
	"testing"
)

func FuzzParseCert(f *testing.F) {
	o := newOwner(f)
	f.Add(o.cert(f, "laptop").Marshal())
	f.Add(o.cert(f, "").Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseCert(b)
		if err == nil && !bytes.Equal(c.Marshal(), b) {
			t.Fatal("not canonical")
		}
	})
}

func FuzzParseChain(f *testing.F) {
	o := newOwner(f)
	f.Add(o.chain.Bytes())
	cert := o.addDevice(f, "laptop")
	next, err := o.chain.RevokeDevice(start, o.aik, cert.DeviceID(), Lost, start)
	check(f, err)
	f.Add(next.Bytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := ParseChain(b)
		if err == nil && !bytes.Equal(c.Bytes(), b) {
			t.Fatal("not canonical")
		}
	})
}

// Signatures stop a fuzzer early; statements are also read alone.
func FuzzParseStatement(f *testing.F) {
	o := newOwner(f)
	f.Add(o.chain.Bytes()[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseStatement(b)
		if err == nil && !bytes.Equal(s.marshal(), b) {
			t.Fatal("not canonical")
		}
	})
}
