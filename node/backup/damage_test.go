package backup

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"

	"filippo.io/age"
)

// TestEveryByteFlipped: no damage opens, and none makes us work for long.
func TestEveryByteFlipped(t *testing.T) {
	h, history := sample(t)
	s := secret(t)
	whole := write(t, s, h, history[:1])
	for i := range whole {
		b := bytes.Clone(whole)
		b[i] ^= 1 << (i % 8)
		got, err := open(b, s)
		if got != nil || !errors.Is(err, ErrDamaged) && !errors.Is(err, ErrWrongSecret) && !errors.Is(err, ErrNotBackup) {
			t.Fatalf("byte %d of %d: %v, %v", i, len(whole), got != nil, err)
		}
	}
}

func TestTruncatedFile(t *testing.T) {
	h, history := sample(t)
	s := secret(t)
	whole := write(t, s, h, history)
	for n := 0; n < len(whole); n += 7 {
		if got, err := open(whole[:n], s); got != nil || err == nil {
			t.Fatalf("the first %d of %d bytes open: %v", n, len(whole), err)
		}
	}
	if _, err := open(append(bytes.Clone(whole), 0), s); !errors.Is(err, ErrDamaged) {
		t.Errorf("a byte more: %v", err)
	}
}

// inside decrypts a backup.
func inside(t testing.TB, b []byte) []byte {
	t.Helper()
	id, err := secret(t).identity()
	if err != nil {
		t.Fatal(err)
	}
	r, err := age.Decrypt(bytes.NewReader(b), id)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// reseal makes an age file of what is inside one.
func reseal(t testing.TB, plain []byte) []byte {
	t.Helper()
	r, err := secret(t).recipient()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// boundaries are where the records of plain begin, and its end.
func boundaries(plain []byte) (at []int) {
	for i := len(magic) + 2; i < len(plain); {
		at = append(at, i)
		i += 5 + int(uint32(plain[i+1])<<24|uint32(plain[i+2])<<16|uint32(plain[i+3])<<8|uint32(plain[i+4]))
	}
	return append(at, len(plain))
}

// TestCutAtEachRecord: a file that somebody with the passphrase cut between two
// records, so that age has nothing to say, is not whole for us.
func TestCutAtEachRecord(t *testing.T) {
	h, history := sample(t)
	plain := inside(t, write(t, secret(t), h, history))
	at := boundaries(plain)
	if len(at) != 1+2+2+1+1 {
		t.Fatalf("%d boundaries", len(at))
	}
	for i, end := range at[:len(at)-1] {
		if _, err := open(reseal(t, plain[:end]), secret(t)); !errors.Is(err, ErrDamaged) {
			t.Errorf("cut before record %d: %v", i, err)
		}
		next := at[i+1]
		left := append(bytes.Clone(plain[:end]), plain[next:]...)
		if _, err := open(reseal(t, left), secret(t)); !errors.Is(err, ErrDamaged) {
			t.Errorf("without record %d: %v", i, err)
		}
		twice := append(bytes.Clone(plain[:next]), plain[end:]...)
		if _, err := open(reseal(t, twice), secret(t)); !errors.Is(err, ErrDamaged) {
			t.Errorf("record %d twice: %v", i, err)
		}
	}
}

func TestNewerVersionAndOtherFiles(t *testing.T) {
	h, history := sample(t)
	plain := inside(t, write(t, secret(t), h, history))
	newer := bytes.Clone(plain)
	newer[len(magic)+1] = version + 1
	if _, err := open(reseal(t, newer), secret(t)); !errors.Is(err, ErrNewer) {
		t.Errorf("a later version: %v", err)
	}
	if _, err := open(reseal(t, []byte("my diary")), secret(t)); !errors.Is(err, ErrNotBackup) {
		t.Errorf("another age file: %v", err)
	}
	for _, b := range [][]byte{nil, []byte("PNG"), []byte(strings.Repeat("x", 5000))} {
		if _, err := open(b, secret(t)); !errors.Is(err, ErrNotBackup) {
			t.Errorf("another file: %v", err)
		}
	}
}

// TestWorkIsBounded: a file cannot ask for gigabytes of scrypt.
func TestWorkIsBounded(t *testing.T) {
	h, _ := sample(t)
	b := write(t, secret(t), h, nil)
	dear := bytes.Replace(b, []byte(" 10\n"), []byte(" 19\n"), 1)
	if bytes.Equal(b, dear) {
		t.Fatal("no work factor in the header")
	}
	if _, err := open(dear, secret(t)); !errors.Is(err, ErrDamaged) {
		t.Errorf("work factor 19: %v", err)
	}
}

// FuzzParse: nothing inside an age file makes the parser panic or read for
// ever, and what it takes can be written, and is then the same.
func FuzzParse(f *testing.F) {
	h, history := sample(f)
	plain := inside(f, write(f, secret(f), h, history))
	f.Add(plain)
	for _, end := range boundaries(plain) {
		f.Add(plain[:end])
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		b, err := parse(bytes.NewReader(plain), int64(len(plain)))
		if err != nil {
			if b != nil {
				t.Error("part of a damaged backup")
			}
			return
		}
		h := b.Head
		again, err := parseHead(h.marshal())
		if err != nil {
			t.Fatal(err)
		}
		if again.Created != h.Created || !reflect.DeepEqual(again.Member.Home, h.Member.Home) {
			t.Error("the head changes")
		}
		messages := 0
		for p, err := range b.History() {
			if err != nil {
				t.Fatal(err)
			}
			messages += len(p.GetMessages())
		}
		if messages != b.Messages {
			t.Errorf("%d messages, and %d", messages, b.Messages)
		}
	})
}

// FuzzHead: what is read of a head is what is written.
func FuzzHead(f *testing.F) {
	h, _ := sample(f)
	f.Add(h.marshal())
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := parseHead(b)
		if err == nil && !bytes.Equal(h.marshal(), b) {
			t.Error("another encoding of the same head")
		}
	})
}
