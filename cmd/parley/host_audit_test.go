package main

import (
	"strings"
	"testing"
	"time"

	"github.com/parley-chat/parley/protocol/ledger"
)

func TestSince(t *testing.T) {
	zone := time.FixedZone("here", 2*3600)
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, zone)
	for text, want := range map[string]time.Time{
		"":                     {},
		"90m":                  now.Add(-90 * time.Minute),
		"7d":                   now.AddDate(0, 0, -7),
		"2026-03-01":           time.Date(2026, 3, 1, 0, 0, 0, 0, zone),
		"2026-03-01 08:30":     time.Date(2026, 3, 1, 8, 30, 0, 0, zone),
		"2026-03-01 08:30:05":  time.Date(2026, 3, 1, 8, 30, 5, 0, zone),
		"2026-03-01T08:30:05Z": time.Date(2026, 3, 1, 10, 30, 5, 0, zone),
	} {
		if got, err := since(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "7", "-1h", "2026-13-01", "1.3.2026"} {
		if got, err := since(text, now); explain(err).code != exitUsage {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}

func TestParseNoted(t *testing.T) {
	hash := "0a" + strings.Repeat("00", 31)
	for text, want := range map[string]ledger.Chain{
		"":                            {},
		"17:" + hash:                  {N: 17, Head: ledger.Hash{10}},
		"17:" + strings.ToUpper(hash): {N: 17, Head: ledger.Hash{10}},
	} {
		if got, err := parseNoted(text); err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"17", "17:", "17:" + hash[1:], "0:" + hash, "-1:" + hash, ":" + hash, hash, "17:" + hash + "00"} {
		if got, err := parseNoted(text); err == nil || explain(err).code != exitUsage || got != (ledger.Chain{}) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
}
