package resolver

import (
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestStaleAnswerIsSharedAcrossFlags checks that, while no upstream answers, clients get stale answers that were cached for other flags (RFC 8767 section 5).
// An answer that was fetched with CD may be bogus.
func TestStaleAnswerIsSharedAcrossFlags(t *testing.T) {
	const a, sig = "@ 60 IN A 192.0.2.1", "@ 60 IN RRSIG A 13 2 60 20300101000000 20200101000000 1 example.com. AAAA"
	const plain = "NOERROR | example.com. 30 IN A 192.0.2.1"
	for _, tt := range []struct {
		name, cached, asked string
		answer              []string
		want                string
	}{
		{"query without DO, cached with DO", "+do", "+edns", []string{a, sig}, plain + " | opt | Stale Answer"},
		{"query with DO, cached without DO", "+edns", "+do", []string{a}, plain + " | opt | Stale Answer"},
		{"query with CD, cached without CD", "+edns", "+cd", []string{a}, plain},
		{"query with CD, cached with DO", "+do", "+cd", []string{a, sig}, plain},
		{"query without CD, cached with CD", "+cd", "+edns", []string{a}, "SERVFAIL | opt | No Reachable Authority"},
	} {
		within(t, nil, nil, func(t *testing.T, b *bench) {
			b.up.set(records(tt.answer...))
			b.ask(query(t, "example.com", "A", tt.cached))
			time.Sleep(61 * time.Second)
			b.up.set(failing(errDown))
			for range 3 { // the second is answered from the cache
				b.want(tt.name, query(t, "example.com", "A", tt.asked), tt.want)
			}
			if n := b.up.count(); n != 2 {
				t.Errorf("%s: the upstream was asked %d times after the outage began, want once", tt.name, n-1)
			}
		})
	}
}

// TestNXDOMAINIsSharedByAllTypes checks that the upstream is asked once about a name that does not exist, for all types together (RFC 2308 section 5).
func TestNXDOMAINIsSharedByAllTypes(t *testing.T) {
	const soa = "example.com. 3600 IN SOA ns.example.com. host.example.com. 1 2 3 4 60"
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(rcode(dns.RcodeNameError, soa))
		for _, typ := range []string{"A", "AAAA", "HTTPS", "MX", "AAAA"} {
			if m, _ := b.ask(query(t, "no.example.com", typ)); m.Rcode != dns.RcodeNameError || len(m.Ns) != 1 {
				t.Errorf("no.example.com %s: %v, want NXDOMAIN with one SOA", typ, m)
			}
		}
		b.ask(query(t, "no.example.com", "A", "+do")) // no other answer contains the proof
		if n := b.up.count(); n != 2 {
			t.Errorf("the upstream was asked %d times, want 2", n)
		}
		time.Sleep(61 * time.Second)
		b.ask(query(t, "no.example.com", "MX"))
		if n := b.up.count(); n != 3 {
			t.Errorf("the name was denied for longer than its SOA says")
		}
	})
	within(t, nil, nil, func(t *testing.T, b *bench) {
		b.up.set(rcode(dns.RcodeNameError, "no.example.com. 60 IN CNAME gone.example.net.", "example.net. 3600 IN SOA ns.example.net. host.example.net. 1 2 3 4 60"))
		b.ask(query(t, "no.example.com", "A"))
		b.ask(query(t, "no.example.com", "AAAA"))
		if n := b.up.count(); n != 2 {
			t.Errorf("the upstream was asked %d times, want 2: the name exists, only the target of its alias does not", n)
		}
	})
}
