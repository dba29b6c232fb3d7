package message

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/parley-chat/parley/protocol"
	"github.com/parley-chat/parley/protocol/key"
	"github.com/parley-chat/parley/protocol/key/keytest"
)

// header is that of a message in the middle of a chain.
func header() Header {
	return Header{
		View:   View{Room: [32]byte{1}, Epoch: 5, Seq: 7, Head: [32]byte{2}},
		Device: protocol.DeviceID{3},
		Chain:  [32]byte{4},
		Number: 12,
		N:      2,
	}
}

func signer(t testing.TB) key.DevicePrivate {
	t.Helper()
	k, err := key.ParseDevice(keytest.Seed("device", 32))
	check(t, err)
	return k
}

// sign is a message with what stands for a sealed text of n bytes.
func sign(t testing.TB, h Header, n int) []byte {
	t.Helper()
	b, err := Sign(signer(t), append(h.Append(nil), make([]byte, minSealed+n)...))
	check(t, err)
	return b
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestSignVerify(t *testing.T) {
	b := sign(t, header(), 256)
	m, err := Parse(b)
	check(t, err)
	if m.Header != header() || m.First() != 10 || len(b) != Overhead+256 || m.ID() != protocol.IDOf(b) {
		t.Errorf("parsed %+v", m.Header)
	}
	raw, sealed := m.Sealed()
	if !bytes.Equal(raw, m.Header.Append(nil)) || len(sealed) != minSealed+256 {
		t.Errorf("%d bytes sealed behind a header of %d", len(sealed), len(raw))
	}
	v, err := m.Verify(signer(t).Public())
	if err != nil || !bytes.Equal(v.Message().Bytes(), b) {
		t.Errorf("verify: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	good := sign(t, header(), 256)
	for name, damage := range map[string]func(b []byte) []byte{
		"nothing":                   func(b []byte) []byte { return nil },
		"too short":                 func(b []byte) []byte { return b[:Overhead-1] },
		"too long":                  func(b []byte) []byte { return append(b, make([]byte, protocol.MaxEnvelope-len(b)+1)...) },
		"other version":             func(b []byte) []byte { b[0] = 2; return b },
		"ratchet message":           func(b []byte) []byte { b[1] = 1; return b },
		"first flag":                func(b []byte) []byte { b[2] = 1; return b },
		"second flag":               func(b []byte) []byte { b[3] = 1; return b },
		"head older than its epoch": func(b []byte) []byte { binary.BigEndian.PutUint64(b[offSeq:], 4); return b },
		"n too large": func(b []byte) []byte {
			binary.BigEndian.PutUint64(b[offNumber:], 5000)
			binary.BigEndian.PutUint32(b[offN:], MaxChain)
			return b
		},
		"number too large":     func(b []byte) []byte { binary.BigEndian.PutUint64(b[offNumber:], MaxNumber+1); return b },
		"chain begins with 0":  func(b []byte) []byte { binary.BigEndian.PutUint64(b[offNumber:], 2); return b },
		"chain begins below 0": func(b []byte) []byte { binary.BigEndian.PutUint64(b[offNumber:], 1); return b },
	} {
		if _, err := Parse(damage(bytes.Clone(good))); err != ErrMalformed {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, ok := range map[string][]byte{
		"nothing sealed":   good[:Overhead],
		"longest":          append(bytes.Clone(good), make([]byte, protocol.MaxEnvelope-len(good))...),
		"last in a chain":  sign(t, Header{Number: MaxNumber, N: MaxChain - 1}, 0),
		"first of a room":  sign(t, Header{Number: 1}, 0),
		"head is of epoch": sign(t, Header{View: View{Epoch: 3, Seq: 3}, Number: 1}, 0),
	} {
		if _, err := Parse(ok); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Any flipped bit makes the message malformed or forged.
func TestAnyFlippedBit(t *testing.T) {
	good := sign(t, header(), 256)
	for i := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[i/8] ^= 1 << (i % 8)
		m, err := Parse(bad)
		if err == nil {
			_, err = m.Verify(signer(t).Public())
		}
		if err != ErrMalformed && err != ErrForged {
			t.Fatalf("bit %d: %v", i, err)
		}
	}
}

// A signature counts for room messages only, and only of the named device.
func TestVerifyRefuses(t *testing.T) {
	good := sign(t, header(), 256)
	unsigned := good[:len(good)-key.SignatureSize]
	elsewhere, err := signer(t).Sign("prekey", unsigned)
	check(t, err)
	split, err := signer(t).Sign(purpose, unsigned[:headerSize], unsigned[headerSize:])
	check(t, err)
	for name, sig := range map[string][]byte{
		"none":            make([]byte, key.SignatureSize),
		"another purpose": elsewhere,
		"in two parts":    split,
	} {
		m, err := Parse(append(bytes.Clone(unsigned), sig...))
		check(t, err)
		if v, err := m.Verify(signer(t).Public()); err != ErrForged || v.m.raw != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	m, err := Parse(good)
	check(t, err)
	for name, k := range map[string]key.DevicePublic{"another key": key.NewDevice().Public(), "no key": {}} {
		if _, err := m.Verify(k); err != ErrForged {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := (Message{}).Verify(signer(t).Public()); err != ErrForged {
		t.Errorf("zero message: %v", err)
	}
}

func TestSignRefuses(t *testing.T) {
	if _, err := Sign(signer(t), header().Append(nil)); err != ErrMalformed {
		t.Errorf("nothing sealed: %v", err)
	}
	if _, err := Sign(signer(t), append(Header{}.Append(nil), make([]byte, minSealed)...)); err != ErrMalformed {
		t.Errorf("impossible header: %v", err)
	}
	if _, err := Sign(key.DevicePrivate{}, append(header().Append(nil), make([]byte, minSealed)...)); err == nil {
		t.Error("signed without a key")
	}
}

func FuzzParse(f *testing.F) {
	f.Add(sign(f, header(), 256))
	f.Add(sign(f, Header{Number: MaxNumber, N: MaxChain - 1}, 0))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			if err != ErrMalformed {
				t.Fatal(err)
			}
			return
		}
		raw, sealed := m.Sealed()
		if !bytes.Equal(m.Header.Append(nil), raw) || len(raw)+len(sealed)+key.SignatureSize != len(b) {
			t.Fatal("not canonical")
		}
		if m.First() == 0 || m.First() > MaxNumber {
			t.Fatal("a chain begins nowhere")
		}
		if _, err := m.Verify(key.DevicePublic{}); err != ErrForged {
			t.Fatal("verified without a key")
		}
	})
}
