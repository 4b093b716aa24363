package resolver

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/grant"
)

// TestOneTokenIsOneGrant checks that queries with one token do not make the grant longer, in whatever case and type they are asked, over every path.
func TestOneTokenIsOneGrant(t *testing.T) {
	withinGrants(t, nil, []string{"bad.example"}, func(t *testing.T, b *grantBench) {
		client := netip.MustParseAddr(aClient)
		m := b.goQuery(aClient, "bad.example", "A")
		m.Question[0].Name = strings.ToUpper(m.Question[0].Name)
		if a := b.askFrom(client, m); brief(a) != "NOERROR | "+m.Question[0].Name+" 0 IN A 192.0.2.66" {
			t.Errorf("the answer is %s, want the page in the case of the question", brief(a))
		}
		time.Sleep(119 * time.Second)
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeHTTPS} {
			m.Question[0].Qtype = typ
			b.askFrom(client, m)
		}
		time.Sleep(anHour - 120*time.Second)
		b.expect("just before the end", aClient, "bad.example", passA)
		time.Sleep(time.Second)
		b.expect("at the end", aClient, "bad.example", blockA)
		b.askFrom(client, m)
		if b.expect("with the old token", aClient, "bad.example", blockA); b.metric("rempart_continue_refused_total", "reason=expired") != 1 {
			t.Error("the old token is not counted as expired")
		}
	})
}

// TestTypesThatSetNoGrant checks that only queries that a browser sends set a grant.
func TestTypesThatSetNoGrant(t *testing.T) {
	withinGrants(t, nil, []string{"bad.example"}, func(t *testing.T, b *grantBench) {
		for _, typ := range []string{"TXT", "ANY", "DS", "SVCB", "NS"} {
			if a := b.askFrom(netip.MustParseAddr(aClient), b.goQuery(aClient, "bad.example", typ)); a.Rcode != dns.RcodeSuccess || len(a.Answer) > 0 {
				t.Errorf("%s: %s, want no data", typ, brief(a))
			}
		}
		b.expect("after other types", aClient, "bad.example", blockA)
	})
}

// TestRefusedTokens checks that tokens of others, for other names, and for names that are not blocked or may not be passed set no grant, and what is counted.
func TestRefusedTokens(t *testing.T) {
	withinGrants(t, nil, nil, func(t *testing.T, b *grantBench) {
		phishing := blocklist.Listing{Name: dnstest.WireName(t, "bad.example"), Scope: blocklist.Subtree, Category: blocklist.Phishing}
		malware := blocklist.Listing{Name: dnstest.WireName(t, "malware.example"), Scope: blocklist.Subtree, Category: blocklist.Malware}
		if err := b.set.Replace(listingsView(t, 2, phishing, malware)); err != nil {
			t.Fatal(err)
		}
		other := netip.MustParseAddr("192.0.2.11")
		b.askFrom(other, b.goQuery(aClient, "bad.example", "A")) // a link in a message, or a resolver between the client and this one
		b.expect("a token of another client", "192.0.2.11", "bad.example", blockA)
		b.expect("the client of the token", aClient, "bad.example", blockA)
		m := b.goQuery(aClient, "good.example", "A")
		m.Question[0].Name = strings.Replace(m.Question[0].Name, "good.", "bad.", 1)
		b.askFrom(netip.MustParseAddr(aClient), m)
		b.expect("a token for another name", aClient, "bad.example", blockA)
		if got := b.metric("rempart_continue_refused_total", "reason=foreign"); got != 2 {
			t.Errorf("%v tokens are counted as foreign, want 2", got)
		}
		b.continueTo(aClient, "malware.example")
		b.expect("a category that may not be passed", aClient, "malware.example", blockA)
		b.continueTo(aClient, "good.example")
		if got := b.metric("rempart_continue_refused_total", "reason=not-allowed"); got != 2 {
			t.Errorf("%v tokens are counted as not allowed, want 2", got)
		}
		if err := b.set.Replace(listingsView(t, 3, phishing, blocklist.Listing{Name: dnstest.WireName(t, "good.example"), Scope: blocklist.Subtree, Category: blocklist.Phishing})); err != nil {
			t.Fatal(err)
		}
		b.expect("a name that was blocked later", aClient, "good.example", blockA)
		if b.up.count() != 0 {
			t.Errorf("the upstream was asked: %v", b.up.asked)
		}
	})
}

// TestGrantsNeedProbeZone checks the configuration.
func TestGrantsNeedProbeZone(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"no zone": func(c *Config) { c.Probe = nil }, "no secrets": func(c *Config) { c.Grants.Secrets = nil }, "no duration": func(c *Config) { c.Grants.Duration = 0 },
	} {
		b := newBench(t, nil)
		c := Config{Set: b.set, Cache: b.r.cache, Upstreams: b.up}
		withGrants(t, grant.Random())(&c)
		change(&c)
		if _, err := New(c); err == nil || !strings.Contains(fmt.Sprint(err), "probe zone") {
			t.Errorf("%s: %v", what, err)
		}
	}
}
