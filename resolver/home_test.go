package resolver

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/blocklist"
	"rempart/internal/dnstest"
)

func TestCanaries(t *testing.T) {
	const passes = " 300 IN "
	for _, tt := range []struct {
		which     Canary
		name, typ string
		style     Style
		listed    string
		want      string
	}{
		{FirefoxCanary, "use-application-dns.net", "A", Page, "", "NXDOMAIN | use-application-dns.net. SOA"},
		{FirefoxCanary, "USE-application-dns.net", "AAAA", Page, "", "NXDOMAIN | use-application-dns.net. SOA"},
		{FirefoxCanary, "x.use-application-dns.net", "A", Page, "", "NXDOMAIN | use-application-dns.net. SOA"},
		{FirefoxCanary, "use-application-dns.net", "DS", Page, "", "NOERROR | use-application-dns.net." + passes + "DS 1 13 2 00"},
		{FirefoxCanary, "use-application-dns.net", "A", Page, "use-application-dns.net", "NXDOMAIN | use-application-dns.net. SOA"},
		{FirefoxCanary, "xuse-application-dns.net", "A", Page, "", "NOERROR | xuse-application-dns.net." + passes + "A 192.0.2.1"},
		{FirefoxCanary, "use-application-dns.com", "A", Page, "", "NOERROR | use-application-dns.com." + passes + "A 192.0.2.1"},
		{FirefoxCanary, "application-dns.net", "A", Page, "", "NOERROR | application-dns.net." + passes + "A 192.0.2.1"},
		{FirefoxCanary, "mask.icloud.com", "A", Page, "", "NOERROR | mask.icloud.com." + passes + "A 192.0.2.1"},
		{FirefoxCanary | ICloudCanary, "mask.icloud.com", "A", Page, "", "NXDOMAIN | mask.icloud.com. SOA"},
		{ICloudCanary, "mask-h2.icloud.com", "HTTPS", Page, "", "NXDOMAIN | mask-h2.icloud.com. SOA"},
		{ICloudCanary, "www.icloud.com", "A", Page, "", "NOERROR | www.icloud.com." + passes + "A 192.0.2.1"},
		{ICloudCanary, "icloud.com", "A", Page, "", "NOERROR | icloud.com." + passes + "A 192.0.2.1"},
		{ICloudCanary, "use-application-dns.net", "A", Page, "", "NOERROR | use-application-dns.net." + passes + "A 192.0.2.1"},
		// A canary name that is listed but not configured is blocked without the address of the warning page.
		{0, "use-application-dns.net", "A", Page, "use-application-dns.net", "NXDOMAIN | use-application-dns.net. SOA"},
		{0, "use-application-dns.net", "A", Page, "=use-application-dns.net", "NOERROR | use-application-dns.net. SOA"},
		{0, "mask.icloud.com", "A", Page, "icloud.com", "NXDOMAIN | icloud.com. SOA"},
		{0, "mask.icloud.com", "AAAA", Null, "mask.icloud.com", "NXDOMAIN | mask.icloud.com. SOA"},
		{0, "www.icloud.com", "A", Page, "icloud.com", "NOERROR | www.icloud.com. 30 IN A 192.0.2.66"},
	} {
		lines := []string{}
		if tt.listed != "" {
			lines = append(lines, tt.listed)
		}
		b := newBench(t, func(c *Config) { c.Canaries, c.Style = tt.which, tt.style }, lines...)
		a, fast := b.ask(query(t, tt.name, tt.typ))
		if got := strings.ToLower(brief(a)); got != strings.ToLower(tt.want) {
			t.Errorf("%d, %s %s, listed %q: got %s, want %s", tt.which, tt.name, tt.typ, tt.listed, got, tt.want)
		}
		if !strings.Contains(tt.want, passes) && !fast {
			t.Errorf("%s: expected an answer from Fast", tt.name)
		}
	}
	// A canary name may also be an alias of a listed name.
	b := newBench(t, nil, "evil.example")
	b.up.set(records("@ 300 IN CNAME evil.example.", "evil.example. 300 IN A 192.0.2.1"))
	b.want("a blocked target", query(t, "use-application-dns.net", "A"), "NOERROR | use-application-dns.net. SOA")
	// A zone with its own upstream takes precedence.
	b = newBench(t, func(c *Config) {
		c.Canaries = FirefoxCanary
		c.Forward = []Zone{{dnstest.WireName(t, "use-application-dns.net"), &fakeUpstreams{answer: records("@ 60 IN A 192.0.2.9")}}}
	})
	b.want("a zone of its own", query(t, "use-application-dns.net", "A"), "NOERROR | use-application-dns.net. 60 IN A 192.0.2.9")
}

func TestSingleLabelsAreNotForwarded(t *testing.T) {
	home := &fakeUpstreams{answer: records("@ 60 IN A 192.168.1.9")}
	for _, keep := range []bool{true, false} {
		b := newBench(t, func(c *Config) {
			c.KeepSingleLabels = keep
			c.Forward = []Zone{{dnstest.WireName(t, "router"), home}}
		}, "listed")
		for _, tt := range []struct {
			name, typ string
			stays     bool
		}{
			{"nas", "A", true}, {"nas", "AAAA", true}, {"wpad", "A", true}, {"Printer", "A", true}, {"nas", "HTTPS", true}, {"nas", "TXT", true}, {"example", "A", true},
			{strings.Repeat("a", 63), "A", true}, {`a\.b`, "A", true},
			{"nas", "NS", false}, {"nas", "SOA", false}, {"nas", "DS", false}, {"nas", "DNSKEY", false},
			{"com", "A", false}, {"com", "DS", false}, {"fr", "NS", false}, {"dev", "HTTPS", false}, {"ck", "A", false}, {"xn--p1ai", "A", false}, {"arpa", "A", false},
			{".", "NS", false}, {".", "A", false}, {"nas.lan", "A", false}, {"www.example", "A", false},
		} {
			before := b.up.count()
			a, _ := b.ask(query(t, tt.name, tt.typ))
			left := b.up.count() > before
			if left != (!keep || !tt.stays) {
				t.Errorf("keep %v: %s %s: forwarded is %v, want the opposite", keep, tt.name, tt.typ, left)
			}
			if got := brief(a); !left && got != "NXDOMAIN | . SOA" {
				t.Errorf("%s %s: %s, want NXDOMAIN with the SOA of the root", tt.name, tt.typ, got)
			}
		}
		b.want("a single label that is a configured zone", query(t, "router", "A"), "NOERROR | router. 60 IN A 192.168.1.9")
	}
}

func TestRebinding(t *testing.T) {
	home := &fakeUpstreams{answer: records("@ 60 IN A 192.168.1.9")}
	refuse := func(c *Config) {
		c.RefuseRebinding = true
		c.RebindingAllow = [][]byte{dnstest.WireName(t, "plex.direct")}
		c.Forward = []Zone{{dnstest.WireName(t, "corp.example"), home}}
	}
	const refused = "NOERROR | www.public.example. SOA | opt | Filtered"
	for _, addr := range []string{"0.0.0.0", "0.1.2.3", "10.1.2.3", "100.64.0.1", "127.0.0.1", "127.1.2.3", "169.254.169.254", "172.16.0.1", "172.31.255.255",
		"192.168.1.1", "255.255.255.255", "::", "::1", "fc00::1", "fd12::1", "fe80::1", "fec0::1", "::ffff:192.168.1.1", "::ffff:0:10.0.0.1", "::10.0.0.1",
		"64:ff9b::192.168.1.1", "64:ff9b:1::10.0.0.1", "2002:c0a8:0101::1"} {
		typ, hint := "A", "ipv4hint="
		if strings.Contains(addr, ":") {
			typ, hint = "AAAA", "ipv6hint="
		}
		b := newBench(t, refuse)
		b.up.set(records("@ 300 IN "+typ+" "+addr, "@ 300 IN "+typ+" "+addr))
		for range 2 { // the second answer comes from the cache
			b.want(addr, query(t, "www.public.example", typ, "+edns"), refused)
		}
		if n := b.up.count(); n != 1 {
			t.Errorf("%s: the upstream was asked %d times, want once", addr, n)
		}
		if n := b.r.slow.rebinding.Load(); n != 2 {
			t.Errorf("%s: %d answers were counted as rebinding, want 2", addr, n)
		}
		if strings.HasPrefix(addr, "::ffff:") { // miekg/dns does not accept an IPv4-mapped address as a hint
			continue
		}
		b = newBench(t, refuse)
		b.up.set(records("@ 300 IN HTTPS 1 . alpn=h2 " + hint + addr))
		b.want(addr+" as a hint", query(t, "www.public.example", "HTTPS", "+edns"), refused)
		b = newBench(t, nil)
		b.up.set(records("@ 300 IN " + typ + " " + addr))
		if a, _ := b.ask(query(t, "www.public.example", typ)); len(a.Answer) != 1 {
			t.Errorf("%s is withheld although rebinding is allowed", addr)
		}
	}
	for _, addr := range []string{"192.0.2.1", "8.8.8.8", "172.32.0.1", "100.128.0.1", "169.253.0.1", "2001:db8::1", "64:ff9b::8.8.8.8", "2002:808:808::1", "::ffff:8.8.8.8", "1::"} {
		typ := "A"
		if strings.Contains(addr, ":") {
			typ = "AAAA"
		}
		b := newBench(t, refuse)
		b.up.set(records("@ 300 IN " + typ + " " + addr))
		if a, _ := b.ask(query(t, "www.public.example", typ)); len(a.Answer) != 1 {
			t.Errorf("%s is withheld", addr)
		}
	}
}

func TestRebindingExceptions(t *testing.T) {
	home := &fakeUpstreams{answer: records("@ 60 IN A 192.168.1.9")}
	b := newBench(t, func(c *Config) {
		c.RefuseRebinding = true
		c.RebindingAllow = [][]byte{dnstest.WireName(t, "plex.direct")}
		c.Forward = []Zone{{dnstest.WireName(t, "corp.example"), home}, {dnstest.WireName(t, "168.192.in-addr.arpa"), home}}
	}, "+allowed.example", "listed.example")
	b.up.set(records("@ 300 IN A 192.168.1.1"))
	for _, tt := range []struct {
		name string
		data bool
	}{
		{"www.example.com", false}, {"com", false}, {"plex.direct", true}, {"1-2.abc.plex.direct", true}, {"xplex.direct", false}, {"direct", false},
		{"nas.corp.example", true}, {"corp.example", true}, {"other.example", false}, {"localhost", true}, {"app.localhost", true},
		{"router.lan", true}, {"router.home", true}, {"a.b.intranet", true}, {"nas", true}, {"www.allowed.example", true},
	} {
		for range 2 {
			a, _ := b.ask(query(t, tt.name, "A"))
			if got := len(a.Answer) > 0; got != tt.data || a.Rcode != dns.RcodeSuccess {
				t.Errorf("%s: %s, must have an address: %v", tt.name, brief(a), tt.data)
			}
		}
	}
	b.want("a listed name", query(t, "listed.example", "A"), "NOERROR | listed.example. 30 IN A 192.0.2.66")
	b.want("structured", query(t, "www.example.com", "A", "+sde"), "NOERROR | www.example.com. SOA | opt | Filtered")
	a, _ := b.ask(query(t, "www.example.com", "A", "+sde"))
	if text := a.IsEdns0().Option[0].(*dns.EDNS0_EDE).ExtraText; !strings.Contains(text, "réseau local") || !strings.Contains(text, `"fr"`) {
		t.Errorf("structured error %q", text)
	}
	// An alias whose target has a public and a private address.
	b.up.set(records("@ 300 IN CNAME x.other.example.", "x.other.example. 300 IN A 192.0.2.1", "x.other.example. 300 IN A 10.0.0.1"))
	b.want("CNAME", query(t, "alias.example.com", "A"), "NOERROR | alias.example.com. SOA")

	b = newBench(t, func(c *Config) { c.RefuseRebinding, c.Observe = true, true })
	b.up.set(records("@ 300 IN A 192.168.1.1"))
	b.want("observed only", query(t, "www.example.com", "A"), "NOERROR | www.example.com. 300 IN A 192.168.1.1")
}

// TestRebindingIsCheckedOncePerView checks that a cached answer without private addresses is not searched again under the same view.
func TestRebindingIsCheckedOncePerView(t *testing.T) {
	b := newBench(t, func(c *Config) { c.RefuseRebinding = true })
	b.ask(query(t, "www.example.com", "A"))
	b.ask(query(t, "www.example.com", "A"))
	q := query(t, "www.example.com", "A")
	batch := fastBatch(t, q)
	b.w.Fast(batch)
	key := keyOf(&batch[0])
	if e := b.r.cache.Get(&key); b.r.mustJudge(e, b.set.View()) {
		t.Error("the answer would be searched again under the same view")
	}
}

func TestRefusedClientsAreReportedOnce(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Clients = []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")} })
	ask := func(client string) bool { return b.r.Serves(netip.MustParseAddr(client)) }
	for range 3 {
		for _, client := range []string{"10.0.0.1", "192.168.2.1", "100.64.1.1", "203.0.113.5", "2001:db8::5", "fd00::5", "fe80::5", "169.254.1.1", "127.0.0.1", "::1"} {
			if ask(client) {
				t.Errorf("%s is served, want a refusal", client)
			}
		}
	}
	var got []string
	for len(b.r.Refused()) > 0 {
		got = append(got, <-b.r.Refused())
	}
	want := []string{"private IPv4", "provider's shared IPv4 (100.64.0.0/10)", "global IPv4", "global IPv6", "unique local IPv6", "link-local", "loopback"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	b.r.SetClients([]netip.Prefix{netip.MustParsePrefix("2001:db8::/64")})
	if !ask("2001:db8::5") || ask("192.168.1.5") {
		t.Error("SetClients did not replace the list of clients")
	}
	b.r.SetClients(nil)
	if ask("2001:db8::5") {
		t.Error("a client is served although the list of clients is empty")
	}
}

// TestReasonNamesTheTarget: with REMPART_REASON=lists, the extended error of an answer that is blocked because of its target names the target.
func TestReasonNamesTheTarget(t *testing.T) {
	for _, tt := range []struct {
		listed, qtype string
		answer        []string
		want          string
	}{
		{"evil.example", "A", []string{"@ 300 IN CNAME x.evil.example.", "x.evil.example. 300 IN A 192.0.2.7"}, "x.evil.example"},
		{"evil.example", "HTTPS", []string{"@ 300 IN HTTPS 1 svc.evil.example. alpn=h2"}, "svc.evil.example"},
		{"203.0.113.0/24", "A", []string{"@ 300 IN A 203.0.113.7"}, "203.0.113.7"},
		{"2001:db8:bad::/48", "AAAA", []string{"@ 300 IN AAAA 2001:db8:bad::7"}, "2001:db8:bad::7"},
		{"evil.example", "A", []string{`@ 300 IN CNAME x\"y\\z.evil.example.`, `x\"y\\z.evil.example. 300 IN A 192.0.2.7`}, "z.evil.example"},
	} {
		for _, told := range []bool{true, false} {
			b := newBench(t, func(c *Config) { c.NameSources = told }, tt.listed)
			b.up.set(records(tt.answer...))
			for _, flag := range []string{"+edns", "+sde"} {
				for range 2 {
					a, _ := b.ask(query(t, "shop.example", tt.qtype, flag))
					text := ""
					for _, o := range a.IsEdns0().Option {
						if e := o.(*dns.EDNS0_EDE); e.InfoCode == dns.ExtendedErrorCodeBlocked {
							text = e.ExtraText
						}
					}
					if strings.Contains(text, tt.want) != told {
						t.Errorf("want %s in the text only if lists are named; option %s, lists named %v, text %q", tt.want, flag, told, text)
					}
				}
				batch := fastBatch(t, query(t, "shop.example", tt.qtype, flag))
				b.w.Fast(batch)
				if n := testing.AllocsPerRun(10, func() { b.w.Fast(batch) }); n != 0 && !raceEnabled && tt.listed == "evil.example" {
					t.Errorf("%s: %v allocations, want none", flag, n)
				}
			}
		}
	}
	// Two targets with the same place in the table get different reasons.
	b := newBench(t, func(c *Config) { c.NameSources = true }, "evil.example")
	for i := range 2 * maxTargets {
		target := leadsTo{name: dnstest.WireName(t, "n"+string(rune('a'+i%26))+strings.Repeat("x", i/26)+".evil.example")}
		view := b.set.View()
		v := view.Match(target.name, blocklist.AllCategories, 0)
		if got := b.r.reason(view, v, &cause{target: target}).plain; !strings.HasSuffix(got, " "+target.String()) {
			t.Fatalf("reason for the target %s: %q, want the target at its end", target, got)
		}
	}
}
