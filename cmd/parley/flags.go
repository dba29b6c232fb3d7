package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// duration is the value of a flag such as --ttl 7d: what time.ParseDuration
// takes, or days.
type duration time.Duration

func (d *duration) Set(text string) error {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return fmt.Errorf("%q is no number of days", text)
		}
		*d = duration(time.Duration(n) * 24 * time.Hour)
		return nil
	}
	parsed, err := time.ParseDuration(text)
	if err != nil || parsed <= 0 {
		return fmt.Errorf("%q is no time such as 90m, 24h or 7d", text)
	}
	*d = duration(parsed)
	return nil
}

func (d *duration) String() string {
	if d == nil || *d == 0 {
		return ""
	}
	if t := time.Duration(*d); t%(24*time.Hour) == 0 {
		return fmt.Sprintf("%dd", t/(24*time.Hour))
	}
	return time.Duration(*d).String()
}

// size is the value of a flag such as --file-rate 2M: bytes, or with K, M or G after
// them so many times 1024, 1024² or 1024³.
type size int64

func (s *size) Set(text string) error {
	number, shift := strings.ToUpper(text), 0
	for i, unit := range []string{"K", "M", "G"} {
		if rest, ok := strings.CutSuffix(number, unit); ok {
			number, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n > math.MaxInt64>>shift {
		return fmt.Errorf("%q is no size such as 500000, 500K, 10M or 1G", text)
	}
	*s = size(n << shift)
	return nil
}

func (s *size) String() string {
	if s == nil || *s == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*s), 10)
}
