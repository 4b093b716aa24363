package main

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/local"
)

// upstreamGroups returns the output of "rempart upstreams --json".
func (s *served) upstreamGroups(t *testing.T) (groups []local.UpstreamGroup) {
	t.Helper()
	stdout, stderr, code := s.run(t, "upstreams", "--json")
	if code == 2 {
		t.Fatalf("rempart upstreams --json: %s", stderr)
	}
	for line := range strings.Lines(stdout) {
		var g local.UpstreamGroup
		dec := json.NewDecoder(strings.NewReader(line))
		dec.DisallowUnknownFields()
		if err := dec.Decode(&g); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		groups = append(groups, g)
	}
	return groups
}

// TestUpstreamsOfRunningServer checks the upstreams that the command and the metrics show, with those of a zone of REMPART_FORWARD.
func TestUpstreamsOfRunningServer(t *testing.T) {
	t.Parallel()
	const delay = 20 * time.Millisecond
	corp := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		if strings.HasPrefix(strings.ToLower(q.Msg.Question[0].Name), "broken.") {
			dnstest.Rcode(dns.RcodeServerFailure)(q)
			return
		}
		dnstest.Delay(delay, dnstest.Answer("@ 300 IN A 192.168.1.7"))(q)
	})
	s := serveAtHome(t, "REMPART_FORWARD=corp.example=tcp://"+corp.Addr.String())
	main, zone := "udp://"+s.up.Addr.String(), "tcp://"+corp.Addr.String()
	s.says(t, 0, "upstreams", "zone .: 0 questions, 0 unanswered, 0 in flight\n", main+"  healthy for ", "zone corp.example: 0 questions", zone+"  healthy for ")
	for i := range 30 {
		ask(t, s.Program, fmt.Sprintf("n%d.secret-name.example", i))
		ask(t, s.Program, fmt.Sprintf("n%d.secret-name.corp.example", i))
	}
	ask(t, s.Program, "broken.secret-name.corp.example")

	stdout, _, code := s.run(t, "upstreams")
	for _, want := range []string{
		`(?m)^zone \.: 30 questions, 0 unanswered, `, `(?m)^  udp://\S+ +healthy for \d+ \w+ +\d+ seconds? ago +[\d.]+ ms +[\d.]+ ms +[\d.]+ ms +[\d.]+ ms +\d+ `,
		`(?m)^zone corp\.example: 31 questions, 0 unanswered, `, `(?m)^  tcp://\S+ +healthy for .+ [\d.]+ ms +.* \d+ rcode`,
	} {
		if !regexp.MustCompile(want).MatchString(stdout) {
			t.Errorf("rempart upstreams does not show %s:\n%s", want, stdout)
		}
	}
	if code != 0 || strings.Contains(stdout, "secret-name") {
		t.Errorf("exit code %d, want 0, and no queried name:\n%s", code, stdout)
	}
	groups := s.upstreamGroups(t)
	if len(groups) != 2 || groups[0].Zone != "." || groups[1].Zone != "corp.example" || len(groups[0].Upstreams) != 1 || len(groups[1].Upstreams) != 1 {
		t.Fatalf("%+v; want one upstream of the root and one of corp.example", groups)
	}
	u := groups[1].Upstreams[0]
	if u.Upstream != zone || u.Protocol != "tcp" || u.State != local.UpstreamHealthy || u.Since.IsZero() || u.LastGoodAnswer.IsZero() {
		t.Errorf("%+v; want a healthy upstream over TCP", u)
	}
	if u.P50 < delay || u.P95 < u.P50 || u.P99 < u.P95 || u.Mean <= 0 || u.Answers < 31 || u.Queries < u.Answers || u.Failures["rcode"] == 0 {
		t.Errorf("%+v; want 31 answers, of which half took at least %v, and a failure of the kind rcode", u, delay)
	}
	if u := groups[0].Upstreams[0]; u.Upstream != main || u.Protocol != "udp" || u.Answers < 30 || u.P50 <= 0 {
		t.Errorf("%+v; want 30 answers over UDP", u)
	}

	_, metrics := get(t, s.Program, "/metrics")
	for _, want := range []string{
		`rempart_upstream_info{protocol="udp",upstream="` + main + `",zone="."} 1`,
		`rempart_upstream_info{protocol="tcp",upstream="` + zone + `",zone="corp.example"} 1`,
		`rempart_upstream_latency_seconds{upstream="` + zone + `",zone="corp.example",quantile="0.5"} 0.`,
		`rempart_upstream_latency_seconds{upstream="` + zone + `",zone="corp.example",quantile="0.99"} 0.`,
		fmt.Sprintf(`rempart_upstream_latency_seconds_count{upstream="%s",zone="corp.example"} %d`, zone, u.Answers),
		`rempart_upstream_rtt_p95_seconds{upstream="` + zone + `",zone="corp.example"} 0.`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics does not contain %s:\n%s", want, metrics)
		}
	}
}

// TestUpstreamsExitCodeWithDeadUpstream checks that the command ends with exit code 1 if the only upstream of one zone is down.
func TestUpstreamsExitCodeWithDeadUpstream(t *testing.T) {
	t.Parallel()
	dead := dnstest.FreeAddr(t)
	s := serveAtHome(t, "REMPART_FORWARD=corp.example=udp://"+dead)
	dnstest.Eventually(t, "the upstream is down", func() bool {
		ask(t, s.Program, "printer.corp.example")
		groups := s.upstreamGroups(t)
		return len(groups) == 2 && groups[1].Upstreams[0].State == local.UpstreamDown
	})
	s.says(t, 1, "upstreams", "udp://"+s.up.Addr.String()+"  healthy for ", "udp://"+dead+"  down for ", "none yet", " unreachable")
	s.says(t, 1, "upstreams --json", `"state":"down"`, `"state":"healthy"`)
	u := s.upstreamGroups(t)[1].Upstreams[0]
	if u.Answers != 0 || u.P50 != 0 || !u.LastGoodAnswer.IsZero() || u.Failures["unreachable"]+u.Failures["timeout"] == 0 {
		t.Errorf("%+v; want failures and no answer", u)
	}
}

// TestUpstreamsNamesLoop checks that the command says that an upstream forwards back to the server.
func TestUpstreamsNamesLoop(t *testing.T) {
	t.Parallel()
	addr := dnstest.FreeAddr(t)
	s := serveAtHome(t, "REMPART_LISTEN="+addr, "REMPART_UPSTREAMS=udp://"+addr)
	dnstest.Eventually(t, "the loop is detected", func() bool {
		return slices.ContainsFunc(s.upstreamGroups(t)[0].Upstreams, func(u local.UpstreamStats) bool { return u.State == local.UpstreamLoop })
	})
	s.says(t, 1, "upstreams", "udp://"+addr+"  forwards back to this server, not used for ")
}
