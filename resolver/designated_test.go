package resolver

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

// everywhere are the addresses of a listener without a host.
var everywhere = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}

// designated returns a resolver's three transports. Its certificate covers an address of each family.
func designated(t testing.TB, change func(*Designated)) *Designated {
	t.Helper()
	d := &Designated{
		Name: dnstest.WireName(t, "dns.example"),
		Endpoints: []Endpoint{
			{Transport: wire.TLS, ALPN: []string{"dot"}, Port: 853, Addrs: everywhere},
			{Transport: wire.HTTPS, ALPN: []string{"h2", "h3"}, Port: 443, Path: "/dns-query{?dns}", Addrs: everywhere},
			{Transport: wire.QUIC, ALPN: []string{"doq"}, Port: 8853, Addrs: everywhere},
		},
		Covered: []netip.Addr{netip.MustParseAddr("192.0.2.53"), netip.MustParseAddr("2001:db8::53")},
	}
	if change != nil {
		change(d)
	}
	return d
}

// askAt passes a query that was sent to the address at, "" if it is not known, through Fast and, if needed, Slow.
func (b *bench) askAt(at string, m *dns.Msg) *dns.Msg {
	b.t.Helper()
	batch := fastBatch(b.t, m)
	if at != "" {
		batch[0].Local = netip.MustParseAddr(at)
	}
	b.w.Fast(batch)
	if batch[0].Outcome == wire.Slow {
		b.r.Slow(b.t.Context(), &batch[0])
	}
	a := new(dns.Msg)
	if err := a.Unpack(batch[0].Out); err != nil {
		b.t.Fatal(err)
	}
	return a
}

// services returns the records of an answer without owner and TTL, one per line; additional ones begin with "+".
func services(a *dns.Msg) string {
	var lines []string
	for _, rr := range a.Answer {
		lines = append(lines, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	for _, rr := range a.Extra {
		if rr.Header().Rrtype != dns.TypeOPT {
			lines = append(lines, "+"+strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	return strings.Join(lines, "\n")
}

// TestDesignatedResolvers checks which encrypted transports clients discover, by the address that they ask and by the name that they ask for.
func TestDesignatedResolvers(t *testing.T) {
	const arpa, own = "_dns.resolver.arpa", "_dns.dns.example"
	only := func(addrs ...string) func(*Designated) {
		return func(d *Designated) {
			d.Endpoints = d.Endpoints[:1]
			d.Endpoints[0].Addrs = nil
			for _, a := range addrs {
				d.Endpoints[0].Addrs = append(d.Endpoints[0].Addrs, netip.MustParseAddr(a))
			}
		}
	}
	for _, tt := range []struct {
		name, at, ask string
		change        func(*Designated)
		want          string
	}{
		{"by IPv4 address", "192.0.2.53", arpa, nil, `1 dns.example. alpn="dot" ipv4hint="192.0.2.53"
2 dns.example. alpn="h2,h3" ipv4hint="192.0.2.53" dohpath="/dns-query{?dns}"
3 dns.example. alpn="doq" port="8853" ipv4hint="192.0.2.53"
+dns.example. 300 IN A 192.0.2.53`},
		{"by IPv6 address", "2001:db8::53", arpa, nil, `1 dns.example. alpn="dot" ipv6hint="2001:db8::53"
2 dns.example. alpn="h2,h3" ipv6hint="2001:db8::53" dohpath="/dns-query{?dns}"
3 dns.example. alpn="doq" port="8853" ipv6hint="2001:db8::53"
+dns.example. 300 IN AAAA 2001:db8::53`},
		{"an address that the certificate does not cover", "192.0.2.54", arpa, nil, ""},
		{"an unknown address", "", arpa, nil, ""},
		{"by name", "192.0.2.53", own, only("0.0.0.0", "::"), "1 dns.example. alpn=\"dot\" ipv4hint=\"192.0.2.53\"\n+dns.example. 300 IN A 192.0.2.53"},
		{"by name at another address", "192.0.2.54", own, only("0.0.0.0", "::"), `1 dns.example. alpn="dot"`},
		{"by name at an unknown address", "", own, only("192.0.2.99"), `1 dns.example. alpn="dot" ipv4hint="192.0.2.99"`},
		{"an endpoint at another address", "192.0.2.53", arpa, only("192.0.2.99", "2001:db8::99"), `1 dns.example. alpn="dot" ipv4hint="192.0.2.99" ipv6hint="2001:db8::99"`},
		{"an endpoint of the other family", "192.0.2.53", arpa, only("::"), `1 dns.example. alpn="dot"`},
		{"an endpoint on loopback", "192.0.2.53", arpa, only("127.0.0.1"), ""},
		{"without endpoints", "192.0.2.53", arpa, only(), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, nil)
			b.r.SetDesignated(designated(t, tt.change))
			a := b.askAt(tt.at, query(t, tt.ask, "SVCB", "+edns"))
			if got := services(a); got != tt.want {
				t.Errorf("the records are\n%s\nwant\n%s", got, tt.want)
			}
			if tt.want == "" && brief(a) != "NOERROR | resolver.arpa. SOA | opt" {
				t.Errorf("the answer is %s, want no data", brief(a))
			}
			if n := b.up.count(); n != 0 {
				t.Errorf("%d queries were forwarded", n)
			}
		})
	}
}

// TestOtherNamesAreUnchangedByDiscovery checks that only the two names of discovery, and only their SVCB records, are answered from the table.
func TestOtherNamesAreUnchangedByDiscovery(t *testing.T) {
	home := &fakeUpstreams{answer: records("@ 60 IN A 192.168.1.9")}
	for _, tt := range []struct {
		name, typ string
		options   []string
		want      string
	}{
		{"_dns.resolver.arpa", "HTTPS", nil, "NOERROR | resolver.arpa. SOA"},
		{"_dns.resolver.arpa", "A", nil, "NOERROR | resolver.arpa. SOA"},
		{"resolver.arpa", "SVCB", nil, "NOERROR | resolver.arpa. SOA"},
		{"x._dns.resolver.arpa", "SVCB", nil, "NOERROR | resolver.arpa. SOA"},
		{"dns.example", "A", nil, "NOERROR | dns.example. 300 IN A 192.0.2.1"},
		{"_dns.dns.example", "A", nil, "NOERROR | _dns.dns.example. 300 IN A 192.0.2.1"},
	} {
		b := newBench(t, nil)
		b.r.SetDesignated(designated(t, nil))
		if got := brief(b.askAt("192.0.2.53", query(t, tt.name, tt.typ, tt.options...))); got != tt.want {
			t.Errorf("%s %s: got %s, want %s", tt.name, tt.typ, got, tt.want)
		}
	}
	b := newBench(t, func(c *Config) { c.Forward = []Zone{{dnstest.WireName(t, "resolver.arpa"), home}} })
	b.r.SetDesignated(designated(t, nil))
	if b.askAt("192.0.2.53", query(t, "_dns.resolver.arpa", "SVCB")); home.count() != 1 {
		t.Error("a configured zone that contains the name was not asked")
	}
	b = newBench(t, nil)
	b.r.SetDesignated(designated(t, nil))
	b.r.SetDesignated(nil)
	if got := brief(b.askAt("192.0.2.53", query(t, "_dns.resolver.arpa", "SVCB"))); got != "NOERROR | resolver.arpa. SOA" {
		t.Errorf("after the table was removed: %s", got)
	}
}

// TestDiscoveryNeedsNoRecursion asks without RD, so that the query cannot be forwarded.
func TestDiscoveryNeedsNoRecursion(t *testing.T) {
	b := newBench(t, nil, "dns.example")
	b.r.SetDesignated(designated(t, nil))
	for _, name := range []string{"_dns.resolver.arpa", "_dns.dns.example"} { // a block of the own name hides nothing about this resolver
		if a := b.askAt("192.0.2.53", query(t, name, "SVCB", "-rd")); len(a.Answer) != 3 {
			t.Errorf("%s: %s, want three records", name, brief(a))
		}
	}
}

// TestAddressesAreLeftOutBeforeServices asks with the smallest size of an answer and own names of every length: first the address record is left out, then the
// answer is truncated.
func TestAddressesAreLeftOutBeforeServices(t *testing.T) {
	b := newBench(t, nil)
	last, seen := 0, map[int]bool{}
	for n := 4; n < 180; n++ {
		long := strings.Repeat("a.", n/2) + "example"
		b.r.SetDesignated(designated(t, func(d *Designated) { d.Name = dnstest.WireName(t, long) }))
		a := b.askAt("192.0.2.53", query(t, "_dns.resolver.arpa", "SVCB"))
		step := 0 // all records
		switch {
		case a.Truncated && len(a.Answer)+len(a.Extra) == 0:
			step = 2
		case len(a.Answer) == 3 && len(a.Extra) == 0:
			step = 1
		case len(a.Answer) != 3:
			t.Fatalf("a name of %d bytes: %s", len(long), brief(a))
		}
		if step < last {
			t.Fatalf("a name of %d bytes gets more records than a shorter one", len(long))
		}
		last, seen[step] = step, true
	}
	if len(seen) != 3 {
		t.Errorf("the steps %v were seen, want all three", seen)
	}
}
