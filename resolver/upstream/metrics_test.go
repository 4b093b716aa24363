package upstream

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsOfRoundTrips checks the summary of the round-trip times and the label of the protocol, before and after answers.
func TestMetricsOfRoundTrips(t *testing.T) {
	scene(t, []*fake{{delay: after(40 * time.Millisecond)}}, func(t *testing.T, p *Pool) {
		const upstream = "udp://192.0.2.1"
		want := []string{"info udp " + upstream + " zone.example", "latency 0 0 [0.5=NaN 0.95=NaN 0.99=NaN]"}
		if diff := cmp.Diff(want, roundTripMetrics(t, p)); diff != "" {
			t.Errorf("before the first answer (-want +got):\n%s", diff)
		}
		for range 50 {
			if _, err := exchangeWith(p, t.Context(), question(t, "www.example.org")); err != nil {
				t.Fatal(err)
			}
		}
		want[1] = "latency 50 2 [0.5=0.04 0.95=0.04 0.99=0.04]"
		if diff := cmp.Diff(want, roundTripMetrics(t, p)); diff != "" {
			t.Errorf("after 50 answers (-want +got):\n%s", diff)
		}
	})
}

// roundTripMetrics describes the metrics of a pool with one upstream.
func roundTripMetrics(t *testing.T, p *Pool) (lines []string) {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(p.Collector("zone.example"))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		m := f.GetMetric()[0]
		switch f.GetName() {
		case "rempart_upstream_info":
			line := "info"
			for _, l := range m.GetLabel() {
				line += " " + l.GetValue()
			}
			lines = append(lines, line)
		case "rempart_upstream_latency_seconds":
			var quantiles []string
			for _, q := range m.GetSummary().GetQuantile() {
				quantiles = append(quantiles, fmt.Sprintf("%v=%v", q.GetQuantile(), q.GetValue()))
			}
			sum := math.Round(m.GetSummary().GetSampleSum()*1e6) / 1e6
			lines = append(lines, fmt.Sprintf("latency %d %v %v", m.GetSummary().GetSampleCount(), sum, quantiles))
		}
	}
	return lines
}
