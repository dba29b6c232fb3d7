package transfer

import (
	"sync"
	"time"
)

// meterSpan is over how long a rate is measured.
const meterSpan = 5 * time.Second

// Meter measures how fast a transfer goes, and on which way. The zero value is ready;
// it is safe for parallel use.
type Meter struct {
	mu      sync.Mutex
	total   int64
	path    string
	samples []sample // one a second at most, of the last meterSpan and the one before
}

type sample struct {
	at    time.Time
	total int64
}

// Add counts bytes that went some way.
func (m *Meter) Add(n int, path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sampleLocked(time.Now())
	m.total, m.path = m.total+int64(n), path
}

func (m *Meter) sampleLocked(now time.Time) {
	if n := len(m.samples); n > 0 && now.Sub(m.samples[n-1].at) < time.Second {
		return
	}
	m.samples = append(m.samples, sample{now, m.total})
	for len(m.samples) > 2 && now.Sub(m.samples[1].at) >= meterSpan {
		m.samples = m.samples[1:]
	}
}

// Rate returns bytes per second, lately, and the way of the last of them.
func (m *Meter) Rate() (perSecond float64, path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.sampleLocked(now)
	first := m.samples[0]
	if took := now.Sub(first.at); took > 0 {
		perSecond = float64(m.total-first.total) / took.Seconds()
	}
	return perSecond, m.path
}

// Total returns how many bytes there were.
func (m *Meter) Total() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.total
}
