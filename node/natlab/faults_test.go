//go:build linux

package natlab

import (
	"strings"
	"testing"
	"time"
)

func TestCutAndHeal(t *testing.T) {
	t.Parallel()
	lab := New(t, Sites{"A": {Kind: Cone, Hosts: 2}, "B": {Kind: None}}, Public(2))
	servers := serve(t, lab, "A1", "B1", "R1", "R2")
	for _, c := range []struct {
		cut      string
		from, to string // cannot talk while it is cut
		stillOK  [2]string
	}{
		{"A", "A1", "R1", [2]string{"A2", "A1"}},
		{"A2", "A2", "R1", [2]string{"A1", "R1"}},
		{"A2", "A2", "A1", [2]string{"A1", "R2"}},
		{"B", "R1", "B1", [2]string{"R2", "R1"}},
		{"R1", "R2", "R1", [2]string{"A1", "R2"}},
		{"R1", "A1", "R1", [2]string{"A1", "B1"}},
	} {
		t.Run(c.cut+" between "+c.from+" and "+c.to, func(t *testing.T) {
			seen(t, lab, c.from, "udp", "4001", lab.IP(c.to))
			lab.Cut(c.cut)
			lab.Cut(c.cut) // again: no matter
			before := servers[c.to].Output()
			silent(t, lab, c.from, "udp", lab.IP(c.to))
			silent(t, lab, c.from, "tcp", lab.IP(c.to))
			if after := servers[c.to].Output(); after != before {
				t.Errorf("%s was reached: %s", c.to, strings.TrimPrefix(after, before))
			}
			seen(t, lab, c.stillOK[0], "udp", "4001", lab.IP(c.stillOK[1]))
			lab.Heal(c.cut)
			lab.Heal(c.cut)
			seen(t, lab, c.from, "udp", "4001", lab.IP(c.to))
			seen(t, lab, c.from, "tcp", "4001", lab.IP(c.to))
		})
	}
}

func TestUDPOffAndOn(t *testing.T) {
	t.Parallel()
	lab := New(t, Sites{"A": {Kind: Cone}}, Public(1))
	server := serve(t, lab, "R1")["R1"]
	lab.UDP("A", false)
	silent(t, lab, "A1", "udp", lab.IP("R1"))
	if got := server.Output(); got != "ready\n" {
		t.Errorf("R1 was reached: %s", got)
	}
	seen(t, lab, "A1", "tcp", "4001", lab.IP("R1"))
	lab.Cut("A")
	lab.Heal("A") // heals the cut only
	silent(t, lab, "A1", "udp", lab.IP("R1"))
	lab.UDP("A", true)
	seen(t, lab, "A1", "udp", "4001", lab.IP("R1"))
}

// While A1 has the public port, A2 must take another one. When the router has
// forgotten A1 the port is free.
func TestFlushForgetsMappings(t *testing.T) {
	t.Parallel()
	lab := New(t, Sites{"A": {Kind: Cone, Hosts: 2}}, Public(1))
	serve(t, lab, "R1")
	port := lab.PublicIP("A") + ":4001"
	if got := seen(t, lab, "A1", "udp", "4001", lab.IP("R1"))[0]; got != port {
		t.Fatalf("A1 is seen as %s, want %s", got, port)
	}
	lab.Flush("A")
	if got := seen(t, lab, "A2", "udp", "4001", lab.IP("R1"))[0]; got != port {
		t.Errorf("after Flush A2 is seen as %s, want %s", got, port)
	}
	if got := seen(t, lab, "A1", "udp", "4001", lab.IP("R1"))[0]; got == port {
		t.Errorf("A1 is seen as %s, which A2 has now", got)
	}
}

func TestRoam(t *testing.T) {
	t.Parallel()
	lab := New(t, Sites{"A": {Kind: Cone}, "B": {Kind: Symmetric}}, Public(1))
	serve(t, lab, "R1")
	old := lab.PublicIP("A1")
	for range 2 {
		fresh := lab.Roam("A")
		if fresh == old || fresh != lab.PublicIP("A1") {
			t.Fatalf("roamed from %s to %s, PublicIP says %s", old, fresh, lab.PublicIP("A1"))
		}
		// The same socket address as before: its old mapping must be gone.
		for _, network := range []string{"udp", "tcp"} {
			if got, want := seen(t, lab, "A1", network, "4001", lab.IP("R1"))[0], fresh+":4001"; got != want {
				t.Errorf("after Roam seen as %s by %s, want %s", got, network, want)
			}
		}
		old = fresh
	}
	seen(t, lab, "B1", "udp", "4001", lab.IP("R1"))
}

func TestDelay(t *testing.T) {
	t.Parallel()
	lab := New(t, Sites{"A": {Kind: Cone}, "B": {Kind: Cone}}, Public(1))
	serve(t, lab, "R1")
	server := lab.IP("R1")

	lab.Delay("A", time.Second, time.Second, 0)
	silent(t, lab, "A1", "udp", server) // for half a second
	seen(t, lab, "A1", "udp", "4001", server)
	seen(t, lab, "A1", "tcp", "4001", server)
	seen(t, lab, "B1", "udp", "4001", server)

	lab.Delay("A", 0, 0, 1) // all is lost
	silent(t, lab, "A1", "udp", server)
	seen(t, lab, "B1", "udp", "4001", server)

	lab.Delay("A", time.Hour, 0, 0)
	silent(t, lab, "A1", "udp", server)

	lab.Delay("A", 0, 0, 0) // must not wait for the packets on their way
	seen(t, lab, "A1", "udp", "4001", server)
}
