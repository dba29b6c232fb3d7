//go:build linux

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestSpreadOf(t *testing.T) {
	for _, c := range []struct {
		list []float64
		want spread
	}{
		{nil, spread{}},
		{[]float64{2}, spread{2, 2, 2}},
		{[]float64{3, 1, 2}, spread{2, 1, 3}},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4}},
	} {
		if got := spreadOf(c.list); got != c.want {
			t.Errorf("spread of %v: %v, want %v", c.list, got, c.want)
		}
	}
}

func TestRatiosAreOfOneRound(t *testing.T) {
	large := source{what: "large"}
	r := report{}
	r.result(large, "parley direct").Runs = []cost{{Round: 1, Seconds: 2}, {Round: 3, Seconds: 1}}
	r.result(large, "parley relayed").Runs = []cost{{Round: 1, Seconds: 8}}
	r.result(large, "croc direct --no-compress").Runs = []cost{{Round: 2, Seconds: 100}, {Round: 3, Seconds: 5}}
	r.compare()
	want := ratio{What: "large", Way: "parley direct", Than: "croc direct --no-compress", Ratios: spread{5, 5, 5}}
	if len(r.Ratios) != 1 || r.Ratios[0] != want {
		t.Errorf("ratios %+v, want only %+v", r.Ratios, want)
	}
}

func TestReportSaysWhatFailed(t *testing.T) {
	r := report{}
	r.result(source{what: "large"}, "croc direct").Problems = []string{"EOF"}
	var out strings.Builder
	r.print(&out)
	if !strings.Contains(out.String(), "croc direct FAILED: EOF") {
		t.Errorf("a failure is not told:\n%s", &out)
	}
}

func TestParseProc(t *testing.T) {
	if got, err := parseStat("7 (a) b) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0"); err != nil || got != 3 {
		t.Errorf("CPU time %v, %v; want 3 s", got, err)
	}
	if _, err := parseStat("7 (a) S 1"); err == nil {
		t.Error("a short line is read")
	}
	if got, err := parseStatus("Name:\tx\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\n", "VmRSS"); err != nil || got != 1 {
		t.Errorf("memory %v, %v; want 1 MiB", got, err)
	}
	if _, err := parseStatus("Name:\tx\n", "VmRSS"); err == nil {
		t.Error("memory is read where there is none")
	}
	if got, err := memoryOf(os.Getpid(), "VmHWM"); err != nil || got <= 0 {
		t.Errorf("this process had %v MiB resident, %v", got, err)
	}
	if err := resetPeak(os.Getpid()); err != nil {
		t.Error(err)
	}
}

func TestLastLine(t *testing.T) {
	for out, want := range map[string]string{
		"":                                    "",
		"big   0%\r big 100%\r\n":             "big 100%",
		" 5%\rpanic: closed\n\ngoroutine 1\n": "panic: closed",
	} {
		if got := string(lastLine([]byte(out))); got != want {
			t.Errorf("of %q the last line is %q, want %q", out, got, want)
		}
	}
}

// TestPlainTCP sends both sources, and finds them the same; and another not.
func TestPlainTCP(t *testing.T) {
	sent, err := makeSources(filepath.Join(t.TempDir(), "sent"), 1, 150)
	if err != nil {
		t.Fatal(err)
	}
	w := tcpWay(t.TempDir())
	for _, s := range sent {
		c, err := w.send(context.Background(), s.path)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.same(filepath.Join(w.into, filepath.Base(s.path))); err != nil {
			t.Errorf("%s: %v", s.what, err)
		}
		if c.Seconds <= 0 {
			t.Errorf("%s took %v s", s.what, c.Seconds)
		}
	}
	if sent[0].same(sent[1].path) == nil {
		t.Error("something else is the same")
	}
}
