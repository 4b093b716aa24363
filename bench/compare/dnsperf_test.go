package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadOutput(t *testing.T) {
	for _, tt := range []struct {
		file   string
		counts counts
		times  []time.Duration
	}{
		{file: "throughput.txt", counts: counts{Completed: 123456, Lost: 7, Others: 56, Seconds: 1.004217}},
		{file: "verbose.txt", counts: counts{Completed: 4, Lost: 2, Seconds: 2.000386},
			times: []time.Duration{104 * time.Microsecond, 89 * time.Microsecond, 1200045 * time.Microsecond, 91 * time.Microsecond}},
	} {
		t.Run(tt.file, func(t *testing.T) {
			f, err := os.Open("testdata/" + tt.file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			c, times, err := readOutput(f)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.counts, c); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(tt.times, times); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestReadOutputRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"empty output":           "",
		"no query completed":     "  Queries completed:    0 (0.00%)\n  Run time (s):         1.0\n",
		"output cut short":       "  Queries completed:    9 (90.00%)\n",
		"answer without latency": "> NOERROR\n",
		"invalid latency":        "> NOERROR a.example A soon\n",
		"a line too long":        "> " + strings.Repeat("x", 10_000) + "\n",
	} {
		if _, _, err := readOutput(strings.NewReader(text)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(i + 1)
	}
	for _, tt := range []struct {
		of   []time.Duration
		p    float64
		want time.Duration
	}{
		{hundred, 50, 50}, {hundred, 99, 99}, {hundred, 99.9, 100}, {hundred, 100, 100},
		{hundred[:1], 50, 1}, {hundred[:3], 50, 2}, {nil, 99, 0},
	} {
		if got := percentile(tt.of, tt.p); got != tt.want {
			t.Errorf("p%v of %d: %d, want %d", tt.p, len(tt.of), got, tt.want)
		}
	}
}

func TestReadPauses(t *testing.T) {
	const trace = `time=2026-11-22T03:34:02.863Z level=INFO msg="list loaded"
gc 1 @0.012s 2%: 0.018+1.2+0.003 ms clock, 0.018+0.1/0.2/0.3+0.003 ms cpu, 4->4->2 MB, 4 MB goal, 0 MB stacks, 0 MB globals, 1 P
gc 2 @1.500s 0%: 0.31+8.4+0.047 ms clock, 0.31+0/0/0+0.047 ms cpu, 9->9->6 MB, 12 MB goal, 0 MB stacks, 0 MB globals, 1 P (forced)
`
	got, err := readPauses(strings.NewReader(trace))
	if err != nil {
		t.Fatal(err)
	}
	want := []time.Duration{18 * time.Microsecond, 3 * time.Microsecond, 310 * time.Microsecond, 47 * time.Microsecond}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
