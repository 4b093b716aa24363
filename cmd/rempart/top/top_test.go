package top

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"rempart/blocklist/feed"
	"rempart/internal/local"
)

var (
	started = time.Date(2026, 12, 1, 12, 0, 0, 0, time.UTC)
	first   = started.Add(time.Hour)
)

// sampleAt returns a sample with metrics in Prometheus' text format.
func sampleAt(t *testing.T, after time.Duration, metrics string) sample {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(metrics))
	if err != nil {
		t.Fatal(err)
	}
	s := sample{at: first.Add(after), metrics: families}
	s.status = local.Status{Version: "1.2", Started: started, Set: local.SetStatus{Names: 3, Version: 7}}
	return s
}

const (
	before = `rempart_queries_total{transport="udp",verdict="pass"} 100
rempart_queries_total{transport="udp",verdict="block"} 10
rempart_cache_hits_total 50
rempart_cache_misses_total 50
# TYPE rempart_query_duration_seconds histogram
rempart_query_duration_seconds_bucket{le="0.001"} 100
rempart_query_duration_seconds_bucket{le="0.01"} 105
rempart_query_duration_seconds_bucket{le="+Inf"} 110
`
	after = `rempart_queries_total{transport="udp",verdict="pass"} 280
rempart_queries_total{transport="udp",verdict="block"} 30
rempart_cache_hits_total 140
rempart_cache_misses_total 60
# TYPE rempart_query_duration_seconds histogram
rempart_query_duration_seconds_bucket{le="0.001"} 290
rempart_query_duration_seconds_bucket{le="0.01"} 303
rempart_query_duration_seconds_bucket{le="+Inf"} 310
`
)

// TestViewShowsRates checks the numbers of an interval of two seconds.
func TestViewShowsRates(t *testing.T) {
	now := sampleAt(t, 2*time.Second, after)
	now.lists.Lists = []feed.ListStatus{{Name: "good", Entries: 3, Fetched: first, Result: feed.OK}, {Name: "bad", Result: feed.Failed}}
	now.upstreams = []local.UpstreamGroup{{Zone: ".", Upstreams: []local.UpstreamStats{{Upstream: "udp://192.0.2.1", State: local.UpstreamDown}}}}
	now.status.Problems = []string{"the disk is full"}
	text := strings.Join(view(now, sampleAt(t, 0, before), terminalStyle, 1), "\n")
	for _, want := range []string{
		"queries   100/s, of them 10/s blocked (10 %)", "half within 1ms, 95 % within 1ms, 99 % within 10ms", "cache     90 % hits, 0 B of 0 B used",
		"\x1b[31mudp://192.0.2.1  down", "\x1b[31mbad", "and 1 other list", "problem: the disk is full", "version 7",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the view lacks %q:\n%s", want, text)
		}
	}
}

// TestRestartedServer checks that numbers of another process are not compared.
func TestRestartedServer(t *testing.T) {
	now, then := sampleAt(t, 2*time.Second, before), sampleAt(t, 0, after)
	now.status.Started = first
	if r := now.rate(then, "rempart_queries_total"); r != 0 {
		t.Errorf("rate %v after a restart", r)
	}
	if d, ok := now.quantile(then, 1); !ok || d != math.MaxInt64 {
		t.Errorf("all of the new process within %v, %v", d, ok)
	}
	if _, ok := sampleAt(t, 2*time.Second, before).quantile(sampleAt(t, 0, before), 0.5); ok {
		t.Error("a time without queries")
	}
}
