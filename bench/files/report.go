//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// report is all that was measured.
type report struct {
	When       time.Time `json:"when"`
	Machine    string    `json:"machine"`
	LoadBefore float64   `json:"load_before"` // processes that ran or waited to, in the mean of a minute
	LoadAfter  float64   `json:"load_after"`  // our own among them
	MiB        int       `json:"mib"`
	Files      int       `json:"files"`
	Rounds     int       `json:"rounds"`
	Results    []*result `json:"results"`
	Ratios     []ratio   `json:"ratios"`
}

// result is what one way to send one thing took.
type result struct {
	What     string   `json:"what"`
	Way      string   `json:"way"`
	Bytes    int64    `json:"bytes"`
	Runs     []cost   `json:"runs"`
	Problems []string `json:"problems,omitempty"` // of runs that failed

	late bool // a run was not done in time
}

// ratio is how many times as fast Parley is as another.
type ratio struct {
	What   string `json:"what"`
	Way    string `json:"way"`
	Than   string `json:"than"`
	Ratios spread `json:"ratios"`
}

// spread is the median of some figures, and between what they are.
type spread struct {
	Median float64 `json:"median"`
	Least  float64 `json:"least"`
	Most   float64 `json:"most"`
}

func spreadOf(list []float64) spread {
	if len(list) == 0 {
		return spread{}
	}
	list = slices.Sorted(slices.Values(list))
	mid := len(list) / 2
	s := spread{Median: list[mid], Least: list[0], Most: list[len(list)-1]}
	if len(list)%2 == 0 {
		s.Median = (list[mid-1] + list[mid]) / 2
	}
	return s
}

func (r *report) result(s source, way string) *result {
	for _, res := range r.Results {
		if res.What == s.what && res.Way == way {
			return res
		}
	}
	res := &result{What: s.what, Way: way, Bytes: s.bytes}
	r.Results = append(r.Results, res)
	return res
}

// of is the spread of something of each run.
func (res *result) of(f func(cost) float64) spread {
	var list []float64
	for _, c := range res.Runs {
		list = append(list, f(c))
	}
	return spreadOf(list)
}

// compare sets Parley beside the others, round by round.
func (r *report) compare() {
	for _, p := range r.Results {
		kind, parley := strings.CutPrefix(p.Way, "parley ")
		if !parley {
			continue
		}
		for _, o := range r.Results {
			if o.What != p.What || o.Way == p.Way || strings.HasPrefix(o.Way, "parley") || strings.HasPrefix(o.Way, "croc") && !strings.HasPrefix(o.Way, "croc "+kind) {
				continue
			}
			if list := timesAsFast(p.Runs, o.Runs); len(list) > 0 {
				r.Ratios = append(r.Ratios, ratio{p.What, p.Way, o.Way, spreadOf(list)})
			}
		}
	}
}

// timesAsFast sets runs beside those of the same rounds.
func timesAsFast(ours, others []cost) (list []float64) {
	for _, a := range ours {
		for _, b := range others {
			if a.Round == b.Round {
				list = append(list, b.Seconds/a.Seconds)
			}
		}
	}
	return list
}

const gib = 1 << 30

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "\n%s; load %.1f before, %.1f at the end; medians of %d rounds (least - most)\n\n", r.Machine, r.LoadBefore, r.LoadAfter, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "what\tway\tseconds\tMiB/s\tCPU s, both ends\tper GiB\tCPU s, relay\tpeak MiB")
	for _, res := range r.Results {
		if len(res.Runs) > 0 {
			fmt.Fprintln(t, res.row())
		}
	}
	t.Flush()
	for _, res := range r.Results {
		for _, problem := range res.Problems {
			fmt.Fprintf(w, "%s, %s FAILED: %s\n", res.What, res.Way, problem)
		}
	}
	fmt.Fprintln(w)
	for _, x := range r.Ratios {
		fmt.Fprintf(t, "%s\t%s\t%.2f (%.2f - %.2f) times as fast as %s\n", x.What, x.Way, x.Ratios.Median, x.Ratios.Least, x.Ratios.Most, x.Than)
	}
	t.Flush()
}

// row is a line of the table.
func (res *result) row() string {
	seconds := res.of(func(c cost) float64 { return c.Seconds })
	cpu := res.of(func(c cost) float64 { return c.CPU }).Median
	relay := res.of(func(c cost) float64 { return c.RelayCPU }).Median
	peak := res.of(func(c cost) float64 { return c.PeakMiB })
	return fmt.Sprintf("%s\t%s\t%.2f (%.2f - %.2f)\t%.1f\t%.2f\t%.1f\t%.2f\t%.0f (to %.0f)", res.What, res.Way,
		seconds.Median, seconds.Least, seconds.Most, float64(res.Bytes)/(1<<20)/seconds.Median,
		cpu, cpu*gib/float64(res.Bytes), relay, peak.Median, peak.Most)
}

func (r *report) write(path string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the figures: %w", err)
	}
	fmt.Println("\nall figures:", path)
	return nil
}
