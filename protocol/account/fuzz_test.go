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

// Statements with a good signature and any content: what is accepted can be
// read back, and nothing brings a revoked device back.
func FuzzStatementMeaning(f *testing.F) {
	o := newOwner(f)
	o.addDevice(f, "laptop")
	old := o.addDevice(f, "old")
	chain, err := o.chain.RevokeDevice(start, o.aik, old.DeviceID(), Lost, start)
	check(f, err)
	o.chain = chain
	for kind, body := range [][]byte{
		opGenesis:      append(o.aik.Public().Bytes(), o.rk.Public().Bytes()...),
		opAddDevice:    o.cert(f, "new").Marshal(),
		opRevokeDevice: revokeBody(chain.Devices(start)[0].DeviceID(), Lost, start),
		opRotateAIK:    make([]byte, 96),
		opRotateRK:     make([]byte, 96),
		opClose:        nil,
	} {
		f.Add(byte(kind), body, kind == int(opRotateRK))
	}
	f.Add(byte(opAddDevice), old.Marshal(), false)
	f.Fuzz(func(t *testing.T, kind byte, body []byte, byRecovery bool) {
		k, signer := signing(o.aik), o.aik.Public().Bytes()
		if byRecovery {
			k, signer = o.rk, o.rk.Public().Bytes()
		}
		s := o.forge(t, k, signer, func(s *statement) { s.op, s.body = op(kind), body })
		next, err := o.chain.apply(s)
		if err != nil {
			return
		}
		reparse(t, next)
		if _, ok := next.Device(old.DeviceID()); ok || !next.Extends(o.chain) {
			t.Fatal("history was undone")
		}
	})
}
