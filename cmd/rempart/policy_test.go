package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

func TestObserveModeBlocksNothing(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	list := t.TempDir() + "/list.txt"
	write(t, list, "bad.example")
	p := start(t, upstreams(u), "REMPART_LISTS="+list, "REMPART_MODE=observe")
	for range 2 { // the first answer comes from the upstream, and the second from the cache
		m := ask(t, p, "bad.example")
		if got := address(m); got != origin || errorsOf(m) != nil {
			t.Errorf("a name that would be blocked: %v", m)
		}
	}
	if !strings.Contains(p.Stdout(), "observing") {
		t.Errorf("the greeting does not say that nothing is blocked:\n%s", p.Stdout())
	}
	_, metrics := get(t, p, "/metrics")
	for _, line := range []string{`rempart_queries_total{rcode="NOERROR",transport="udp",verdict="block"} 2`, "rempart_observe_mode 1"} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("/metrics has no line %q", line)
		}
	}
}

func TestOtherClientsAreRefused(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	p := start(t, upstreams(u), "REMPART_CLIENTS=127.0.0.2,10.0.0.0/8")
	for _, network := range []string{"udp", "tcp"} {
		for _, name := range []string{"good.example", "phishing.test", "localhost"} {
			m := dnstest.Exchange(t, network, p.DNS, question(name))
			if m.Rcode != dns.RcodeRefused {
				t.Errorf("%s over %s: %v", name, network, m)
			}
			if diff := cmp.Diff([]uint16{18}, errorsOf(m)); diff != "" {
				t.Errorf("%s over %s: extended errors (-want +got):\n%s", name, network, diff)
			}
		}
	}
	for _, q := range u.Seen() {
		if q.Msg.Question[0].Name == "good.example." {
			t.Error("a refused query was sent to the upstream")
		}
	}
}

func TestForwardedZones(t *testing.T) {
	t.Parallel()
	u := dnstest.NewUpstream(t, nil)
	local := dnstest.NewUpstream(t, dnstest.Answer("@ 300 IN A 192.168.1.7"))
	p := start(t, upstreams(u), "REMPART_FORWARD=home.arpa=udp://"+local.Addr.String()+
		", corp.example = tcp://"+local.Addr.String())
	for name, want := range map[string]string{
		"printer.home.arpa": "192.168.1.7", "wiki.corp.example": "192.168.1.7", "corp.example": "192.168.1.7",
		"notcorp.example": origin, "x.internal": "NXDOMAIN",
	} {
		if got := address(ask(t, p, name)); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	for _, zone := range []string{"home.arpa", "corp.example"} {
		if !strings.Contains(p.Stdout(), zone+" has its own") {
			t.Errorf("the greeting does not name the zone %s:\n%s", zone, p.Stdout())
		}
	}
	for _, q := range u.Seen() {
		if name := strings.ToLower(q.Msg.Question[0].Name); strings.HasSuffix(name, "home.arpa.") || strings.HasSuffix(name, ".corp.example.") {
			t.Errorf("the query for %s was sent to the main upstream", name)
		}
	}
}

// TestOwnUpstreamLoopIsDetected checks that a program that is its own upstream detects and logs the loop, and answers clients with SERVFAIL.
func TestOwnUpstreamLoopIsDetected(t *testing.T) {
	t.Parallel()
	addr := dnstest.FreeAddr(t)
	p := start(t, "REMPART_LISTEN="+addr, "REMPART_UPSTREAMS=udp://"+addr)
	dnstest.Eventually(t, "the loop is logged", func() bool { return strings.Contains(p.Stderr(), "forwards back to this server") })
	m := ask(t, p, "good.example")
	if m.Rcode != dns.RcodeServerFailure {
		t.Errorf("a query: %v", m)
	}
	if diff := cmp.Diff([]uint16{23}, errorsOf(m)); diff != "" {
		t.Errorf("extended errors (-want +got):\n%s", diff)
	}
	if got := address(ask(t, p, "phishing.test")); got != page {
		t.Errorf("a blocked name: %s", got)
	}
	if _, metrics := get(t, p, "/metrics"); !strings.Contains(metrics, `rempart_upstream_looping{upstream="udp://`+addr+`",zone="."} 1`) {
		t.Error("the metrics do not show the loop")
	}
}

// TestLoopThroughUpstreamIsDetected checks that a loop through an upstream that forwards back to the program is detected, and that another upstream answers.
func TestLoopThroughUpstreamIsDetected(t *testing.T) {
	t.Parallel()
	addr := dnstest.FreeAddr(t)
	u := dnstest.NewUpstream(t, func(q *dnstest.Query) {
		packed, err := q.Msg.Pack()
		if err != nil || q.Msg.Question[0].Qclass != dns.ClassINET {
			q.Send(q.Reply(dns.RcodeRefused)) // many resolvers refuse CHAOS queries
			return
		}
		if answer, err := dnstest.ExchangePacked("udp", addr, packed); err == nil {
			q.SendRaw(answer)
		}
	})
	good := dnstest.NewUpstream(t, nil)
	p := start(t, "REMPART_LISTEN="+addr, upstreams(u)+",udp://"+good.Addr.String())
	dnstest.Eventually(t, "the loop is logged", func() bool { return strings.Contains(p.Stderr(), "forwards back to this server") })
	if got := address(ask(t, p, "good.example")); got != origin {
		t.Errorf("with another upstream: %s", got)
	}
}
