package resolver

import (
	"net/netip"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
)

// TestProbeZone checks the answers in the probe zone: the page's address in the family of the client, and no data for other types.
func TestProbeZone(t *testing.T) {
	const four, six = "192.0.2.10", "2001:db8::10"
	both := func(c *Config) { c.Probe = dnstest.WireName(t, probeName) }
	only := func(family int, name string) func(*Config) {
		return func(c *Config) {
			c.Probe = dnstest.WireName(t, name)
			if family == 4 {
				c.PageIPv6 = netip.Addr{}
			} else {
				c.PageIPv4 = netip.Addr{}
			}
		}
	}
	for _, tt := range []struct {
		what         string
		change       func(*Config)
		client, name string
		typ          string
		want         string
	}{
		{"IPv4, A", both, four, "x.probe.rempart.internal", "A", "NOERROR | x.probe.rempart.internal. 0 IN A 192.0.2.66"},
		{"IPv4, AAAA", both, four, "x.probe.rempart.internal", "AAAA", "NOERROR | probe.rempart.internal. SOA"},
		{"IPv6, A", both, six, "x.probe.rempart.internal", "A", "NOERROR | probe.rempart.internal. SOA"},
		{"IPv6, AAAA", both, six, "A.b.Probe.rempart.internal", "AAAA", "NOERROR | A.b.Probe.rempart.internal. 0 IN AAAA 2001:db8::66"},
		{"the zone itself", both, four, "probe.rempart.internal", "A", "NOERROR | probe.rempart.internal. 0 IN A 192.0.2.66"},
		{"HTTPS", both, four, "x.probe.rempart.internal", "HTTPS", "NOERROR | probe.rempart.internal. SOA"},
		{"ANY", both, four, "x.probe.rempart.internal", "ANY", "NOERROR | probe.rempart.internal. SOA"},
		{"DS in a zone that is not public", both, four, "probe.rempart.internal", "DS", "NOERROR | probe.rempart.internal. SOA"},
		{"above it", both, four, "rempart.internal", "A", "NOERROR | internal. SOA"},
		{"beside it", both, four, "xprobe.rempart.internal", "A", "NXDOMAIN | internal. SOA"},
		{"its bytes within a label", both, four, `x\005probe.rempart.internal`, "A", "NXDOMAIN | internal. SOA"},
		{"no IPv4 address", only(6, probeName), four, "x.probe.rempart.internal", "AAAA", "NOERROR | x.probe.rempart.internal. 0 IN AAAA 2001:db8::66"},
		{"no IPv6 address", only(4, probeName), six, "x.probe.rempart.internal", "A", "NOERROR | x.probe.rempart.internal. 0 IN A 192.0.2.66"},
		{"an own name", only(4, "probe.isp.example"), four, "x.probe.isp.example", "A", "NOERROR | x.probe.isp.example. 0 IN A 192.0.2.66"},
		{"DS of an own name", only(4, "probe.isp.example"), four, "probe.isp.example", "DS", "NOERROR | probe.isp.example. 300 IN DS 1 13 2 00"},
		{"DS below an own name", only(4, "probe.isp.example"), four, "x.probe.isp.example", "DS", "NOERROR | probe.isp.example. SOA"},
		{"above an own name", only(4, "probe.isp.example"), four, "isp.example", "A", "NOERROR | isp.example. 300 IN A 192.0.2.1"},
		{"no zone", nil, four, "x.probe.rempart.internal", "A", "NXDOMAIN | internal. SOA"},
	} {
		for _, style := range []Style{Page, Null, NXDomain} {
			b := newBench(t, func(c *Config) {
				if c.Style = style; tt.change != nil {
					tt.change(c)
				}
			}, "rempart.internal", "probe.isp.example")
			if got := brief(b.askFrom(netip.MustParseAddr(tt.client), query(t, tt.name, tt.typ))); got != tt.want {
				t.Errorf("%s:\n got %s\nwant %s", tt.what, got, tt.want)
			}
		}
	}
}

// TestProbeZoneIsNotForwarded checks that a configured zone does not take names of the probe zone, and that other clients are refused.
func TestProbeZoneIsNotForwarded(t *testing.T) {
	elsewhere := &fakeUpstreams{answer: usual}
	b := newBench(t, func(c *Config) {
		c.Probe = dnstest.WireName(t, probeName)
		c.Forward = []Zone{{Name: dnstest.WireName(t, "internal"), Upstreams: elsewhere}}
		c.Clients = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	})
	m := query(t, "x."+probeName, "A", "-rd")
	if got := brief(b.askFrom(netip.MustParseAddr("192.0.2.10"), m)); got != "NOERROR | x.probe.rempart.internal. 0 IN A 192.0.2.66" || elsewhere.count() != 0 {
		t.Errorf("%s; forwarded: %v", got, elsewhere.asked)
	}
	if a := b.askFrom(netip.MustParseAddr("198.51.100.1"), m); a.Rcode != dns.RcodeRefused {
		t.Errorf("another client: %s", brief(a))
	}
}
