package main

import (
	"bytes"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// TestReport checks that the pages of invented measurements are equal to golden files: one page with all parts, and one with a few of them.
func TestReport(t *testing.T) {
	for name, r := range map[string]results{"all.md": madeUp(), "little.md": little()} {
		t.Run(name, func(t *testing.T) {
			var page bytes.Buffer
			r.write(&page)
			file := "testdata/" + name
			if *update {
				if err := os.WriteFile(file, page.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), page.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// costing returns a run of a hundred thousand queries in one second that took cost µs of CPU time each.
func costing(cost float64) run {
	const n = 100_000
	return run{counts: counts{Completed: n, Seconds: 1}, CPU: time.Duration(cost * n * 1000)}
}

func taking(p50, p99, p999 int) delay {
	return delay{time.Duration(p50) * time.Microsecond, time.Duration(p99) * time.Microsecond, time.Duration(p999) * time.Microsecond, 20_000, 0, 1}
}

func little() results {
	r := results{
		Date: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Command: "go run ./bench/compare -parts throughput",
		Machine: machine{"A CPU", 2, "6.18", "go1.26.8"}, Generator: "dnsperf 2.10.0", Names: "made up", Listed: 1_000_000, Rounds: 3, Seconds: 5,
		Servers:    []described{{rempart, "Rempart", "1234", "one thread."}, {"bind9", "BIND", "9.18", "-n 1."}},
		Throughput: map[cell][]run{},
	}
	for _, load := range loadsOfThroughput {
		r.Throughput[cell{load, rempart}] = []run{costing(8), costing(9), costing(8.5)}
		r.Throughput[cell{load, "bind9"}] = []run{costing(14), costing(13), costing(20)}
	}
	flawed := costing(13)
	flawed.Lost, flawed.Others, flawed.Forwarded = 12, 3, 2_000
	r.Throughput[cell{cached, "bind9"}][1] = flawed
	return r
}

func madeUp() results {
	r := little()
	r.Command = "go run ./bench/compare "
	r.Servers, r.Stillness = nil, &stillness{5, 280, 8128 * time.Microsecond, 0.04}
	r.Latency, r.TCP = map[cell][]delay{}, map[cell][]run{}
	for i, p := range peers {
		r.Servers = append(r.Servers, described{p.key, p.name, "1.2", "as it should be."})
		cost := 8 + 2*float64(i)
		if p.key == echo {
			cost = 7.5
		}
		for _, load := range loadsOfThroughput {
			r.Throughput[cell{load, p.key}] = []run{costing(cost), costing(cost + 1), costing(cost + 0.5)}
		}
		for _, load := range loadsOfLatency {
			r.Latency[cell{load, p.key}] = []delay{taking(20+i, 2000+i, 4000), taking(21+i, 2100, 5000), taking(22+i, 2200, 3000)}
		}
	}
	slow := taking(900, 9000, 50000)
	slow.Completed, slow.Lost = 15_000, 4
	r.Latency[cell{mixed, "bind9"}] = []delay{slow, slow, slow}
	for _, load := range []string{cached, blocked} {
		r.TCP[cell{load, rempart}] = []run{costing(5), costing(6)}
		r.TCP[cell{load, unbound}] = []run{costing(7), costing(8)}
	}
	r.OneCore = map[string][]run{blocked: {costing(8)}, cached: {costing(8)}}
	r.TwoCores = map[string][]run{blocked: {costing(9)}, cached: {costing(8.5)}}
	lossy := taking(22, 3000, 9001)
	lossy.Lost = 1
	r.Swaps = &swapResult{Without: []delay{taking(20, 2000, 4000)}, With: []delay{lossy}, Replaced: 5, Versions: 5}
	r.Collections = &collections{Seconds: 60.2, Completed: 6_000_000, Pauses: []time.Duration{20 * time.Microsecond, 40 * time.Microsecond, 30 * time.Microsecond, 131 * time.Microsecond}}
	for _, p := range append(overTLS(peers), bareForwarder) {
		r.Servers = append(r.Servers, described{p.key, p.name, "", p.settings})
	}
	r.Misses = &missResult{Throughput: map[cell][]run{}, Latency: map[cell][]delay{}, OneCore: []run{costing(9)}, TwoCores: []run{costing(10), costing(10.5)}}
	for i, key := range []string{rempart, dnsdist, forward} {
		for _, load := range loadsOfMisses {
			r.Misses.Throughput[cell{load, key}] = []run{costing(9 + float64(i)), costing(10)}
		}
		r.Misses.Latency[cell{misses, key}] = []delay{taking(40+i, 3000, 4000)}
	}
	for i, key := range []string{rempart + tlsSuffix, dnsdist + tlsSuffix} {
		r.Misses.Throughput[cell{misses, key}] = []run{costing(11 + 9*float64(i))}
	}
	return r
}

func TestSpread(t *testing.T) {
	for _, tt := range []struct {
		of   []float64
		want spread
	}{
		{nil, spread{}}, {[]float64{3}, spread{3, 3, 3}}, {[]float64{5, 1, 3}, spread{3, 1, 5}}, {[]float64{4, 1, 3, 2}, spread{2.5, 1, 4}},
	} {
		if got := spreadOf(tt.of); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.of, got, tt.want)
		}
	}
}

func TestThousands(t *testing.T) {
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%d) = %s, want %s", n, got, want)
		}
	}
}
