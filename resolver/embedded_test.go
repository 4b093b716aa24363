package resolver

import (
	"fmt"
	"net/netip"
	"testing"
)

// TestEmbeddedAddressesAreJudged checks that an answer is blocked if an IPv6 address in it contains a listed IPv4 address.
func TestEmbeddedAddressesAreJudged(t *testing.T) {
	b := newBench(t, func(c *Config) {
		c.NAT64 = []netip.Prefix{netip.MustParsePrefix("2001:db8:64::/96"), netip.MustParsePrefix("2001:db8:48::/48"), netip.MustParsePrefix("2a00::/32")}
	}, "198.51.100.7/32")
	i := 0
	for addr, blocked := range map[string]bool{
		"64:ff9b::c633:6407": true, "64:ff9b::c633:6408": false,
		"2002:c633:6407::1": true, "::ffff:198.51.100.7": true, "::c633:6407": true,
		"2001:db8:64::c633:6407": true, "2001:db8:48:c633:64:700::": true, "2a00:0:c633:6407::": true,
		"2001:db8:65::c633:6407": false, "2001:db8::1": false,
	} {
		i++
		b.up.set(records("@ 300 IN AAAA " + addr))
		name := fmt.Sprintf("x%d.example", i)
		want := "NOERROR | " + name + ". 30 IN AAAA 2001:db8::66"
		a, _ := b.ask(query(t, name, "AAAA"))
		if got := brief(a); (got == want) != blocked {
			t.Errorf("%s: unexpected answer %s", addr, got)
		}
	}
}

func TestNAT64PrefixesAreChecked(t *testing.T) {
	for _, text := range []string{"192.0.2.0/24", "2001:db8::/95", "::ffff:192.0.2.0/120"} {
		if _, err := newEmbeddings([]netip.Prefix{netip.MustParsePrefix(text)}); err == nil {
			t.Errorf("the prefix %s was accepted, want an error", text)
		}
	}
}
