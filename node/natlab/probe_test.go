//go:build linux

package natlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// The test binary is also the program that runs on the hosts of the labs:
// "natlab.test probe ..." is a prober.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "probe" {
		if err := probe(os.Args[2], os.Args[3:]); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

const echoPort = "7000"

func probe(what string, args []string) error {
	switch what {
	case "echo":
		return probeEcho()
	case "seen":
		timeout, err := time.ParseDuration(args[2])
		if err != nil {
			return err
		}
		return probeSeen(args[0], args[1], timeout, args[3:])
	case "punch":
		return probePunch(args[0])
	case "lookup":
		addrs, err := net.LookupHost(args[0])
		fmt.Println(addrs)
		return err
	}
	return fmt.Errorf("no such probe: %s", what)
}

// probeEcho tells everyone who asks, by UDP or TCP, where they come from, and
// prints it.
func probeEcho() error {
	udp, err := net.ListenPacket("udp4", ":"+echoPort)
	if err != nil {
		return err
	}
	tcp, err := net.Listen("tcp4", ":"+echoPort)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	go func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			fmt.Println("tcp from", conn.RemoteAddr())
			io.WriteString(conn, conn.RemoteAddr().String())
			conn.Close()
		}
	}()
	buf := make([]byte, 1500)
	for {
		_, from, err := udp.ReadFrom(buf)
		if err != nil {
			return err
		}
		fmt.Println("udp from", from)
		udp.WriteTo([]byte(from.String()), from)
	}
}

// probeSeen asks servers one by one from one local port and prints a line for
// each: the address it sees, or "nothing" if it stays silent.
func probeSeen(network, port string, timeout time.Duration, servers []string) error {
	ask := askTCP
	if network == "udp" {
		socket, err := net.ListenPacket("udp4", ":"+port)
		if err != nil {
			return err
		}
		ask = func(_, server string, timeout time.Duration) (string, error) {
			return askUDP(socket, server, timeout)
		}
	}
	for _, server := range servers {
		seen, err := ask(port, server, timeout)
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			seen, err = "nothing", nil
		}
		if err != nil {
			return err
		}
		fmt.Println(seen)
	}
	return nil
}

// askUDP sends until it is answered, so that one lost packet does not matter.
func askUDP(socket net.PacketConn, server string, timeout time.Duration) (string, error) {
	to, err := net.ResolveUDPAddr("udp4", server+":"+echoPort)
	if err != nil {
		return "", err
	}
	buf := make([]byte, 1500)
	for deadline := time.Now().Add(timeout); ; {
		if _, err := socket.WriteTo([]byte("?"), to); err != nil {
			return "", err
		}
		socket.SetReadDeadline(time.Now().Add(min(timeout, 200*time.Millisecond)))
		n, from, err := socket.ReadFrom(buf)
		if err == nil && from.String() == to.String() {
			return string(buf[:n]), nil
		}
		if err != nil && time.Now().After(deadline) {
			return "", err
		}
	}
}

func askTCP(port, server string, timeout time.Duration) (string, error) {
	local, err := net.ResolveTCPAddr("tcp4", ":"+port)
	if err != nil {
		return "", err
	}
	dialer := net.Dialer{Timeout: timeout, LocalAddr: local, Control: reuseAddr}
	conn, err := dialer.Dial("tcp4", server+":"+echoPort)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(timeout))
	seen, err := io.ReadAll(conn)
	return string(seen), err
}

// reuseAddr lets connections to several servers share a local port.
func reuseAddr(_, _ string, conn syscall.RawConn) error {
	var err error
	control := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	})
	return errors.Join(control, err)
}

// probePunch prints how the server sees its socket, reads from standard input
// how the peer's socket is seen, and tries to get through to it.
func probePunch(server string) error {
	socket, err := net.ListenPacket("udp4", ":4001")
	if err != nil {
		return err
	}
	seen, err := askUDP(socket, server, 10*time.Second)
	if err != nil {
		return err
	}
	fmt.Printf("seen %s.\n", seen)
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	if err != nil {
		return err
	}
	peer, err := net.ResolveUDPAddr("udp4", strings.TrimSpace(line))
	if err != nil {
		return err
	}
	// Until it hears from the peer it says "hello", from then on "heard", and
	// when it hears that in turn both directions work.
	say, buf := "hello", make([]byte, 1500)
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); {
		if _, err := socket.WriteTo([]byte(say), peer); err != nil {
			return err
		}
		socket.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		n, from, err := socket.ReadFrom(buf)
		if err != nil || from.String() != peer.String() {
			continue
		}
		say = "heard"
		if string(buf[:n]) == "heard" {
			socket.WriteTo([]byte(say), peer)
			fmt.Println("through")
			return nil
		}
	}
	fmt.Println("not through")
	return nil
}

// prober returns a command that runs a prober on a host.
func prober(ctx context.Context, lab *Lab, host string, args ...string) *exec.Cmd {
	lab.t.Helper()
	self, err := os.Executable()
	lab.must(err)
	cmd := lab.Command(ctx, host, self, append([]string{"probe"}, args...)...)
	cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0") // or each ends a second late under -race
	return cmd
}

// serve runs an echo server on each of the hosts.
func serve(t *testing.T, lab *Lab, hosts ...string) map[string]*Process {
	t.Helper()
	servers := map[string]*Process{}
	for _, host := range hosts {
		servers[host] = lab.Start(prober(t.Context(), lab, host, "echo"))
		servers[host].WaitFor("ready", 10*time.Second)
	}
	return servers
}

// seen returns how servers see a host's port. All must answer.
func seen(t *testing.T, lab *Lab, host, network, port string, servers ...string) []string {
	t.Helper()
	answers := ask(t, lab, "10s", host, network, port, servers)
	for i, answer := range answers {
		if answer == "nothing" {
			t.Fatalf("%s asks %s by %s: no answer", host, servers[i], network)
		}
	}
	return answers
}

// silent checks that a server's answer does not reach a host.
func silent(t *testing.T, lab *Lab, host, network, server string) {
	t.Helper()
	if answers := ask(t, lab, "500ms", host, network, "4009", []string{server}); answers[0] != "nothing" {
		t.Fatalf("%s asks %s by %s: answer %s, want none", host, server, network, answers[0])
	}
}

func ask(t *testing.T, lab *Lab, timeout, host, network, port string, servers []string) []string {
	t.Helper()
	args := append([]string{"seen", network, port, timeout}, servers...)
	answers := strings.Fields(lab.Run(prober(t.Context(), lab, host, args...)))
	if len(answers) != len(servers) {
		t.Fatalf("%s asks %v: answers %v", host, servers, answers)
	}
	return answers
}
