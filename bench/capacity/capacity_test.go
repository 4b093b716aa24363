package main

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func testCosts() *costs {
	us := duration(time.Microsecond)
	return &costs{Mixed: 1, Cores: 1, Hit: 10 * us, Block: 10 * us, Miss: 20 * us, Kept: map[string]duration{"tls": 5 * us}, Handshake: 500 * us, BytesPerName: 30, ProcessBytes: 1e6, BytesPerQuery: 250}
}

func testDemand() *demand {
	return &demand{lines: 1e6, perLine: 0.1, peak: 2, hit: 0.5, block: 0.1, perConn: 10, connections: 1, names: 1e6, cores: 4, load: 0.5, sites: 1, failures: 1}
}

// TestPlan checks the numbers of a demand that can be computed by hand.
func TestPlan(t *testing.T) {
	p, err := compute(testCosts(), testDemand())
	if err != nil {
		t.Fatal(err)
	}
	// 0.6 of the queries cost 10 µs, 0.4 cost 20 µs; 200,000 of 14 µs take 2.8 cores, 5.6 at half of the load, which are two machines, and one may fail.
	if p.perQuery != 14*time.Microsecond || p.peak != 200_000 || math.Abs(p.cores-2.8) > 1e-9 || p.machines != 3 {
		t.Errorf("plan %+v", p)
	}
	d := testDemand()
	d.transports, d.sites = map[string]float64{"tls": 0.5}, 3
	if p, err = compute(testCosts(), d); err != nil {
		t.Fatal(err)
	}
	// 0.5 over UDP at 10 µs, 0.5 over TLS at 5 µs, 0.4 misses at 10 µs more, and 0.5/10 handshakes of 500 µs: 36.5 µs. 7.3 cores need 4 machines; two of three sites
	// must bear them.
	if p.perQuery != 36500*time.Nanosecond || p.machines != 6 || p.handshakes != 10_000 {
		t.Errorf("plan with TLS and sites %+v", p)
	}
}

// TestMistakes checks that impossible demands are refused.
func TestMistakes(t *testing.T) {
	for name, change := range map[string]func(*demand){
		"shares":    func(d *demand) { d.hit, d.block = 0.9, 0.2 },
		"transport": func(d *demand) { d.transports = map[string]float64{"carrier pigeon": 0.1} },
		"load":      func(d *demand) { d.load = 1.1 },
		"sites":     func(d *demand) { d.sites = 0 },
	} {
		d := testDemand()
		change(d)
		if _, err := compute(testCosts(), d); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, args := range []string{"-lines 10 -transports tls", "-costs /nonexistent", "-lines 10 -hit 2"} {
		if err := run(strings.Fields(args), &bytes.Buffer{}); err == nil {
			t.Errorf("%s: no error", args)
		}
	}
}

// TestModelAgreesWithMeasurement checks the model against two mixtures that were measured at the largest rate of one core, on the day on which its costs were measured:
// 80 % hits, 3 % blocked and 17 % misses took 6.73 µs per query (115,525/s), and 95 % hits, 3 % blocked and 2 % misses 6.10 µs (130,771/s).
func TestModelAgreesWithMeasurement(t *testing.T) {
	c := &costs{}
	if err := json.Unmarshal(measured, c); err != nil {
		t.Fatal(err)
	}
	for want, d := range map[float64]demand{6.73: {hit: 0.80, block: 0.03}, 6.10: {hit: 0.95, block: 0.03}} {
		d.lines, d.perLine, d.peak, d.perConn, d.cores, d.load, d.sites = 1, 1, 1, 1, 1, 1, 1
		p, err := compute(c, &d)
		if got := float64(p.perQuery) / float64(time.Microsecond); err != nil || math.Abs(got/want-1) > 0.05 {
			t.Errorf("%v µs per query, measured %v, %v", got, want, err)
		}
	}
}

// TestScenarios checks that the measured costs are complete, and that the country's demand is that of 30 million lines.
func TestScenarios(t *testing.T) {
	c := &costs{}
	if err := json.Unmarshal(measured, c); err != nil {
		t.Fatal(err)
	}
	country := scenarios()[2].demand
	p, err := compute(c, &country)
	if err != nil || p.mean < 1.3e6 || p.mean > 2e6 || p.peak != 3*p.mean {
		t.Errorf("country: %+v, %v", p, err)
	}
	var out bytes.Buffer
	if err := run(nil, &out); err != nil || strings.Count(out.String(), "\n") < 12 {
		t.Errorf("%v\n%s", err, out.String())
	}
}
