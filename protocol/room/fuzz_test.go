package room

import (
	"bytes"
	"testing"

	"github.com/parley-chat/parley/protocol/key"
)

func FuzzParseEntry(f *testing.F) {
	c := newCast(f)
	for _, op := range everyOp(f, c) {
		f.Add(encode(f, c.owner.Author, op))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEntry(b)
		if err == nil && (!bytes.Equal(e.Bytes(), b) || !bytes.Equal(e.unsigned(), b[:len(b)-key.SignatureSize])) {
			t.Fatal("not canonical")
		}
	})
}

// Entries with a good signature, by somebody of each role, with any content: what is
// taken can be read back and is lawful, and what is not changes nothing.
func FuzzEntryMeaning(f *testing.F) {
	c := newCast(f)
	for i, op := range everyOp(f, c) {
		f.Add(byte(i), byte(op.Kind()), op.body())
	}
	f.Add(byte(0), byte(KindRemove), c.member.Account[:])
	f.Add(byte(1), byte(KindDevices), Devices{c.member.Account, []byte{0, 0, 0, 0}}.body())
	people := c.everybody()
	f.Fuzz(func(t *testing.T, by, kind byte, body []byte) {
		op, err := parseOp(Kind(kind), body)
		if err != nil || op.Kind() == KindCreate {
			return
		}
		before := dump(c.s)
		next, e, err := c.s.Write(start, people[int(by)%len(people)].Author, op)
		if dump(c.s) != before {
			t.Fatal("the old state changed")
		}
		if err != nil {
			return
		}
		lawful(t, c.s, next, e)
		again, err := ParseEntry(e.Bytes())
		check(t, err)
		back, err := c.s.Extend(again)
		check(t, err)
		if dump(back) != dump(next) {
			t.Fatal("read back otherwise")
		}
	})
}

func FuzzParseFork(f *testing.F) {
	owner := newPerson(f, "owner")
	p := newParty(f, owner)
	_, one, err := p.s.Write(start, owner.Author, Lock{true})
	check(f, err)
	_, two, err := p.s.Write(start, owner.Author, Rotate{})
	check(f, err)
	f.Add((&Fork{p.log, []Entry{one}, []Entry{two}}).Marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		if fork, err := ParseFork(b); err == nil && !bytes.Equal(fork.Marshal(), b) {
			t.Fatal("not canonical")
		}
	})
}

func FuzzOpenSealed(f *testing.F) {
	k := NewStateKey()
	s, err := k.SealAbout([32]byte{}, About{Name: "x"})
	check(f, err)
	f.Add(s.append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := takeSealed(key.NewReader(b))
		if err != nil {
			return
		}
		if about, err := k.OpenAbout([32]byte{}, s); err == nil && about.Name != "x" {
			t.Fatal("opened what was not sealed")
		}
	})
}
