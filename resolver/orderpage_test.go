package resolver

import (
	"net/netip"
	"testing"

	"rempart/blocklist"
	"rempart/internal/dnstest"
	"rempart/internal/wire"
)

// TestOrderHasPageOfItsAuthority checks the addresses in the answers to orders, with and without an ID, and that these answers allocate no memory.
func TestOrderHasPageOfItsAuthority(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.OrderPages = func(decision string) (ipv4, ipv6 netip.Addr) {
			if decision == "arcom-1" {
				ipv4 = netip.MustParseAddr("192.0.2.77")
			}
			return ipv4, ipv6
		}
	})
	order := func(name, id string) blocklist.Listing {
		return blocklist.Listing{Name: dnstest.WireName(t, name), Scope: blocklist.Subtree, Category: blocklist.Malicious, Mark: blocklist.Censored, ID: id}
	}
	if err := b.set.Replace(listingsView(t, 2, order("ordered.example", "arcom-1"), order("without.example", ""))); err != nil {
		t.Fatal(err)
	}
	const errors = " | opt | Censored | Forged Answer"
	for _, tt := range []struct{ name, typ, want string }{
		{"ordered.example", "A", "NOERROR | ordered.example. 30 IN A 192.0.2.77" + errors},
		{"ordered.example", "AAAA", "NOERROR | ordered.example. SOA" + errors}, // the authority prescribes no IPv6 address
		{"without.example", "A", "NOERROR | without.example. 30 IN A 192.0.2.66" + errors},
		{"without.example", "AAAA", "NOERROR | without.example. 30 IN AAAA 2001:db8::66" + errors},
	} {
		m := query(t, tt.name, tt.typ, "+edns")
		b.want(tt.name+" "+tt.typ, m, tt.want)
		if raceEnabled { // the race detector allocates
			continue
		}
		batch := fastBatch(t, m)
		if n := testing.AllocsPerRun(100, func() { b.w.Fast(batch) }); n != 0 || batch[0].Outcome != wire.Answered {
			t.Errorf("%s %s: %v allocations and the outcome %d, want none and an answer", tt.name, tt.typ, n, batch[0].Outcome)
		}
	}
}
