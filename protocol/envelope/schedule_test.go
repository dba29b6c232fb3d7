package envelope

import (
	"bytes"
	"testing"
)

// The session depends on every leg and on the transcript: who lacks one of
// them has nothing.
func TestEveryLegMatters(t *testing.T) {
	type input struct {
		transcript    [32]byte
		dh, shared, r []byte
	}
	derive := func(in input) (schedule, Secrets) {
		k, err := newSchedule(in.transcript, in.dh, in.shared)
		if err != nil {
			t.Fatal(err)
		}
		s, err := k.secrets(in.r)
		if err != nil {
			t.Fatal(err)
		}
		return k, s
	}
	base := input{[32]byte{1}, bytes.Repeat([]byte{2}, 128), bytes.Repeat([]byte{3}, 32), bytes.Repeat([]byte{4}, 32)}
	schedule, secrets := derive(base)
	flip := func(b []byte, i int) []byte {
		b = bytes.Clone(b)
		b[i] ^= 1
		return b
	}
	changed := map[string]input{
		"transcript": {[32]byte{9}, base.dh, base.shared, base.r},
		"ML-KEM":     {base.transcript, base.dh, flip(base.shared, 31), base.r},
		"RSA":        {base.transcript, base.dh, base.shared, flip(base.r, 0)},
		"DH1":        {base.transcript, flip(base.dh, 0), base.shared, base.r},
		"DH2":        {base.transcript, flip(base.dh, 32), base.shared, base.r},
		"DH3":        {base.transcript, flip(base.dh, 64), base.shared, base.r},
		"DH4":        {base.transcript, flip(base.dh, 127), base.shared, base.r},
	}
	for name, in := range changed {
		k, s := derive(in)
		if *s.Root() == *secrets.Root() || s.AD == secrets.AD || s.Session == secrets.Session {
			t.Errorf("%s does not matter", name)
		}
		if (k.precheck == schedule.precheck) != (name == "RSA") {
			t.Errorf("%s: precheck", name) // it must not need the RSA leg
		}
	}
}
