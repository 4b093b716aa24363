package resolver

import (
	"fmt"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"rempart/internal/wire"
)

// TestResolverInfo checks by which names clients get information about this resolver, and that the answer says that it was not forwarded.
func TestResolverInfo(t *testing.T) {
	const page = "https://isp.example/filter"
	for _, tt := range []struct{ name, contact, want string }{
		{"resolver.arpa", "mailto:abuse@isp.example", `"exterr=1-12,15-20,22-24"`},
		{"dns.example", page, `"exterr=1-12,15-20,22-24" "infourl=` + page + `"`},
		{"DNS.example", "", `"exterr=1-12,15-20,22-24"`},
		{"resolver.arpa", "https://isp.example/" + strings.Repeat("a", 250), `"exterr=1-12,15-20,22-24"`},
	} {
		b := newBench(t, func(c *Config) { c.Contact = tt.contact })
		b.r.SetDesignated(designated(t, nil))
		for _, options := range [][]string{{"-rd"}, {"+edns"}} {
			a := b.askAt("", query(t, tt.name, "RESINFO", options...))
			if got := services(a); got != tt.want || !a.Authoritative || b.up.count() != 0 {
				t.Errorf("%s %v: %s, authoritative %v, %d questions forwarded; want %s", tt.name, options, got, a.Authoritative, b.up.count(), tt.want)
			}
		}
	}
	b := newBench(t, nil)
	if got := brief(b.askAt("", query(t, "resolver.arpa", "RESINFO"))); got != "NOERROR | resolver.arpa. SOA" {
		t.Errorf("without encrypted transports: %s, want no data", got)
	}
	b.r.SetDesignated(designated(t, nil))
	for _, name := range []string{"_dns.resolver.arpa", "x.dns.example"} {
		if a := b.askAt("", query(t, name, "RESINFO")); a.Authoritative {
			t.Errorf("%s has information about the resolver: %s", name, brief(a))
		}
	}
}

// TestReportedErrorsAreComplete checks that the announced codes are those that the resolver uses.
func TestReportedErrorsAreComplete(t *testing.T) {
	announced := map[uint16]bool{}
	for _, part := range strings.Split(reportedErrors, ",") {
		var first, last uint16
		if n, _ := fmt.Sscanf(part, "%d-%d", &first, &last); n != 2 {
			t.Fatalf("%q is no range", part)
		}
		for code := first; code <= last; code++ {
			announced[code] = true
		}
	}
	used := map[uint16]bool{wire.EDEBlocked + 1: true} // Censored
	for _, code := range []uint16{
		wire.EDEStale, wire.EDEForged, wire.EDEBlocked, wire.EDEFiltered, wire.EDEProhibited, wire.EDEStaleNXDomain, wire.EDENotAuthority, wire.EDENoReachable,
		wire.EDENetworkError, wire.EDEInvalidData,
	} {
		used[code] = true
	}
	for code := range uint16(64) {
		if want := used[code] || (wire.EDE{Code: code}).DNSSEC(); announced[code] != want {
			t.Errorf("code %d (%s): announced %v, used %v", code, dns.ExtendedErrorCodeToString[code], announced[code], want)
		}
	}
}
