package session

import (
	"encoding/binary"
	"errors"
	"time"
)

// When to open a new session because messages of a device do not open.
const (
	badLimit   = 3                // undecryptable messages within badWindow
	badWindow  = 10 * time.Minute //
	firstDelay = 10 * time.Minute // least time between the first two repairs; then it doubles
	lastDelay  = 24 * time.Hour   // up to this, and starts over after as long without a repair
)

// Repair decides when to open a new session, with reset, towards one device.
// It bounds how often, so that neither two confused devices nor somebody who
// injects rubbish can cause a storm. It is a value; the zero value is a device
// with which nothing is wrong. Store it with the sessions of the device.
type Repair struct {
	bad     uint32 // undecryptable messages in the window
	since   int64  // when the window began, seconds since 1970
	wanted  bool   // a repair is due as soon as it is allowed
	last    int64  // when the newest repair was made; 0: never
	repairs uint32 // repairs in a row
}

// UnknownSession notes a message of a session this device does not have: a
// repair is wanted at once.
func (r Repair) UnknownSession() Repair {
	r.wanted = true
	return r
}

// Failed notes the error of Decrypt on a known session. A repair is wanted
// after three undecryptable messages in ten minutes; repetitions and malformed
// bytes do not count.
func (r Repair) Failed(now time.Time, err error) Repair {
	if !errors.Is(err, ErrDecrypt) && !errors.Is(err, ErrSkip) {
		return r
	}
	if elapsed := now.Sub(time.Unix(r.since, 0)); elapsed < 0 || elapsed >= badWindow {
		r.bad, r.since = 0, now.Unix()
	}
	r.bad++
	r.wanted = r.wanted || r.bad >= badLimit
	return r
}

// Opened notes that a message of the device was opened: nothing is wrong now.
// The delay between repairs stays.
func (r Repair) Opened() Repair {
	r.bad, r.since, r.wanted = 0, 0, false
	return r
}

// Due returns when to make the wanted repair, which may be in the past; not ok
// means that none is wanted.
func (r Repair) Due() (at time.Time, ok bool) {
	if !r.wanted {
		return time.Time{}, false
	}
	if r.last == 0 {
		return time.Unix(0, 0).UTC(), true
	}
	return time.Unix(r.last, 0).Add(r.delay()).UTC(), true
}

// Repaired notes that a new session was opened with reset at now.
func (r Repair) Repaired(now time.Time) Repair {
	r = r.Opened()
	if r.last == 0 || now.Sub(time.Unix(r.last, 0)) >= 2*lastDelay {
		r.repairs = 0
	}
	r.repairs++
	r.last = now.Unix()
	return r
}

// delay is the least time from the newest repair to the next.
func (r Repair) delay() time.Duration {
	d := firstDelay
	for range r.repairs - 1 {
		if d *= 2; d >= lastDelay {
			return lastDelay
		}
	}
	return d
}

const repairSize = 1 + 1 + 4 + 8 + 8 + 4

// Marshal returns the 26 bytes to be stored.
func (r Repair) Marshal() []byte {
	b := []byte{stateVersion, 0}
	if r.wanted {
		b[1] = 1
	}
	b = binary.BigEndian.AppendUint32(b, r.bad)
	b = appendUint64(b, uint64(r.since), uint64(r.last))
	return binary.BigEndian.AppendUint32(b, r.repairs)
}

// ParseRepair reads what Marshal made.
func ParseRepair(b []byte) (Repair, error) {
	if len(b) != repairSize || b[0] != stateVersion || b[1] > 1 {
		return Repair{}, ErrMalformed
	}
	return Repair{
		wanted:  b[1] == 1,
		bad:     binary.BigEndian.Uint32(b[2:]),
		since:   int64(binary.BigEndian.Uint64(b[6:])),
		last:    int64(binary.BigEndian.Uint64(b[14:])),
		repairs: binary.BigEndian.Uint32(b[22:]),
	}, nil
}
