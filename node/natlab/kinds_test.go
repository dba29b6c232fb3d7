//go:build linux

package natlab

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestKinds proves that each kind of site does to packets what it says.
func TestKinds(t *testing.T) {
	t.Parallel()
	lab := New(t, Sites{
		"A": {Kind: Cone, Hosts: 2},
		"B": {Kind: Symmetric},
		"C": {Kind: BlockedUDP},
		"D": {Kind: Firewall},
		"E": {Kind: None},
	}, Public(3))
	if got, want := fmt.Sprint(lab.Hosts()), "[A1 A2 B1 C1 D1 E1 R1 R2 R3]"; got != want {
		t.Fatalf("hosts %s, want %s", got, want)
	}
	serve(t, lab, "A1", "D1", "E1", "R1", "R2", "R3")
	servers := []string{lab.IP("R1"), lab.IP("R2"), lab.IP("R3")}

	for _, network := range []string{"udp", "tcp"} {
		t.Run("cone keeps the port for every destination, "+network, func(t *testing.T) {
			want := lab.PublicIP("A") + ":4001"
			for _, got := range seen(t, lab, "A1", network, "4001", servers...) {
				if got != want {
					t.Errorf("seen as %s, want %s", got, want)
				}
			}
		})
		t.Run("symmetric takes a port per destination, "+network, func(t *testing.T) {
			got := seen(t, lab, "B1", network, "4001", servers...)
			for _, addr := range got {
				if !strings.HasPrefix(addr, lab.PublicIP("B")+":") {
					t.Errorf("seen as %s, want address %s", addr, lab.PublicIP("B"))
				}
			}
			slices.Sort(got)
			if len(slices.Compact(got)) == 1 {
				t.Errorf("seen as %s by all servers, want different ports", got[0])
			}
		})
		for _, host := range []string{"D1", "E1"} {
			t.Run("hosts that are not translated are seen as they are, "+host+" "+network, func(t *testing.T) {
				if got, want := seen(t, lab, host, network, "4001", servers[0])[0], lab.PublicIP(host)+":4001"; got != want {
					t.Errorf("seen as %s, want %s", got, want)
				}
			})
		}
		t.Run("unasked packets are dropped by all but none, "+network, func(t *testing.T) {
			silent(t, lab, "R1", network, lab.PublicIP("A1"))
			silent(t, lab, "R1", network, lab.PublicIP("D1"))
			seen(t, lab, "R1", network, "4001", lab.PublicIP("E1"))
		})
		t.Run("hosts of one LAN see each other, "+network, func(t *testing.T) {
			if got, want := seen(t, lab, "A2", network, "4002", lab.IP("A1"))[0], lab.IP("A2")+":4002"; got != want {
				t.Errorf("seen as %s, want %s", got, want)
			}
		})
	}
	t.Run("a second host on the same port gets one other port", func(t *testing.T) {
		first := seen(t, lab, "A1", "udp", "4003", servers...)
		second := seen(t, lab, "A2", "udp", "4003", servers...)
		if first[0] == second[0] {
			t.Errorf("both hosts are seen as %s", first[0])
		}
		if second[0] != second[1] {
			t.Errorf("second host is seen as %s and %s, want one address", second[0], second[1])
		}
	})
	t.Run("blocked-udp passes TCP only", func(t *testing.T) {
		silent(t, lab, "C1", "udp", servers[0])
		if got, want := seen(t, lab, "C1", "tcp", "4001", servers[0])[0], lab.PublicIP("C")+":4001"; got != want {
			t.Errorf("seen as %s, want %s", got, want)
		}
	})
}

// TestHolePunch punches UDP holes between kinds. The labs run side by side.
func TestHolePunch(t *testing.T) {
	Require(t)
	t.Parallel()
	for _, c := range []struct {
		a, b Kind
		want string
	}{
		{Cone, Cone, "through"},
		{Cone, Symmetric, "not through"},
		{Symmetric, Symmetric, "not through"},
		{Cone, Firewall, "through"},
	} {
		t.Run(fmt.Sprintf("%s with %s", c.a, c.b), func(t *testing.T) {
			t.Parallel()
			lab := New(t, Sites{"A": {Kind: c.a}, "B": {Kind: c.b}}, Public(1))
			serve(t, lab, "R1")
			a, tellA := startPunch(t, lab, "A1")
			b, tellB := startPunch(t, lab, "B1")
			fmt.Fprintln(tellA, addrIn(t, b.Output()))
			fmt.Fprintln(tellB, addrIn(t, a.Output()))
			for _, p := range []*Process{a, b} {
				if err := p.Wait(); err != nil {
					t.Fatal(err)
				}
				lines := strings.Split(strings.TrimSpace(p.Output()), "\n")
				if got := lines[len(lines)-1]; got != c.want {
					t.Errorf("%s: %s, want %s", p.name, got, c.want)
				}
			}
		})
	}
}

// startPunch starts a punching prober and waits until it knows its address.
// What is written to the Writer is the peer's address.
func startPunch(t *testing.T, lab *Lab, host string) (*Process, io.Writer) {
	t.Helper()
	cmd := prober(t.Context(), lab, host, "punch", lab.IP("R1"))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p := lab.Start(cmd)
	p.WaitFor(".\n", 10*time.Second)
	return p, stdin
}

func addrIn(t *testing.T, output string) string {
	t.Helper()
	addr, ok := strings.CutPrefix(strings.TrimSuffix(output, ".\n"), "seen ")
	if !ok {
		t.Fatalf("no address in %q", output)
	}
	return addr
}
