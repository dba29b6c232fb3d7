//go:build linux

package natlab

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// delayQueue is how many packets a delayed uplink holds; more are dropped, as
// a router does.
const delayQueue = 20000

// Delay makes everything a site sends arrive later by delay and a random time
// up to jitter, in order, and loses a share of it (0 to 1). What the site
// receives is not delayed. Zeros end the delay. Changing it loses the packets
// on their way.
//
// It works without the kernel's netem, which many kernels lack: packets are
// routed through a TUN device that this process reads and writes.
func (l *Lab) Delay(site string, delay, jitter time.Duration, loss float64) {
	l.t.Helper()
	s, dev := l.site(site), "d"+site
	rule := []string{"iif", "w" + site, "lookup", strconv.Itoa(1000 + s.number)}
	if s.delay != nil {
		l.ip("inet", append([]string{"rule", "del"}, rule...)...)
		// Closing it is not enough: a child process that is just being
		// started holds the device open for another moment.
		l.ip("inet", "link", "del", dev)
		s.delay.stop()
		s.delay = nil
	}
	if delay == 0 && jitter == 0 && loss == 0 {
		return
	}
	tun, err := openTUN(l.ns("inet"), dev)
	l.must(err)
	s.delay = startDelay(tun, delay, jitter, loss)
	l.ip("inet", "link", "set", dev, "up", "txqueuelen", strconv.Itoa(delayQueue))
	l.ip("inet", "route", "add", "default", "dev", dev, "table", strconv.Itoa(1000+s.number))
	l.ip("inet", append([]string{"rule", "add"}, rule...)...)
}

// openTUN makes a TUN device in a namespace. Without a reader it vanishes.
func openTUN(ns, dev string) (*os.File, error) {
	var fd int
	err := inside(ns, func() (err error) {
		// Non-blocking, so that closing the file ends a Read that waits.
		fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	request, err := unix.NewIfreq(dev)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("make TUN device %s: %w", dev, err)
	}
	return os.NewFile(uintptr(fd), dev), nil
}

// delay is a running TUN device: one goroutine takes packets out, another
// puts them back when their time has come.
type delay struct {
	tun     *os.File
	stopped chan struct{}
	running sync.WaitGroup
}

type packet struct {
	due  time.Time
	data []byte
}

func startDelay(tun *os.File, fixed, jitter time.Duration, loss float64) *delay {
	d := &delay{tun: tun, stopped: make(chan struct{})}
	queue := make(chan packet, delayQueue)
	d.running.Go(func() {
		defer close(queue)
		buf := make([]byte, 64<<10)
		for {
			n, err := tun.Read(buf)
			if err != nil {
				return // the device is gone
			}
			if rand.Float64() < loss {
				continue
			}
			due := time.Now().Add(fixed)
			if jitter > 0 {
				due = due.Add(rand.N(jitter))
			}
			select {
			case queue <- packet{due, append([]byte(nil), buf[:n]...)}:
			default: // full
			}
		}
	})
	d.running.Go(func() {
		for p := range queue {
			select {
			case <-time.After(time.Until(p.due)):
				tun.Write(p.data) // one that the kernel refuses is lost
			case <-d.stopped:
				return
			}
		}
	})
	return d
}

// stop closes the device and returns when both goroutines have ended.
func (d *delay) stop() {
	if d == nil {
		return
	}
	close(d.stopped)
	d.tun.Close()
	d.running.Wait()
}
