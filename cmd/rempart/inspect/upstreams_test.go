package inspect

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rempart/internal/local"
)

// TestUpstreamsTableIsDocumented checks the table that the command prints: deploy/monitoring.md shows the same one.
func TestUpstreamsTableIsDocumented(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	const ms = time.Millisecond
	groups := []local.UpstreamGroup{
		{Zone: ".", Questions: 48213, Unanswered: 2, InFlight: 3, Upstreams: []local.UpstreamStats{
			{
				Upstream: "tls://192.0.2.1#dns.example", State: local.UpstreamHealthy, Since: now.Add(-26 * time.Hour), LastGoodAnswer: now.Add(-time.Second),
				Mean: 14 * ms, P50: 12 * ms, P95: 31 * ms, P99: 84 * ms, Answers: 48190,
				Queries: 48237, Retries: 24, Hedges: 9, InFlight: 3, Failures: map[string]uint64{"timeout": 11, "rcode": 36, "overload": 0},
			},
			{
				Upstream: "udp://198.51.100.1", State: local.UpstreamDown, Since: now.Add(-90 * time.Second), LastGoodAnswer: now.Add(-95 * time.Second),
				Mean: 5200 * time.Microsecond, P50: 4800 * time.Microsecond, P95: 9100 * time.Microsecond, P99: 22 * ms, Answers: 40,
				Queries: 52, Retries: 40, Hedges: 12, ForeignAnswers: 1, Failures: map[string]uint64{"timeout": 12},
			},
		}},
		{Zone: "corp.example", Upstreams: []local.UpstreamStats{{Upstream: "udp://10.0.0.53", State: local.UpstreamHealthy, Since: now.Add(-26 * time.Hour)}}},
	}
	text := table(t, groups, now)
	document, err := os.ReadFile(filepath.Join("..", "..", "..", "deploy", "monitoring.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(document), text) {
		t.Errorf("deploy/monitoring.md does not show this table:\n%s", text)
	}
}

// TestZoneWithoutHealthyUpstream checks the text and the exit code for zones without a healthy upstream.
func TestZoneWithoutHealthyUpstream(t *testing.T) {
	t.Parallel()
	now := time.Now()
	none := local.UpstreamGroup{Zone: ".", Missing: "no resolver to forward to: /etc/resolv.conf names no name server; set REMPART_UPSTREAMS"}
	loop := local.UpstreamGroup{Zone: "corp.example", Shed: 7, Denied: 1, Upstreams: []local.UpstreamStats{{Upstream: "udp://10.0.0.53", State: local.UpstreamLoop, Since: now}}}
	for _, g := range []local.UpstreamGroup{none, loop, {}} {
		if !lacksHealthy(g) {
			t.Errorf("%+v is taken for a zone with a healthy upstream", g)
		}
	}
	text := table(t, []local.UpstreamGroup{none, loop, {Zone: "home.arpa"}}, now)
	for _, want := range []string{
		"zone .: 0 questions, 0 unanswered, 0 in flight\n  no upstream: no resolver to forward to: /etc/resolv.conf names no name server",
		"0 in flight, 7 refused because too many questions were waiting, 1 without a retry or hedge because these are limited\n",
		"  udp://10.0.0.53  forwards back to this server, not used for 0 seconds  none yet          -    -    -    -     0 ",
		"zone home.arpa: 0 questions, 0 unanswered, 0 in flight\n  no upstream: none is known yet\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the text does not contain %q:\n%s", want, text)
		}
	}
}

func table(t *testing.T, groups []local.UpstreamGroup, now time.Time) string {
	t.Helper()
	var b strings.Builder
	if err := writeUpstreams(&b, groups, false, now); err != nil {
		t.Fatal(err)
	}
	return b.String()
}
